"""PixArt-Sigma (arXiv 2403.04692): its transformer as a network of eps; T5 reads prompts.

Prompts are read in small letters, as it was trained; rows behind a prompt's end are masked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.denoiser import Cond, Traits
from sfumato.core.errors import SfumatoError
from sfumato.models.card import Defaults
from sfumato.models.encoders import LOCK
from sfumato.models.files import transformers
from sfumato.models.files.spans import Spans
from sfumato.models.guest import Guest
from sfumato.models.loaders.pipeline_parts import PipelineParts
from sfumato.models.loaders.tabled import Tabled
from sfumato.models.t5 import T5

CLASS = "PixArtTransformer2DModel"
ROWS = 300


@dataclass(frozen=True, eq=False)
class Network(Guest):
    """PixArtTransformer2DModel. Conditions: "context" (B, L, D), "mask" (B, L): rows of words."""

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
        output: Tensor = self.net(
            x.to(self.dtype),
            encoder_hidden_states=cond["context"].to(self.dtype),
            encoder_attention_mask=cond["mask"].to(self.dtype),
            timestep=time,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        ).sample
        return output


@dataclass(frozen=True, eq=False)
class Prompts:
    """T5 reads all of a prompt, in small letters."""

    t5: T5

    def __call__(self, texts: Sequence[str], beside: Sequence[str] = ()) -> Cond:
        small = [text.lower() for text in texts]
        with LOCK:
            rows = self.t5.rows_of((*small, *(text.lower() for text in beside)))
            context = torch.stack([self.t5.encode(text, rows) for text in small])
            words = torch.tensor([len(self.t5.tokens(text)) + 1 for text in small])
        mask = torch.arange(rows) < words[:, None]
        return Cond({"context": context, "mask": mask.to(context.device)})

    def spans(self, text: str, beside: Sequence[str] = ()) -> Spans:
        """Which characters stand behind each row."""
        texts = [one.lower() for one in (text, *beside)]
        return self.t5.spans(texts[0], self.t5.rows_of(texts))


def load(parts: PipelineParts) -> Tabled:
    """The parts of a pipeline's folder."""
    config = parts.sizes(transformers.PixArt)
    if config.reads_sizes:
        raise SfumatoError(
            f"{parts.folder}: use_additional_conditions: PixArt-Alpha's networks that read sizes "
            "are not supported, PixArt-Sigma is"
        )
    net = parts.transformer()
    t5 = parts.t5("text_encoder", ROWS, masked=True)
    return Tabled(
        Network(net, Traits()),
        Prompts(t5),
        title="PixArt-Sigma",
        outputs=config.out_channels or config.in_channels,
        cells=config.sample_size,
        patch=config.patch_size,
        defaults=Defaults(20, "dpmpp-2m", methods=({"method": "cfg", "scale": 4.5},)),
    )
