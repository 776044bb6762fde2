"""Flux.1, dev and schnell: its transformer as a network, and its prompts.

CLIP gives the pooled vector alone, T5 the rows. dev was distilled from a guided model, and reads
how strongly it was guided as a number ("guidance").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.core.denoiser import Cond, Traits
from sfumato.core.errors import SfumatoError
from sfumato.models.card import Defaults
from sfumato.models.devices import Choice
from sfumato.models.encoders import LOCK, Encoder
from sfumato.models.files import pipeline, transformers
from sfumato.models.files.flow_schedulers import FlowScheduler
from sfumato.models.files.spans import Spans
from sfumato.models.loaders.flow_parts import (
    Flow,
    clip_encoder,
    packed,
    renamed,
    t5_encoder,
    unpacked,
)
from sfumato.models.t5 import T5

ROWS = 512
"""T5's, as the pipeline of diffusers asks for."""
PATCH = 2
CELLS = 128  # a side of the native picture; the network's positions have no end
MOST_CELLS = 256


@dataclass(frozen=True, eq=False)
class Network:
    """FluxTransformer2DModel. Conditions: "context" (B, L, D), "pooled" (B, P), maybe "guidance"
    (B,), the scale that a distilled network is told.

    It reads tokens of 2x2 cells, and t itself.
    """

    net: Any
    config: Traits

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.net.dtype
        return dtype

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
        guidance = None
        if self.config.distilled:
            if "guidance" not in cond:
                raise SfumatoError(
                    'condition: this network reads "guidance", the scale it was distilled at; '
                    "compose distilled_guidance"
                )
            guidance = cond["guidance"].to(x.device, torch.float32)
        context = cond["context"].to(self.dtype)
        height, width = (side // PATCH for side in x.shape[-2:])
        output: Tensor = self.net(
            hidden_states=packed(x, PATCH).to(self.dtype),
            timestep=time.to(self.dtype),
            guidance=guidance,
            pooled_projections=cond["pooled"].to(self.dtype),
            encoder_hidden_states=context,
            txt_ids=context.new_zeros(context.shape[1], 3),
            img_ids=places(height, width).to(context),
        ).sample
        return unpacked(output, height, width, PATCH)

    def lora_names(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Files of kohya's scripts, of XLabs and of fal have names of their own."""
        if any(".lora_down.weight" in name for name in tensors):
            return renamed("_convert_kohya_flux_lora_to_diffusers", tensors)
        if any(".processor." in name for name in tensors):
            return renamed("_convert_xlabs_flux_lora_to_diffusers", tensors)
        if any("base_model" in name for name in tensors):
            return renamed("_convert_fal_kontext_lora_to_diffusers", tensors)
        return tensors


def places(height: int, width: int) -> Tensor:
    """(height width, 3): 0, row and column of each token."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).flatten(0, 1)


@dataclass(frozen=True, eq=False)
class Prompts:
    """CLIP reads the first context of a prompt, T5 all of it.

    distilled: the network also reads a scale, here that of no guidance.
    """

    clip: Encoder
    t5: T5
    distilled: bool

    def __call__(self, texts: Sequence[str], beside: Sequence[str] = ()) -> Cond:
        with LOCK:
            rows = self.t5.rows_of((*texts, *beside))
            context = torch.stack([self.t5.encode(text, rows) for text in texts])
            pooled = torch.stack([self.clip.pooled(text) for text in texts])
        told = {"guidance": torch.ones(len(texts))} if self.distilled else {}
        return Cond({"context": context, "pooled": pooled, **told})

    def spans(self, text: str, beside: Sequence[str] = ()) -> Spans:
        """Which characters stand behind each of T5's rows."""
        return self.t5.spans(text, self.t5.rows_of((text, *beside)))


def load(
    folder: Path, classes: Mapping[str, str], choice: Choice, digest: Any, scheduler: FlowScheduler
) -> Flow:
    """The parts of a pipeline's folder."""
    config = transformers.transformer(transformers.Flux, folder / "transformer" / "config.json")
    if config.out_channels not in (None, config.in_channels):
        raise SfumatoError(
            f"{folder}: reads {config.in_channels} channels and says {config.out_channels}; Flux's "
            "fill and control networks are not supported, dev and schnell are"
        )
    net = pipeline.transformer(folder / "transformer", classes["transformer"], choice, digest)
    distilled = config.guidance_embeds
    guidance: tuple[dict[str, Any], ...] = ()
    if distilled:
        guidance = ({"method": "distilled_guidance", "scale": 3.5},)
    return Flow(
        Network(net, Traits(distilled=distilled)),
        Prompts(
            clip_encoder(folder, "text_encoder", classes, choice, digest),
            t5_encoder(folder, "text_encoder_2", classes, choice, digest, ROWS),
            distilled,
        ),
        title=f"Flux.1 {'dev' if distilled else 'schnell'}",
        patch=PATCH,
        ramp="even",
        cells=CELLS,
        most_cells=MOST_CELLS,
        defaults=Defaults(28 if distilled else 4, "ddim", "shifted", guidance),
        code=lambda t: t,
    )
