"""Z-Image and its turbo: its transformer as a network; Qwen3 reads the prompts.

The network's times run from noise to data, and so does its velocity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.denoiser import Traits
from sfumato.core.errors import SfumatoError
from sfumato.models.card import Defaults
from sfumato.models.files import transformers
from sfumato.models.files.flow_schedulers import FlowScheduler
from sfumato.models.guest import Guest
from sfumato.models.llm import ChatPrompts
from sfumato.models.loaders.flow_parts import Flow, are_renamed, renamed
from sfumato.models.loaders.pipeline_parts import PipelineParts

PATCH = 2
BEFORE, AFTER = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
TURBO_SHIFT = 3.0  # of the scheduler that the turbo comes with; the other's is 6


@dataclass(frozen=True, eq=False)
class Network(Guest):
    """ZImageTransformer2DModel. Conditions: "context" (B, L, D), "mask" (B, L): rows that are
    words."""

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
        context = cond["context"].to(self.dtype)
        outputs: list[Tensor] = self.net(
            list(x.to(self.dtype)[:, :, None]),
            1 - time,
            [rows[mask] for rows, mask in zip(context, cond["mask"], strict=True)],
            return_dict=False,
        )[0]
        return -torch.stack(list(outputs))[:, :, 0]

    def lora_names(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Files of other programs have names of their own."""
        if are_renamed(tensors):
            return renamed("_convert_non_diffusers_z_image_lora_to_diffusers", tensors)
        return tensors


def load(parts: PipelineParts, scheduler: FlowScheduler) -> Flow:
    """The parts of a pipeline's folder."""
    config = parts.sizes(transformers.ZImage)
    if config.siglip_feat_dim is not None:
        raise SfumatoError(
            f"{parts.folder}: siglip_feat_dim: Z-Image's omni networks read pictures, and are not "
            "supported; Z-Image and its turbo are"
        )
    net = parts.transformer()
    tokenizer, encoder = parts.qwen3()
    turbo = scheduler.shift == TURBO_SHIFT
    guidance = () if turbo else ({"method": "cfg", "scale": 5.0},)
    return Flow(
        Network(net, Traits()),
        ChatPrompts(tokenizer, encoder, BEFORE, AFTER, layer=-2),
        title="Z-Image turbo" if turbo else "Z-Image",
        patch=PATCH,
        ramp="even",
        cells=128,
        most_cells=PATCH * min(config.axes_lens[1:]),
        defaults=Defaults(9 if turbo else 50, "ddim", "shifted", guidance),
        code=lambda t: t,
    )
