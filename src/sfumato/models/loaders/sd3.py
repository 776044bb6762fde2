"""Stable Diffusion 3 and 3.5 (arXiv 2403.03206): its transformer as a network, and its prompts.

Two CLIPs side by side give the first rows of a context and the pooled vector, T5 the rows behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.denoiser import Cond, Traits
from sfumato.models.card import Defaults
from sfumato.models.encoders import LOCK, Encoder
from sfumato.models.files import transformers
from sfumato.models.files.flow_schedulers import FlowScheduler
from sfumato.models.files.spans import Spans
from sfumato.models.guest import Guest
from sfumato.models.loaders.flow_parts import Flow
from sfumato.models.loaders.pipeline_parts import PipelineParts
from sfumato.models.t5 import T5

ROWS = 256
"""T5's, as the pipeline of diffusers asks for."""


@dataclass(frozen=True, eq=False)
class Network(Guest):
    """SD3Transformer2DModel. Conditions: "context" (B, L, D) and "pooled" (B, P)."""

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
        output: Tensor = self.net(
            hidden_states=x.to(self.dtype),
            timestep=time,
            encoder_hidden_states=cond["context"].to(self.dtype),
            pooled_projections=cond["pooled"].to(self.dtype),
        ).sample
        return output


@dataclass(frozen=True, eq=False)
class Prompts:
    """Two CLIPs, of which each reads the first context of a prompt, and T5, which reads all of it.

    t5: None where the folder has none; its rows are then zeros. width: D of a context.
    """

    clips: tuple[Encoder, Encoder]
    t5: T5 | None
    width: int

    def __call__(self, texts: Sequence[str], beside: Sequence[str] = ()) -> Cond:
        with LOCK:
            pairs = [self._row(text, self._t5_rows((*texts, *beside))) for text in texts]
        context, pooled = zip(*pairs, strict=True)
        return Cond({"context": torch.stack(context), "pooled": torch.stack(pooled)})

    def spans(self, text: str, beside: Sequence[str] = ()) -> Spans:
        """Which characters stand behind each row: of CLIP's, then of T5's."""
        rows = self._t5_rows((text, *beside))
        behind = (None,) * rows if self.t5 is None else self.t5.spans(text, rows)
        return (*self.clips[0].spans(text, 1), *behind)

    def _t5_rows(self, texts: Sequence[str]) -> int:
        return ROWS if self.t5 is None else self.t5.rows_of(texts)

    def _row(self, text: str, rows: int) -> tuple[Tensor, Tensor]:
        firsts = [clip.first(text) for clip in self.clips]
        narrow = torch.cat([hidden for hidden, _ in firsts], dim=-1)
        wide = F.pad(narrow, (0, self.width - narrow.shape[-1]))
        behind = wide.new_zeros(rows, self.width) if self.t5 is None else self.t5.encode(text, rows)
        pooled = [vector for _, vector in firsts if vector is not None]
        return torch.cat([wide, behind]), torch.cat(pooled)


def load(parts: PipelineParts, scheduler: FlowScheduler) -> Flow:
    """The parts of a pipeline's folder."""
    config = parts.sizes(transformers.SD3)
    net = parts.transformer()
    clips = parts.clip("text_encoder"), parts.clip("text_encoder_2")
    t5 = parts.t5("text_encoder_3", ROWS) if "text_encoder_3" in parts.classes else None
    later = config.qk_norm is not None
    guidance = {"method": "cfg", "scale": 4.5 if later else 7.0}
    return Flow(
        Network(net, Traits()),
        Prompts(clips, t5, config.joint_attention_dim),
        title=f"Stable Diffusion {'3.5' if later else '3'}",
        patch=config.patch_size,
        ramp="table",
        cells=config.sample_size,
        most_cells=config.pos_embed_max_size * config.patch_size,
        defaults=Defaults(28, "ddim", "shifted", (guidance,)),
        code=lambda t: t * scheduler.num_train_timesteps,
    )
