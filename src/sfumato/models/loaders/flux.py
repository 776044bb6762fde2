"""Flux.1, dev, schnell, Fill and Kontext: its transformer as a network, and its prompts.

CLIP gives the pooled vector alone, T5 the rows. All but schnell were distilled from a guided
model, and read how strongly it was guided as a number ("guidance").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.denoiser import Cond, Traits
from sfumato.core.errors import SfumatoError
from sfumato.core.spaces import Space
from sfumato.models.card import Defaults
from sfumato.models.encoders import LOCK, Encoder
from sfumato.models.files import transformers
from sfumato.models.files.flow_schedulers import FlowScheduler
from sfumato.models.files.spans import Spans
from sfumato.models.guest import Guest
from sfumato.models.latents import canvas
from sfumato.models.loaders.flow_parts import Flow, packed, renamed, unpacked
from sfumato.models.loaders.pipeline_parts import PipelineParts
from sfumato.models.t5 import T5

ROWS = 512
"""T5's, as the pipeline of diffusers asks for."""
PATCH = 2
CELLS = 128  # a side of the native picture; the network's positions have no end
MOST_CELLS = 256
SCALES = {"Fill": 30.0, "Kontext": 2.5}  # of guidance; the others take 3.5


@dataclass(frozen=True, eq=False)
class Network(Guest):
    """FluxTransformer2DModel. Conditions: "context" (B, L, D), "pooled" (B, P), maybe "guidance"
    (B,), the scale that a distilled network is told, maybe "reference" (B, C, H, W), a picture.

    It reads tokens of 2x2 cells, and t itself. Fill reads beside them the known part of a picture
    and a mask of its pixels: "inpaint_pixels" (B, 1, h, w), without which all in a cell are alike;
    without a canvas grey.
    """

    space: Space | None = None
    blanks: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False)

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
        tokens = packed(x, PATCH)
        if self.space is not None:
            mask, known = canvas(x, cond, self.space, self.blanks)
            pixels = mask.expand(-1, self.space.stride**2, -1, -1)
            if "inpaint_pixels" in cond:
                pixels = F.pixel_unshuffle(cond["inpaint_pixels"].to(x), self.space.stride)
            parts = (known, pixels.expand(len(x), -1, -1, -1))
            tokens = torch.cat([tokens, *(packed(part, PATCH) for part in parts)], dim=-1)
        at = positions(height, width)
        if "reference" in cond:  # its tokens stand behind the state's, in a plane of their own
            picture = cond["reference"].to(x)
            tokens = torch.cat([tokens, packed(picture, PATCH)], dim=1)
            rows, columns = (side // PATCH for side in picture.shape[-2:])
            at = torch.cat([at, positions(rows, columns, plane=1)])
        output: Tensor = self.net(
            hidden_states=tokens.to(self.dtype),
            timestep=time.to(self.dtype),
            guidance=guidance,
            pooled_projections=cond["pooled"].to(self.dtype),
            encoder_hidden_states=context,
            txt_ids=context.new_zeros(context.shape[1], 3),
            img_ids=at.to(context),
        ).sample
        return unpacked(output[:, : height * width], height, width, PATCH)

    def lora_names(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Files of kohya's scripts, of XLabs and of fal have names of their own."""
        if any(".lora_down.weight" in name for name in tensors):
            return renamed("_convert_kohya_flux_lora_to_diffusers", tensors)
        if any(".processor." in name for name in tensors):
            return renamed("_convert_xlabs_flux_lora_to_diffusers", tensors)
        if any("base_model" in name for name in tensors):
            return renamed("_convert_fal_kontext_lora_to_diffusers", tensors)
        return tensors


def positions(height: int, width: int, plane: int = 0) -> Tensor:
    """(height width, 3): plane, row and column of each token."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.full_like(rows, plane), rows, columns], dim=-1).flatten(0, 1)


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


def load(parts: PipelineParts, scheduler: FlowScheduler) -> Flow:
    """The parts of a pipeline's folder."""
    config = parts.sizes(transformers.Flux)
    said = config.out_channels or config.in_channels
    fill = config.in_channels == 2 * said + (PATCH * parts.space.stride) ** 2
    if config.in_channels != said and not fill:
        raise SfumatoError(
            f"{parts.folder}: reads {config.in_channels} channels and says {said}; Flux's control "
            "networks are not supported, dev, schnell, Fill and Kontext are"
        )
    net = parts.transformer()
    distilled = config.guidance_embeds
    reads = parts.classes["_class_name"].startswith("FluxKontext")
    variant = "Fill" if fill else "Kontext" if reads else "dev" if distilled else "schnell"
    guidance: tuple[dict[str, Any], ...] = ()
    if distilled:
        guidance = ({"method": "distilled_guidance", "scale": SCALES.get(variant, 3.5)},)
    return Flow(
        Network(
            net,
            Traits(distilled=distilled, inpaint=fill, reference=reads),
            parts.space if fill else None,
        ),
        Prompts(parts.clip("text_encoder"), parts.t5("text_encoder_2", ROWS), distilled),
        title=f"Flux.1 {variant}",
        patch=PATCH,
        ramp="even",
        cells=CELLS,
        most_cells=MOST_CELLS,
        defaults=Defaults(50 if fill else 28 if distilled else 4, "ddim", "shifted", guidance),
        code=lambda t: t,
    )
