"""Words whose vectors were learned, put into the text encoders of a latent model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.models.encoders import Encoder, Encoders
from sfumato.models.latents import Conditional, cross_attentions

if TYPE_CHECKING:
    from sfumato.models.model import Model

log = logging.getLogger("sfumato")


def with_words(
    model: Model, file: Path, words: Mapping[str, tuple[Tensor, ...]], scale: float
) -> Model:
    """Words whose vectors were learned (textual inversion, arXiv 2208.01618), also for each
    cross-attention layer apart (P+, arXiv 2303.09522)."""
    text = model.text
    if not isinstance(text, Encoders):
        raise SfumatoError(f"adapter {file.name}: model {model.name} reads no text")
    if scale != 1:
        raise SfumatoError(f"adapter {file.name}: a learned word has no strength; leave it out")
    encoders = list(text.encoders)
    for word, tensors in words.items():
        vectors = [v[None] if v.ndim == 1 else v for v in tensors]
        if len(vectors) != len(encoders):
            raise SfumatoError(
                f"adapter {file.name}: vectors for {len(vectors)} text encoders, model "
                f"{model.name} has {len(encoders)}; it belongs to another model"
            )
        if vectors[0].ndim == 3 and len(vectors[0]) != (layers := layer_count(model)):
            raise SfumatoError(
                f"adapter {file.name}: word {word} is for {len(vectors[0])} cross-attention "
                f"layers, model {model.name} has {layers}; it belongs to another model"
            )
        for k, vector in enumerate(vectors):
            encoders[k] = _add_word(encoders[k], word, vector, file)
        log.info("adapter %s: word %s of %s", file.name, word, describe_vectors(vectors[0]))
    return replace(model, text=replace(text, encoders=tuple(encoders)))


def describe_vectors(vectors: Tensor) -> str:
    """How many vectors a word has."""
    layers = f" for each of {len(vectors)} layers" if vectors.ndim == 3 else ""
    return f"{vectors.shape[-2]} vectors{layers}"


def layer_count(model: Model) -> int:
    """The cross-attention layers of a latent model, each of which may read words of its own."""
    network = model.denoiser.network
    if not isinstance(network, Conditional):
        raise SfumatoError(f"{model.name}: words for each layer are for latent models with text")
    if network.config.stride is not None:
        raise SfumatoError(
            f"{model.name}: words with vectors for each layer are for Stable Diffusion 1.x and 2.x;"
            " XL also reads one vector for the whole prompt, which belongs to no layer"
        )
    return len(cross_attentions(network.net))


def _add_word(encoder: Encoder, word: str, vectors: Tensor, file: Path) -> Encoder:
    width = encoder.vectors.shape[1]
    if vectors.shape[-1] != width:
        raise SfumatoError(
            f"adapter {file.name}: vectors of {vectors.shape[-1]}, the text encoder's have "
            f"{width}; it belongs to another model"
        )
    return replace(encoder, words={**encoder.words, word: vectors.float()})
