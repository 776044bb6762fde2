"""T5's encoder as a reader of prompts, with weighted words; its rows are as many as are asked for.

Networks attend to the rows behind a prompt's end too, so that their number is part of the model.
A longer prompt has more rows: T5 knows distances, no places, and reads any length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.source import Span
from sfumato.models.encoders import parse_weights
from sfumato.models.files.spans import Spans, trim

END, PAD = "</s>", "<pad>"


@dataclass(frozen=True, eq=False)
class T5:
    """network: a T5EncoderModel. length: rows of a prompt at least, with its end.

    masked: whether words do not see the rows behind their end.
    """

    tokenizer: Tokenizer
    network: Any
    length: int
    masked: bool = False

    @property
    def width(self) -> int:
        return int(self.network.config.d_model)

    def tokens(self, prompt: str) -> list[tuple[int, float]]:
        """(token, weight) of the prompt, without its end."""
        size = int(self.network.config.vocab_size)
        tokens = [
            (token, piece.weight)
            for piece in parse_weights(prompt)
            for token in self.tokenizer.encode(piece.text.strip(), add_special_tokens=False).ids
        ]
        if beyond := next((token for token, _ in tokens if token >= size), None):
            raise SfumatoError(
                f"prompt {quoted(prompt)}: has token {beyond}, the text encoder's table {size} "
                "rows; the tokenizer belongs to another model"
            )
        return tokens

    def rows_of(self, prompts: Sequence[str], least: int | None = None) -> int:
        """Rows that hold the longest of the prompts; least: in place of the model's own."""
        ends = [len(self.tokens(prompt)) + 1 for prompt in prompts]
        return max(self.length if least is None else least, *ends)

    def encode(self, prompt: str, rows: int) -> Tensor:
        """(rows, width) float32."""
        tokens = self.tokens(prompt)
        weights = [weight for _, weight in tokens]
        hidden = self._run([token for token, _ in tokens], rows)
        if all(weight == 1 for weight in weights):
            return hidden
        return weighted(hidden, weights, self._run([], rows))

    def spans(self, prompt: str, rows: int) -> Spans:
        """Which characters of the prompt stand behind each row."""
        spans: list[Span | None] = []
        for piece in parse_weights(prompt):
            text = piece.text.strip()
            before = len(piece.text) - len(piece.text.lstrip())
            offsets = self.tokenizer.encode(text, add_special_tokens=False).offsets
            for span in trim(offsets, text):
                first, last = span or (0, 0)
                spans.append(
                    (piece.places[before + first], piece.places[before + last - 1] + 1)
                    if first < last
                    else None
                )
        return (*spans, *[None] * (rows - len(spans)))

    def _run(self, tokens: list[int], rows: int) -> Tensor:
        end, pad = (self.tokenizer.token_to_id(token) for token in (END, PAD))
        ids = [*tokens, end]
        seen = torch.arange(rows) < len(ids)
        ids += [pad] * (rows - len(ids))
        device = self.network.device
        mask = seen.long()[None].to(device) if self.masked else None
        with torch.no_grad():
            out = self.network(torch.tensor([ids], device=device), attention_mask=mask)
        hidden: Tensor = out.last_hidden_state[0]
        return hidden.float()


def weighted(hidden: Tensor, weights: Sequence[float], empty: Tensor) -> Tensor:
    """Rows (L, D) moved away from the empty prompt's; behind the weights, and at 1, as they are."""
    all_weights = [*weights, *[1.0] * (len(hidden) - len(weights))]
    moved = torch.lerp(empty, hidden, torch.tensor(all_weights).to(hidden)[:, None])
    plain = torch.tensor([weight == 1 for weight in all_weights], device=hidden.device)
    return torch.where(plain[:, None], hidden, moved)
