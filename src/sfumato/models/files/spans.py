"""Which characters of a prompt stand behind each token, also where a text was rewritten before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Protocol

from sfumato.core.denoiser import Cond
from sfumato.core.source import Span

Spans = tuple[Span | None, ...]
"""One for each column that cross attention reads; None: no character stands behind it."""


class Reader(Protocol):
    """The text side of a model: prompts to what its network reads. beside: the run's others.

    One that reads otherwise what guidance leads away from has as `away` what does.
    """

    def __call__(self, texts: Sequence[str], beside: Sequence[str] = ()) -> Cond: ...

    def spans(self, text: str, beside: Sequence[str] = ()) -> Spans | None: ...


def align(rewritten: str, text: str) -> list[Span]:
    """For each character of what a text was rewritten to, the span of the text that it stands for.

    Lower case is no difference; what else differs is matched by its neighbours.
    """
    letters, owners = [], []
    for k, letter in enumerate(text):
        for low in letter.lower():
            letters.append(low)
            owners.append(k)
    low = "".join(letters)
    if rewritten.lower() == low and len(rewritten) == len(low):
        return [(k, k + 1) for k in owners]
    spans: list[Span] = []
    matched = SequenceMatcher(None, rewritten, low, autojunk=False).get_opcodes()
    for kind, start, end, first, last in matched:
        if kind == "equal":
            spans += [(owners[k], owners[k] + 1) for k in range(first, last)]
        elif kind == "replace":
            spans += [(owners[first], owners[last - 1] + 1)] * (end - start)
        elif kind == "delete":
            at = owners[first] if first < len(owners) else len(text)
            spans += [(at, at)] * (end - start)
        elif spans and not any(letter.isspace() for letter in low[first:last]):
            # of an entity such as &amp; the rest belongs to what it became
            spans[-1] = (spans[-1][0], owners[last - 1] + 1)
    return spans


def original_span(span: Span, places: Sequence[Span]) -> Span:
    """A span of a rewritten text in the original. places: of `align`."""
    covered = [place for place in places[slice(*span)] if place[0] < place[1]]
    return (covered[0][0], covered[-1][1]) if covered else (0, 0)


def trim(spans: Iterable[Span], text: str) -> list[Span | None]:
    """Without white space at their ends; None where nothing is left."""
    trimmed_spans: list[Span | None] = []
    for start, end in spans:
        part = text[start:end]
        start += len(part) - len(part.lstrip())
        trimmed_spans.append((start, start + len(part.strip())) if part.strip() else None)
    return trimmed_spans


def column_spans(spans: Iterable[Span | None], context: int, before: int = 0) -> Spans:
    """Of a context of so many columns, padded and cut. before: of start tokens."""
    row = [*[None] * before, *spans][:context]
    return (*row, *[None] * (context - len(row)))


END = "</w>"
"""Of a piece that ends a word, in CLIP's vocabulary."""


def clip_spans(tokenizer: Any, text: str) -> list[Span | None]:
    """Spans of the tokens that a CLIP tokenizer of transformers makes of a text.

    A slow one keeps no offsets: its pieces are spelt out and matched with the text.
    """
    options = {"add_special_tokens": False, "verbose": False}
    if tokenizer.is_fast:
        pairs = tokenizer(text, return_offsets_mapping=True, **options).offset_mapping
        return trim([(int(start), int(end)) for start, end in pairs], text)
    pieces = tokenizer.convert_ids_to_tokens(tokenizer(text, **options).input_ids)
    return spelling_spans([_bytes(piece, tokenizer.byte_decoder) for piece in pieces], text)


def spelling_spans(pieces: Sequence[bytes], text: str) -> list[Span | None]:
    """Spans of tokens by what they spell, in UTF-8 and without the white space of the text."""
    letters = b"".join(pieces).decode("utf-8", "replace")
    owners = [k for k, letter in enumerate(letters) for _ in letter.encode()]
    visible = [k for k, letter in enumerate(text) if not letter.isspace()]
    solid = "".join(text[k] for k in visible)
    places = [
        (visible[first], visible[last - 1] + 1) if first < last else (0, 0)
        for first, last in align(letters, solid)
    ]
    spans, at = [], 0
    for piece in pieces:
        touched = owners[at : at + len(piece)]
        spans.append(original_span((touched[0], touched[-1] + 1), places) if touched else (0, 0))
        at += len(piece)
    return trim(spans, text)


def _bytes(piece: str, letters: Mapping[str, int]) -> bytes:
    """What a piece of the vocabulary stands for. letters: the bytes that its letters stand for."""
    plain = piece.removesuffix(END)
    return bytes(letters[letter] for letter in plain if letter in letters)
