"""Kandinsky 2.2's decoder (arXiv 2310.03502): a UNet that reads what a picture shows, no text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.models.files.configs import read_config
from sfumato.models.guest import Guest

PART = "movq"
"""Its autoencoder, by which its pipelines are told."""
READS = {"encoder_hid_dim_type": "image_proj", "addition_embed_type": "image"}
"""What a network that reads a picture's vector says of itself."""


def check(path: Path, channels: int) -> None:
    """Refuse a network that is no plain decoder of states of so many channels."""
    data = read_config(path)
    reads = {key: data.get(key) for key in READS}
    inputs, outputs = data.get("in_channels"), data.get("out_channels")
    if reads != READS or inputs != channels or outputs not in (channels, 2 * channels):
        raise SfumatoError(
            f"{path}: reads {inputs!r:.20} channels, {' and '.join(map(str, reads.values())):.80}, "
            f"and says {outputs!r:.20}; of Kandinsky 2.2 its decoder is supported, those for "
            "inpainting and for hints are not"
        )


@dataclass(frozen=True, eq=False)
class Network(Guest):
    """A UNet2DConditionModel. Conditions: "shown" (B, W), a picture's vector.

    channels: of its output that are read; the others are of a variance that was not learned.
    """

    channels: int

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
        if "shown" not in cond:
            raise SfumatoError(
                'condition: this network reads "shown", the vector of a picture; compose variation'
            )
        output: Tensor = self.net(
            x.to(self.dtype),
            time,
            encoder_hidden_states=None,
            added_cond_kwargs={"image_embeds": cond["shown"].to(x.device, self.dtype)},
        ).sample
        return output[:, : self.channels]
