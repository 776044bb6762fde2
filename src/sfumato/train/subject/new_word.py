"""A new word of a latent model: its name, where its vectors start, who reads it, its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.noise import keyed
from sfumato.models.encoders import Encoder, Encoders
from sfumato.models.model import Model
from sfumato.train.config import SubjectPart

JITTER = 0.05
"""Spread of several vectors about their common start, in units of the table's own."""


def word_of(text: Encoders, subject: SubjectPart) -> str:
    """What it is called: the subject's name, else made of its noun."""
    noun = subject.noun.replace(" ", "-")
    # two encoders' vectors are in a file that cannot say the word, so its name does
    word = subject.name or (f"<{noun}>" if len(text.encoders) == 1 else f"my-{noun}")
    if "." in word or "lora" in word:
        raise SfumatoError(
            f"subject.name {quoted(word)}: leave dots and 'lora' out, by which programs tell "
            "other files"
        )
    return word


def start(encoder: Encoder, near: str, vectors: int, key: str) -> Tensor:
    """Its vectors (n, width): that of a known word, of several spread a little."""
    table = encoder.vectors.detach().float()
    row = table[encoder.tokens(near)[0]]
    generator = torch.Generator().manual_seed(keyed(key))
    noise = torch.randn(vectors, len(row), generator=generator).to(row)
    spread = JITTER * float(table.std()) if vectors > 1 else 0.0
    return row + spread * noise


def taught(model: Model, word: str, vectors: Mapping[str, nn.Parameter]) -> Model:
    """The model with the word in its encoders, which read the parameters "0", "1"."""
    assert isinstance(model.text, Encoders)
    encoders = tuple(
        replace(encoder, words={**encoder.words, word: vectors[str(k)]})
        for k, encoder in enumerate(model.text.encoders)
    )
    return replace(model, text=replace(model.text, encoders=encoders))


def files(word: str, vectors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """learned_embeds.safetensors as diffusers writes it; of two encoders, clip_l and clip_g in a
    file whose name is the word."""
    if len(vectors) == 1:
        return {"learned_embeds.safetensors": {word: vectors["0"]}}
    return {f"{word}.safetensors": {"clip_l": vectors["0"], "clip_g": vectors["1"]}}
