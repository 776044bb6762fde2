"""BERT as a reader of prompts, with weighted words: the first rows of a prompt, as many as it was
trained with; what is behind its end is masked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from sfumato.core.errors import SfumatoError, quoted
from sfumato.models.encoders import parse_weights
from sfumato.models.t5 import weighted

BEGIN, END, PAD = "[CLS]", "[SEP]", "[PAD]"


@dataclass(frozen=True, eq=False)
class Bert:
    """network: a BertModel. rows: of every prompt, with its two ends."""

    tokenizer: Tokenizer
    network: Any
    rows: int

    def tokens(self, prompt: str) -> list[tuple[int, float]]:
        """(token, weight) of the prompt, without its ends, as far as the rows reach."""
        size = int(self.network.config.vocab_size)
        tokens = [
            (token, piece.weight)
            for piece in parse_weights(prompt)
            for token in self.tokenizer.encode(piece.text, add_special_tokens=False).ids
        ]
        if beyond := next((token for token, _ in tokens if token >= size), None):
            raise SfumatoError(
                f"prompt {quoted(prompt)}: has token {beyond}, the text encoder's table {size} "
                "rows; the tokenizer belongs to another model"
            )
        return tokens[: self.rows - 2]

    def encode(self, prompt: str) -> tuple[Tensor, Tensor]:
        """(rows, width) float32, and which rows are words or ends."""
        tokens = self.tokens(prompt)
        hidden, mask = self._run([token for token, _ in tokens])
        if all(weight == 1 for _, weight in tokens):
            return hidden, mask
        return weighted(hidden, [1.0, *(weight for _, weight in tokens)], self._run([])[0]), mask

    def _run(self, tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
        begin, end, pad = (self.tokenizer.token_to_id(token) for token in (BEGIN, END, PAD))
        ids = [begin, *tokens, end]
        mask = (torch.arange(self.rows) < len(ids)).to(self.network.device)
        batch = torch.tensor([ids + [pad] * (self.rows - len(ids))], device=mask.device)
        with torch.no_grad():
            out = self.network(batch, attention_mask=mask.long()[None])
        hidden: Tensor = out.last_hidden_state[0]
        return hidden.float(), mask
