"""Language models as readers of prompts: the hidden states of a prompt in its chat template.

Each prompt is read alone, without padding, so that its rows do not depend on others; what is behind
its end is zeros, which a mask tells apart. Brackets are text: such models know no weighted words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.source import Span
from sfumato.models.encoders import LOCK
from sfumato.models.files.spans import Spans, align, trim

PAD = "<|endoftext|>"


@dataclass(frozen=True, eq=False)
class ChatPrompts:
    """network: a causal language model without its head. layer: of its hidden states.

    before, after: the template around a prompt, of which the first `dropped` rows are left out.
    most: rows of a prompt at most.
    """

    tokenizer: Tokenizer
    network: Any
    before: str
    after: str
    layer: int = -1
    dropped: int = 0
    most: int = 512

    def __call__(self, texts: Sequence[str], beside: Sequence[str] = ()) -> Cond:
        """ "context" (B, L, D) and "mask" (B, L) bool; L holds the longest text of the run."""
        length = self._length((*texts, *beside))
        with LOCK:
            rows = [self._rows(text) for text in texts]
        mask = torch.stack([torch.arange(length) < len(row) for row in rows])
        padded = [F.pad(row, (0, 0, 0, length - len(row))) for row in rows]
        return Cond({"context": torch.stack(padded), "mask": mask.to(padded[0].device)})

    def spans(self, text: str, beside: Sequence[str] = ()) -> Spans:
        """Which characters stand behind each row."""
        full = f"{self.before}{text}{self.after}"
        first = len(self.before)
        shifted = [
            None if span is None or span[0] < first or span[1] > first + len(text)
            else (span[0] - first, span[1] - first)
            for span in trim(self.tokenizer.encode(full, add_special_tokens=False).offsets, full)
        ][self.dropped :]  # fmt: skip
        return (*shifted, *[None] * (self._length((text, *beside)) - len(shifted)))

    def _length(self, texts: Sequence[str]) -> int:
        return max(len(self._ids(text)) - self.dropped for text in texts)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(
            f"{self.before}{text}{self.after}", add_special_tokens=False
        ).ids
        return self._within(text, ids, len(ids) - self.dropped)

    def _within(self, text: str, ids: list[int], count: int) -> list[int]:
        """The tokens, of which so many count, if they are not too many and have rows."""
        if count > self.most:
            raise SfumatoError(
                f"prompt {quoted(text)}: has {count} tokens with its template, this model reads "
                f"{self.most}; shorten it"
            )
        if max(ids) >= int(self.network.config.vocab_size):
            raise SfumatoError(
                f"prompt {quoted(text)}: has token {max(ids)}, the text encoder's table "
                f"{self.network.config.vocab_size} rows; the tokenizer belongs to another model"
            )
        return ids

    def _rows(self, text: str) -> Tensor:
        batch = torch.tensor([self._ids(text)], device=self.network.device)
        with torch.no_grad():
            out = self.network(input_ids=batch, output_hidden_states=True)
        hidden: Tensor = out.hidden_states[self.layer][0, self.dropped :]
        return hidden.float()


@dataclass(frozen=True, eq=False)
class InstructedPrompts(ChatPrompts):
    """Prompts in small letters behind an instruction, of whose rows the first alone is kept.

    begin: the token before everything. The empty prompt is read without the instruction, and so is
    every text that guidance leads away from. distilled: the network also reads a scale, here that
    of no guidance.
    """

    begin: str = "<bos>"
    plain: bool = False
    distilled: bool = False

    def __call__(self, texts: Sequence[str], beside: Sequence[str] = ()) -> Cond:
        cond = super().__call__(texts, beside)
        told = {"guidance": torch.ones(len(texts))} if self.distilled else {}
        return Cond({**cond, **told})

    @property
    def away(self) -> InstructedPrompts:
        """Which reads all texts without the instruction."""
        return replace(self, plain=True)

    def spans(self, text: str, beside: Sequence[str] = ()) -> Spans:
        """Which characters stand behind each row."""
        small, first = self._small(text), len(self._before(text))
        full = f"{self._before(text)}{small}"
        owners = align(small, text)
        pieces: list[Span | None] = [None]
        for span in trim(self.tokenizer.encode(full, add_special_tokens=False).offsets, full):
            start, end = span or (0, 0)
            inside = first <= start < end
            pieces.append(
                (owners[start - first][0], owners[end - first - 1][1]) if inside else None
            )
        kept = [pieces[k] for k in self._kept(text)]
        return (*kept, *[None] * (self._length((text, *beside)) - len(kept)))

    def _length(self, texts: Sequence[str]) -> int:
        """Of the longest text, whichever side reads it."""
        sides = (replace(self, plain=plain) for plain in (False, True))
        return max(len(side._kept(text)) for side in sides for text in texts)

    def _small(self, text: str) -> str:
        return text.lower().strip()

    def _before(self, text: str) -> str:
        return "" if self.plain or not text.strip() else self.before

    def _kept(self, text: str) -> list[int]:
        """The first row, and those from the instruction's last token on."""
        count, told = len(self._ids(text)), len(self._encoded(self._before(text)))
        return [0, *range(max(told, 1), count)]

    def _encoded(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _ids(self, text: str) -> list[int]:
        begin = self.tokenizer.token_to_id(self.begin)
        if begin is None:
            raise SfumatoError(
                f"prompt: the tokenizer has no token {self.begin}; it is another model's"
            )
        before = self._before(text)
        ids = [begin, *self._encoded(f"{before}{self._small(text)}")]
        count = len(ids) - max(len(self._encoded(before)) - 1, 0)
        return self._within(text, ids, count)

    def _rows(self, text: str) -> Tensor:
        return super()._rows(text)[self._kept(text)]


@dataclass(frozen=True, eq=False)
class LayeredPrompts(ChatPrompts):
    """Several layers side by side, in as many rows as there are at most: "context" (B, L, D) alone.

    What is behind a prompt's end is what the model makes of its padding.
    """

    layers: tuple[int, ...] = (-1,)

    def __call__(self, texts: Sequence[str], beside: Sequence[str] = ()) -> Cond:
        with LOCK:
            return Cond({"context": torch.stack([self._rows(text) for text in texts])})

    def _length(self, texts: Sequence[str]) -> int:
        return self.most

    def _rows(self, text: str) -> Tensor:
        ids = self._ids(text)
        pad = self.tokenizer.token_to_id(PAD)
        if pad is None:
            raise SfumatoError(f"prompt: the tokenizer has no token {PAD}; it is another model's")
        batch = torch.tensor([ids + [pad] * (self.most - len(ids))], device=self.network.device)
        mask = (torch.arange(self.most) < len(ids)).long()[None].to(batch.device)
        with torch.no_grad():
            out = self.network(input_ids=batch, attention_mask=mask, output_hidden_states=True)
        return torch.cat([out.hidden_states[k][0] for k in self.layers], dim=-1).float()
