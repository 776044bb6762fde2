"""Sana (arXiv 2410.10629) and Sprint (2503.09641), distilled of it to few steps: a transformer as
a network; Gemma 2 reads the prompts.

Its autoencoder makes one cell of 32x32 pixels. Prompts stand behind an instruction that the network
was trained with; the empty one, and what guidance leads away from, stand alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.core.denoiser import Traits
from sfumato.core.errors import SfumatoError
from sfumato.models.card import Defaults
from sfumato.models.files import transformers
from sfumato.models.files.flow_schedulers import (
    CLASSES,
    MULTISTEP,
    TRIGONOMETRIC,
    FlowScheduler,
)
from sfumato.models.guest import Guest
from sfumato.models.llm import InstructedPrompts
from sfumato.models.loaders.flow_parts import Flow
from sfumato.models.loaders.pipeline_parts import PipelineParts

SCHEDULERS = (*CLASSES, MULTISTEP, TRIGONOMETRIC)
CONSISTENT: Mapping[str, Any] = {"solver": "lcm", "scaling": 1000.0}
"""Sprint's solver, which takes what the network says of the picture and nothing of the state."""
ROWS = 300
"""A prompt's at most."""
INSTRUCTION = """\
Given a user prompt, generate an 'Enhanced prompt' that provides detailed visual descriptions \
suitable for image generation. Evaluate the level of detail in the user prompt:
- If the prompt is simple, focus on adding specifics about colors, shapes, sizes, textures, and \
spatial relationships to create vivid and concrete scenes.
- If the prompt is already detailed, refine and enhance the existing details slightly without \
overcomplicating.
Here are examples of how to transform or refine prompts:
- User Prompt: A cat sleeping -> Enhanced: A small, fluffy white cat curled up in a round shape, \
sleeping peacefully on a warm sunny windowsill, surrounded by pots of blooming red flowers.
- User Prompt: A busy city street -> Enhanced: A bustling city street scene at dusk, featuring \
glowing street lamps, a diverse crowd of people in colorful clothing, and a double-decker bus \
passing by towering glass skyscrapers.
Please generate only the enhanced description for the prompt below and avoid including any \
additional commentary or evaluations:
User Prompt: """
"""What the network was trained behind, as its authors publish it."""


@dataclass(frozen=True, eq=False)
class Network(Guest):
    """SanaTransformer2DModel. Conditions: "context" (B, L, D), "mask" (B, L): rows of words; of
    Sprint "guidance" (B,), the scale that it was distilled at.

    What Sprint is given and says in angles is the flow's own state and velocity.
    """

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
        told: dict[str, Tensor] = {}  # which older versions of diffusers do not know
        if self.config.distilled:
            if "guidance" not in cond:
                raise SfumatoError(
                    'condition: this network reads "guidance", the scale it was distilled at; '
                    "compose distilled_guidance"
                )
            scale = float(self.net.config.guidance_embeds_scale)
            told["guidance"] = (scale * cond["guidance"].to(x.device)).to(self.dtype).expand(len(x))
        output: Tensor = self.net(
            x.to(self.dtype),
            encoder_hidden_states=cond["context"].to(self.dtype),
            encoder_attention_mask=cond["mask"].to(self.dtype),
            timestep=time,
            **told,
        ).sample
        return output


def load(parts: PipelineParts, scheduler: FlowScheduler) -> Flow:
    """The parts of a pipeline's folder."""
    config = parts.sizes(transformers.Sana)
    sprint = config.guidance_embeds
    if sprint != (scheduler.kind == TRIGONOMETRIC):
        raise SfumatoError(
            f"{parts.folder}: guidance_embeds {sprint} with {scheduler.kind}: networks of Sana "
            f"Sprint read a scale and come with {TRIGONOMETRIC}, Sana's do neither"
        )
    if config.out_channels not in (None, config.in_channels):
        raise SfumatoError(
            f"{parts.folder}: reads {config.in_channels} channels and says {config.out_channels}; "
            "networks that learn a variance are not supported"
        )
    net = parts.transformer()
    tokenizer, encoder = parts.gemma2()
    multistep, table = scheduler.kind == MULTISTEP, scheduler.num_train_timesteps

    def code(t: float) -> float:
        """Multistep schedulers keep whole indices beside their levels."""
        index = t * table
        if sprint:
            return t
        return (math.floor(index + 1e-6) if multistep else index) * config.timestep_scale

    return Flow(
        Network(net, Traits(distilled=sprint)),
        InstructedPrompts(tokenizer, encoder, INSTRUCTION, "", most=ROWS, distilled=sprint),
        title="Sana Sprint" if sprint else "Sana",
        patch=config.patch_size,
        ramp="angles" if sprint else "inner" if multistep else "table",
        cells=config.sample_size,
        most_cells=4 * config.sample_size,
        defaults=Defaults(
            2, CONSISTENT, "shifted", ({"method": "distilled_guidance", "scale": 4.5},)
        )
        if sprint
        else Defaults(
            20, "dpmpp-2m" if multistep else "ddim", "shifted", ({"method": "cfg", "scale": 4.5},)
        ),
        code=code,
    )
