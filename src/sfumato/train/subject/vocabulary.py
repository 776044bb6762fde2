"""What a model's tokenizer knows: tokens of a text, what they stand for, its words by frequency."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from sfumato.models import encoders
from sfumato.models.model import Model
from sfumato.models.prompts import Prompts

Tokens = Callable[[str], list[int]]
"""Token ids of a text, without what marks its ends."""


def tokens_of(model: Model) -> Tokens:
    """The model's tokenizer as a function; of several encoders the first one's."""
    text = model.text
    if isinstance(text, encoders.Encoders):
        return text.encoders[0].tokens
    tokenizer: Any = text
    return lambda words: list(tokenizer.tokenizer.encode(words).ids)


def spelled_by(model: Model) -> Callable[[int], str]:
    """What a token of the model's stands for."""
    text: Any = model.text
    if isinstance(text, encoders.Encoders):
        read: Any = text.encoders[0].tokenizer
        return lambda k: str(read.convert_ids_to_tokens(k)).removesuffix("</w>")
    return lambda k: str(text.tokenizer.decode([k])).strip()


def vocabulary_of(model: Model) -> list[str]:
    """Whole words of the tokenizer, common ones first."""
    text = model.text
    if isinstance(text, encoders.Encoders):
        ids = text.encoders[0].tokenizer.get_vocab()
        ends = {word.removesuffix("</w>"): i for word, i in ids.items() if word.endswith("</w>")}
    else:
        assert isinstance(text, Prompts) or hasattr(text, "tokenizer")
        ids = cast(Any, text).tokenizer.get_vocab()
        ends = {word.removeprefix("Ġ"): i for word, i in ids.items() if word.startswith("Ġ")}
    return sorted(ends, key=lambda word: ends[word])
