"""Words of prompts and the columns of attention that read them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch
from sfumato.core.ranges import Range, real
from sfumato.core.source import Source, Span

if TYPE_CHECKING:
    from torch import Tensor

Spans = Sequence[Span | None]
FACTOR = Range(-1000, 1000)


def spans_of(method: str, source: Source | None, text: str, beside: Sequence[str]) -> Spans:
    """The characters behind each column; refuses a model whose attention reads no text."""
    spans = None if source is None else source.spans(text, beside)
    if spans is None:
        raise SfumatoError(f"{method}: needs a model whose attention reads text")
    return spans


def columns(method: str, text: str, spans: Spans, word: str) -> list[int]:
    """The columns of a word or of words in their order; refuses what the text does not hold."""
    matches = [m.span() for m in re.finditer(_whole(word), text)]
    meeting = [k for k, span in enumerate(spans) if any(_meet(span, match) for match in matches)]
    if not meeting:
        raise SfumatoError(f"{method}: no {word!r} in {text!r}; name words of the prompt")
    return meeting


def holds(text: str, word: str) -> bool:
    """Whether the text has the word."""
    return re.search(_whole(word), text) is not None


def _whole(word: str) -> str:
    return rf"(?<!\w){re.escape(word)}(?!\w)"


def factors(method: str, weights: str) -> list[tuple[str, float]]:
    """Words and their factors, of "red=2, flat=0.5"."""
    pairs = []
    for part in filter(None, (part.strip() for part in weights.split(","))):
        word, _, value = part.partition("=")
        try:
            pairs.append((word.strip(), real(float(value), f"{method}: weights {part}", FACTOR)))
        except ValueError:
            raise SfumatoError(f"{method}: weights {part!r}: write WORD=NUMBER") from None
    names = [word for word, _ in pairs]
    if twice := next((word for word in names if names.count(word) > 1), None):
        raise SfumatoError(f"{method}: weights: {twice!r} is there twice; leave one out")
    return pairs


def aligned(texts: tuple[str, str], spans: tuple[Spans, Spans]) -> tuple[Tensor, Tensor]:
    """(mapped (K, K'), own (K',)): which columns of the first text those of the second one take,
    and 1 where they keep their own.

    Words in common take theirs; words in place of others share what those have; added words keep
    their own, as do columns behind which only the second text has no word.
    """
    mapped, own = torch.zeros(len(spans[0]), len(spans[1])), torch.zeros(len(spans[1]))
    before, after = (_words(*pair) for pair in zip(texts, spans, strict=True))
    matcher = SequenceMatcher(None, [w for w, _ in before], [w for w, _ in after], autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        theirs = [k for _, part in before[a:b] for k in part]
        ours = [k for _, part in after[c:d] for k in part]
        if tag == "equal" and len(theirs) == len(ours):
            mapped[theirs, ours] = 1
        elif tag == "insert":
            own[ours] = 1
        elif ours:
            mapped[torch.tensor(theirs)[:, None], torch.tensor(ours)] = 1 / len(ours)
    for k, span in enumerate(spans[1]):
        if span is None and k < len(spans[0]) and spans[0][k] is None:
            mapped[k, k] = 1
        elif span is None:
            own[k] = 1
    return mapped, own


def _words(text: str, spans: Spans) -> list[tuple[str, list[int]]]:
    """Each word or sign of a text with its columns, those of a column once."""
    words, taken = [], set[int]()
    for m in re.finditer(r"\w+|[^\w\s]", text):
        part = [k for k, s in enumerate(spans) if _meet(s, m.span()) and k not in taken]
        taken.update(part)
        words.append((m[0], part))
    return words


def _meet(span: Span | None, match: Span) -> bool:
    return span is not None and span[0] < match[1] and match[0] < span[1]
