"""Kandinsky 2.2's decoder (arXiv 2310.03502): a UNet that reads what a picture shows, no text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.errors import SfumatoError
from sfumato.core.spaces import Space
from sfumato.models.files.configs import read_config
from sfumato.models.guest import Guest
from sfumato.models.latents import canvas

PART = "movq"
"""Its autoencoder, by which its pipelines are told."""
READS = {"encoder_hid_dim_type": "image_proj", "addition_embed_type": "image"}
"""What a network that reads a picture's vector says of itself."""


TUNED = 1
"""Channels of a mask that a network for inpainting reads, beside those of the known part."""


def check(path: Path, channels: int) -> bool:
    """Refuse a network that is no decoder of states of so many channels; whether it inpaints."""
    data = read_config(path)
    reads = {key: data.get(key) for key in READS}
    inputs, outputs = data.get("in_channels"), data.get("out_channels")
    known = (channels, 2 * channels + TUNED)
    if reads != READS or inputs not in known or outputs not in (channels, 2 * channels):
        raise SfumatoError(
            f"{path}: reads {inputs!r:.20} channels, {' and '.join(map(str, reads.values())):.80}, "
            f"and says {outputs!r:.20}; of Kandinsky 2.2 its decoder is supported, also that for "
            "inpainting, but not that for hints"
        )
    return bool(inputs != channels)


def grown(mask: Tensor) -> Tensor:
    """A mask (B, 1, H, W), 1 = may change, with the cells beside it, of corners two, as its
    training had it: an autoencoder's cells know what is beside them."""
    wide = F.pad(mask, (1, 1, 1, 1))
    near = ((0, 0), (0, -1), (-1, 0), (-1, -1), (0, 1), (1, 0), (1, 1))
    rows, columns = mask.shape[-2:]
    moved = [wide[..., 1 + dy : 1 + dy + rows, 1 + dx : 1 + dx + columns] for dy, dx in near]
    return torch.stack(moved).amax(0)


@dataclass(frozen=True, eq=False)
class Network(Guest):
    """A UNet2DConditionModel. Conditions: "shown" (B, W), a picture's vector; of one for inpainting
    the known part, which stands behind the state, and where it is.

    channels: of its output that are read; the others are of a variance that was not learned. space:
    of the grey picture that one for inpainting sees where nothing is known.
    """

    channels: int
    space: Space | None = None
    blanks: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False)

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
        if "shown" not in cond:
            raise SfumatoError(
                'condition: this network reads "shown", the vector of a picture; compose variation'
            )
        if self.space is not None:
            mask, known = canvas(x, cond, self.space, self.blanks)
            kept = (1 - grown(mask)).expand(len(x), -1, -1, -1)
            x = torch.cat([x, known * kept, kept], dim=1)
        output: Tensor = self.net(
            x.to(self.dtype),
            time,
            encoder_hidden_states=None,
            added_cond_kwargs={"image_embeds": cond["shown"].to(x.device, self.dtype)},
        ).sample
        return output[:, : self.channels]
