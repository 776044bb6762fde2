"""Flux.2 Klein: its transformer as a network; three layers of Qwen3 read the prompts.

A state is the autoencoder's latents of 2x2 cells, so that a cell of it is a token. The rows of a
prompt are always as many, and the network attends to those behind its end too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.denoiser import Traits
from sfumato.core.errors import SfumatoError
from sfumato.models.card import Defaults
from sfumato.models.files import configs, transformers
from sfumato.models.files.flow_schedulers import FlowScheduler
from sfumato.models.guest import Guest
from sfumato.models.llm import LayeredPrompts
from sfumato.models.loaders.flow_parts import Flow, packed, renamed, unpacked
from sfumato.models.loaders.pipeline_parts import PipelineParts

BEFORE = "<|im_start|>user\n"
AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
LAYERS, ROWS = (9, 18, 27), 512
CLASSES = ("Flux2KleinPipeline", "Flux2KleinInpaintPipeline")
PLANE = 10  # of the first reference's tokens; of the next as many more


@dataclass(frozen=True, eq=False)
class Network(Guest):
    """Flux2Transformer2DModel. Conditions: "context" (B, L, D), maybe "reference" (B, C, H, W), and
    others whose names begin so, in their order."""

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
        context = cond["context"].to(self.dtype)
        height, width = x.shape[-2:]
        tokens, at = packed(x, 1), positions(height, width)
        for k, name in enumerate(sorted(name for name in cond if name.startswith("reference"))):
            picture = cond[name].to(x)
            tokens = torch.cat([tokens, packed(picture, 1)], dim=1)
            rows, columns = picture.shape[-2:]
            at = torch.cat([at, positions(rows, columns, plane=PLANE * (k + 1))])
        words = torch.zeros(context.shape[1], 4)
        words[:, 3] = torch.arange(len(words))
        output: Tensor = self.net(
            hidden_states=tokens.to(self.dtype),
            timestep=time.to(self.dtype),
            guidance=None,
            encoder_hidden_states=context,
            txt_ids=words.to(x.device),
            img_ids=at.to(x.device),
        ).sample
        return unpacked(output[:, : height * width], height, width, 1)

    def lora_names(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Files of kohya's scripts and of other trainers have names of their own."""
        if any(".lora_down.weight" in name for name in tensors):
            return renamed("_convert_kohya_flux2_lora_to_diffusers", tensors)
        begins = ("base_model.model.", "diffusion_model.")
        if any(name.startswith(begins) for name in tensors):
            full = {k.replace(begins[0], begins[1]): value for k, value in tensors.items()}
            return renamed("_convert_non_diffusers_flux2_lora_to_diffusers", full)
        return tensors


def positions(height: int, width: int, plane: int = 0) -> Tensor:
    """(height width, 4): plane, row, column and 0 of each token."""
    axes = (torch.tensor([plane]), torch.arange(height), torch.arange(width), torch.arange(1))
    return torch.cartesian_prod(*axes)


def load(parts: PipelineParts, scheduler: FlowScheduler) -> Flow:
    """The parts of a pipeline's folder."""
    config = parts.sizes(transformers.Flux2)
    if config.guidance_embeds or parts.classes["_class_name"] not in CLASSES:
        raise SfumatoError(
            f"{parts.folder}: Flux.2's large networks, and those that keep a reference's keys, "
            "are not supported; Flux.2 Klein is"
        )
    if config.in_channels != parts.space.channels:
        raise SfumatoError(
            f"{parts.folder}: the transformer reads {config.in_channels} channels, the vae has "
            f"{parts.space.channels}"
        )
    net = parts.transformer()
    tokenizer, encoder = parts.qwen3()
    if encoder.config.num_hidden_layers < max(LAYERS):
        raise SfumatoError(
            f"{parts.folder}: its text encoder has {encoder.config.num_hidden_layers} layers, "
            f"Flux.2 Klein reads layer {max(LAYERS)}"
        )
    distilled = configs.flag(parts.folder / "model_index.json", "is_distilled")
    guidance = () if distilled else ({"method": "cfg", "scale": 4.0},)
    return Flow(
        Network(net, Traits(reference=True)),
        LayeredPrompts(tokenizer, encoder, BEFORE, AFTER, most=ROWS, layers=LAYERS),
        title=f"Flux.2 Klein{'' if distilled else ' base'}",
        patch=1,
        ramp="measured",
        cells=64,
        most_cells=256,
        defaults=Defaults(4 if distilled else 50, "ddim", "shifted", guidance),
        code=lambda t: t,
    )
