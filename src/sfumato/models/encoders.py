"""Prompts for latent models: CLIP text encoders, weighted words, and prompts of any length.

A prompt longer than the encoder's context is encoded in chunks, whose rows follow each other.
"(words:1.3)" weights words: their rows move that much further from the empty prompt's row at the
same position (0: they become it), and all other rows stay as they are. Brackets without a number
are plain text, and so is "(ratio 16:9)": after a figure a weight needs a decimal point. A prompt
with a word that has vectors for every cross-attention layer (P+, arXiv 2303.09522) is encoded once
for each layer.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.source import Span
from sfumato.models.files.spans import Spans, clip_spans, column_spans

log = logging.getLogger("sfumato")

WEIGHTED = re.compile(r"\(((?:[^()\\]|\\.)+?):\s*([0-9]*\.?[0-9]+)\s*\)")
ESCAPED = re.compile(r"\\(?=[()])")
MAX_WEIGHT = 5.0
SCORE = 6.0
"""Of beauty, where nobody says one."""
Layer = Literal["last", "second"]
LOCK = threading.Lock()
"""Held while encoding: added words stand in the network's own table for the length of a pass."""


@dataclass(frozen=True)
class Piece:
    """A part of a prompt that has one weight. places: where its characters stand in the prompt."""

    text: str
    weight: float
    places: tuple[int, ...]

    @classmethod
    def of(cls, prompt: str, start: int, end: int, weight: float) -> Piece:
        r"""From a slice of the prompt, in which \( and \) are brackets that mean nothing."""
        hidden = {start + match.start() for match in ESCAPED.finditer(prompt[start:end])}
        places = tuple(k for k in range(start, end) if k not in hidden)
        return cls("".join(prompt[k] for k in places), weight, places)


def parse_weights(prompt: str) -> list[Piece]:
    """The prompt's pieces with their weights."""
    pieces, at = [], 0
    for match in WEIGHTED.finditer(prompt):
        if match[1].rstrip()[-1:].isdigit() and "." not in match[2]:
            continue  # a ratio, or the time of day
        pieces.append(Piece.of(prompt, at, match.start(), 1.0))
        weight = float(match[2])
        if weight > MAX_WEIGHT:
            raise SfumatoError(f"prompt: weight {weight:g} of {match[1]!r}; at most {MAX_WEIGHT:g}")
        pieces.append(Piece.of(prompt, *match.span(1), weight))
        at = match.end()
    pieces.append(Piece.of(prompt, at, len(prompt), 1.0))
    return [piece for piece in pieces if piece.text.strip()]


_GRADIENTS: ContextVar[bool] = ContextVar("gradients", default=False)


@contextmanager
def with_gradients() -> Iterator[None]:
    """While active, encoding keeps the encoders' graphs, for those who train them."""
    token = _GRADIENTS.set(True)
    try:
        yield
    finally:
        _GRADIENTS.reset(token)


