"""Language models as readers of prompts: the hidden states of a prompt in its chat template.

Each prompt is read alone, without padding, so that its rows do not depend on others; what is behind
its end is zeros, which a mask tells apart. Brackets are text: such models know no weighted words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError, quoted
from sfumato.models.encoders import LOCK
from sfumato.models.files.spans import Spans, trim

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
        if len(ids) - self.dropped > self.most:
            raise SfumatoError(
                f"prompt {quoted(text)}: has {len(ids) - self.dropped} tokens with its template, "
                f"this model reads {self.most}; shorten it"
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
