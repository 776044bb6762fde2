"""Qwen-Image (arXiv 2508.02324): its transformer as a network; Qwen2.5-VL reads the prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sfumato.core.denoiser import Traits
from sfumato.core.errors import SfumatoError
from sfumato.models.card import Defaults
from sfumato.models.files import transformers
from sfumato.models.files.flow_schedulers import FlowScheduler
from sfumato.models.guest import Guest
from sfumato.models.llm import ChatPrompts
from sfumato.models.loaders.flow_parts import Flow, are_renamed, packed, renamed, unpacked
from sfumato.models.loaders.pipeline_parts import PipelineParts

PATCH = 2
BEFORE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n"
)
"""The words that the network was trained behind."""
AFTER = "<|im_end|>\n<|im_start|>assistant\n"
DROPPED, MOST = 34, 1024


@dataclass(frozen=True, eq=False)
class Network(Guest):
    """QwenImageTransformer2DModel. Conditions: "context" (B, L, D), "mask" (B, L): rows that are
    words. It reads tokens of 2x2 cells, and t itself."""

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
        height, width = (side // PATCH for side in x.shape[-2:])
        mask = cond["mask"]
        output: Tensor = self.net(
            hidden_states=packed(x, PATCH).to(self.dtype),
            timestep=time.to(self.dtype),
            encoder_hidden_states=cond["context"].to(self.dtype),
            encoder_hidden_states_mask=None if mask.all() else mask,
            img_shapes=[[(1, height, width)]] * len(x),
        ).sample
        return unpacked(output, height, width, PATCH)

    def lora_names(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Files of other programs have names of their own."""
        if are_renamed(tensors):
            return renamed("_convert_non_diffusers_qwen_lora_to_diffusers", tensors)
        return tensors


def load(parts: PipelineParts, scheduler: FlowScheduler) -> Flow:
    """The parts of a pipeline's folder."""
    config = parts.sizes(transformers.QwenImage)
    if config.guidance_embeds:
        raise SfumatoError(
            f"{parts.folder}: guidance_embeds: Qwen-Image's distilled networks are not supported, "
            "Qwen-Image is"
        )
    if config.zero_cond_t or config.use_additional_t_cond or config.use_layer3d_rope:
        raise SfumatoError(
            f"{parts.folder}: Qwen-Image's edit and layered networks read pictures, and are not "
            "supported; Qwen-Image is"
        )
    net = parts.transformer()
    tokenizer, encoder = parts.qwen2()
    return Flow(
        Network(net, Traits()),
        ChatPrompts(tokenizer, encoder, BEFORE, AFTER, dropped=DROPPED, most=MOST),
        title="Qwen-Image",
        patch=PATCH,
        ramp="even",
        cells=166,
        most_cells=416,
        defaults=Defaults(50, "ddim", "shifted", ({"method": "cfg", "scale": 4.0},)),
        code=lambda t: t,
    )