@dataclass(frozen=True, eq=False)
class Encoder:
    """One CLIP text encoder with its tokenizer.

    layer: which hidden state is read, "last" after the final norm (SD 1.x, 2.x) or "second" last
    before it (SDXL). words: vectors of added words by name, (k, width) (textual inversion) or
    (layers, k, width) (P+).
    """

    tokenizer: Any
    network: Any
    layer: Layer = "last"
    words: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def context(self) -> int:
        return int(self.network.config.max_position_embeddings)

    @property
    def embedding(self) -> str:
        """Name of the parameter that holds the token vectors."""
        names = (name for name, _ in self.network.named_parameters())
        return next(str(name) for name in names if name.endswith("token_embedding.weight"))

    @property
    def vectors(self) -> Tensor:
        table: Tensor = self.network.get_parameter(self.embedding)
        return table

    def chunks(self, prompt: str) -> list[list[tuple[int, float]]]:
        """(token, weight) of the prompt, cut where the context is full; at least one chunk."""
        tokens = [
            (token, piece.weight)
            for piece in parse_weights(prompt)
            for token in self.tokens(piece.text.strip())
        ]
        room = self.context - 2
        return [tokens[k : k + room] for k in range(0, len(tokens), room)] or [[]]

    def tokens(self, text: str) -> list[int]:
        """Token ids; those of added words follow the vocabulary."""
        if not self.words:
            return self._vocabulary_ids(text)
        ids, tokens = self.added_ids, list[int]()
        for part, _ in self._split_words(text):
            tokens += ids[part] if part in ids else self._vocabulary_ids(part)
        return tokens

    def _split_words(self, text: str) -> Iterator[tuple[str, int]]:
        """Added words and what stands between them, with where they begin in the text."""
        names = sorted(self.words, key=len, reverse=True)
        split = re.split(f"({'|'.join(map(re.escape, names))})", text) if names else [text]
        at = 0
        for part in split:
            if part in self.words:
                yield part, at
            elif part.strip():
                yield part.strip(), at + len(part) - len(part.lstrip())
            at += len(part)

    def spans(self, prompt: str, chunk_count: int) -> Spans:
        """Which characters of the prompt stand behind each column of so many chunks."""
        spans: list[Span | None] = []
        for piece in parse_weights(prompt):
            for part, at in self._split_words(piece.text):
                if part in self.words:
                    within: list[Span | None] = [(0, len(part))] * len(self.added_ids[part])
                else:
                    within = clip_spans(self.tokenizer, part)
                for span in within:
                    first, last = span or (0, 0)
                    spans.append(
                        (piece.places[at + first], piece.places[at + last - 1] + 1)
                        if first < last
                        else None
                    )
        room = self.context - 2
        cut = [spans[k * room : (k + 1) * room] for k in range(chunk_count)]
        return tuple(span for part in cut for span in column_spans(part, self.context, before=1))

    def _vocabulary_ids(self, text: str) -> list[int]:
        """Token ids of the vocabulary, each of them a row of the table."""
        ids = list(self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
        if ids and max(ids) >= len(self.vectors):
            raise SfumatoError(
                f"prompt {quoted(text)}: has token {max(ids)}, the text encoder's table "
                f"{len(self.vectors)} rows; the tokenizer belongs to another model"
            )
        return ids

    @property
    def added_ids(self) -> dict[str, range]:
        """Token ids of the added words."""
        first, ids = len(self.vectors), {}
        for name, vectors in self.words.items():
            ids[name] = range(first, first + vectors.shape[-2])
            first += vectors.shape[-2]
        return ids

    def layer_count(self, prompt: str) -> int:
        """How many layers the prompt is encoded for; 0 where all of them share one encoding."""
        counts = {name: len(v) for name, v in self.words.items() if v.ndim == 3}
        if not counts:
            return 0
        tokens = {token for chunk in self.chunks(prompt) for token, _ in chunk}
        ids = self.added_ids
        return max((n for name, n in counts.items() if not tokens.isdisjoint(ids[name])), default=0)

    def for_layer(self, layer: int) -> Encoder:
        """As one cross-attention layer reads it; they are numbered as they run."""
        words = {name: v[layer] if v.ndim == 3 else v for name, v in self.words.items()}
        return replace(self, words=words)

    def encode(self, prompt: str, chunk_count: int) -> tuple[Tensor, Tensor | None]:
        """(chunks x context, width) rows and, where the encoder has one, its pooled vector."""
        rows: list[Tensor] = []
        pooled: Tensor | None = None
        chunks = self.chunks(prompt)
        chunks += [[]] * (chunk_count - len(chunks))
        bos, eos, pad = (
            getattr(self.tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")
        )
        filler = eos if pad is None else pad
        for chunk in chunks:
            ids = [bos, *(token for token, _ in chunk), eos]
            ids += [filler] * (self.context - len(ids))
            weights = [1.0, *(weight for _, weight in chunk)]
            weights += [1.0] * (self.context - len(weights))
            hidden, vector = self.run(ids)
            if any(weight != 1 for weight in weights):
                empty, _ = self.run([bos, eos, *[filler] * (self.context - 2)])
                moved = torch.lerp(empty, hidden, torch.tensor(weights).to(hidden)[:, None])
                unweighted = torch.tensor([weight == 1 for weight in weights], device=hidden.device)
                hidden = torch.where(unweighted[:, None], hidden, moved)
            rows.append(hidden)
            pooled = vector if pooled is None else pooled  # of the first chunk
        return torch.cat(rows), pooled

    def first(self, prompt: str) -> tuple[Tensor, Tensor | None]:
        """Rows (context, width) and pooled vector of the prompt's first chunk."""
        rows, pooled = self.encode(prompt, 1)
        return rows[: self.context], pooled

    def pooled(self, prompt: str) -> Tensor:
        """The last layer at the end of the prompt's first chunk, (width,); not projected."""
        ids = [token for token, _ in self.chunks(prompt)[0]]
        bos, eos, pad = (
            getattr(self.tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")
        )
        filled = [bos, *ids, eos]
        filled += [eos if pad is None else pad] * (self.context - len(filled))
        table, filled = self.table(filled)
        batch = torch.tensor([filled], device=table.device)
        with torch.no_grad():
            out = torch.func.functional_call(self.network, {self.embedding: table}, (batch,))
        vector: Tensor = out.pooler_output[0]
        return vector.float()

    def run(self, ids: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """One chunk of token ids -> rows (context, width), pooled (projection) or None."""
        table, ids = self.table(ids)
        batch = torch.tensor([ids], device=table.device)
        with torch.set_grad_enabled(_GRADIENTS.get()):
            out = torch.func.functional_call(
                self.network, {self.embedding: table}, (batch,), {"output_hidden_states": True}
            )
        hidden = out.last_hidden_state if self.layer == "last" else out.hidden_states[-2]
        vector = getattr(out, "text_embeds", None)
        return hidden[0].float(), None if vector is None else vector[0].float()

    def table(self, ids: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Token vectors and ids in which added words have taken rows that this chunk does not use.

        Rows behind the vocabulary would be higher than the end token, which some encoders find as
        the highest id.
        """
        table, size = self.vectors, len(self.vectors)
        added_ids = sorted({i for i in ids if i >= size})
        if not added_ids:
            return table, list(ids)
        free = iter(sorted(set(range(size)) - set(ids)))
        place = {i: next(free) for i in added_ids}
        added = torch.cat([vectors.to(table) for vectors in self.words.values()])
        table = table.detach().clone()
        for i, row in place.items():
            table[row] = added[i - size]
        return table, [place.get(i, i) for i in ids]


@dataclass(frozen=True, eq=False)
class Encoders:
    """The text side of a latent model: one encoder, or SDXL's two side by side.

    zeros: an empty prompt is all zeros, as SDXL was trained with. distilled: the network also reads
    a scale of guidance, here that of none. scored: and how beautiful the picture is.
    """

    encoders: tuple[Encoder, ...]
    zeros: bool = False
    distilled: bool = False
    scored: bool = False

    @property
    def width(self) -> int:
        """D of a context."""
        return sum(int(e.network.config.hidden_size) for e in self.encoders)

    def __call__(self, texts: Sequence[str], beside: Sequence[str] = ()) -> Cond:
        """ "context" (B, L, D), maybe "pooled" (B, P), maybe "guidance" (B,), "score" (B,).

        L holds the longest of the texts and of those beside them, so that a prompt and its negative
        share one call of the network. Where one of them has a word with vectors for each of N
        layers, "context" is (B, N, L, D).
        """
        with LOCK:
            return self._encode(texts, beside)

    def spans(self, text: str, beside: Sequence[str] = ()) -> Spans:
        """Which characters stand behind each column, as the first encoder reads them."""
        return self.encoders[0].spans(text, self._chunk_count([text, *beside]))

    def _chunk_count(self, texts: Sequence[str]) -> int:
        """Of the longest text."""
        return max(len(e.chunks(text)) for e in self.encoders for text in texts)

    def _encode(self, texts: Sequence[str], beside: Sequence[str]) -> Cond:
        all_texts = [*texts, *beside]
        chunk_count = self._chunk_count(all_texts)
        for text in texts:
            chunks = self.encoders[0].chunks(text)
            if len(chunks) > 1:
                count = sum(len(chunk) for chunk in chunks)
                log.info("prompt: %d tokens, read in %d chunks", count, len(chunks))
        layers = max(e.layer_count(text) for e in self.encoders for text in all_texts)
        rows, pooled = [], []
        for text in texts:
            text_layers = max(e.layer_count(text) for e in self.encoders)
            encodings = [
                self._encode_row(text, chunk_count, layer) for layer in range(text_layers or 1)
            ]
            context, vector = torch.stack([row for row, _ in encodings]), encodings[0][1]
            rows.append(context.expand(layers, -1, -1) if layers else context[0])
            pooled += [] if vector is None else [vector]
        tensors = {"context": torch.stack(rows)}
        if pooled:
            tensors["pooled"] = torch.stack(pooled)
        if self.distilled:
            tensors["guidance"] = torch.ones(len(texts))
        if self.scored:
            tensors["score"] = torch.full((len(texts),), SCORE)
        return Cond(tensors)

    def _encode_row(self, text: str, chunk_count: int, layer: int) -> tuple[Tensor, Tensor | None]:
        """(L, D) and the pooled vector of one text as one layer reads it."""
        encodings = [e.for_layer(layer).encode(text, chunk_count) for e in self.encoders]
        context, vector = torch.cat([row for row, _ in encodings], dim=-1), encodings[-1][1]
        if self.zeros and not text.strip():
            context = torch.zeros_like(context)
            vector = None if vector is None else torch.zeros_like(vector)
        return context, vector
