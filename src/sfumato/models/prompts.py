"""Prompts to tokens, for networks with a text transformer of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.models.files.spans import Spans, column_spans, trim
from sfumato.models.files.vocabularies import too_long_message


@dataclass(frozen=True, eq=False)
class Prompts:
    """A tokenizer and the network's context length; "" is the null condition.

    cut: shorten what is too long instead of refusing it (training's composed captions).
    """

    tokenizer: Tokenizer
    context: int
    pad: int = 0
    cut: bool = False

    def __call__(self, texts: Sequence[str], beside: Sequence[str] = ()) -> Cond:
        """tokens (B, context) int64 and mask (B, context) bool, true on real tokens.

        beside: other texts of the run, which change nothing since all have the same length.
        """
        tokens = torch.full((len(texts), self.context), self.pad)
        mask = torch.zeros(len(texts), self.context, dtype=torch.bool)
        for row, text in enumerate(texts):
            ids = self.tokenizer.encode(text).ids if text.strip() else []
            ids = ids[: self.context] if self.cut else ids
            if len(ids) > self.context:
                raise SfumatoError(too_long_message(text, len(ids), self.context))
            tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
            mask[row, : len(ids)] = True
        return Cond({"tokens": tokens, "mask": mask})

    def spans(self, text: str, beside: Sequence[str] = ()) -> Spans:
        """Which characters stand behind each column."""
        pairs = self.tokenizer.encode(text).offsets if text.strip() else []
        return column_spans(trim(pairs, text), self.context)


def labels(label: int | None, n: int, classes: int | None, name: str) -> dict[str, Tensor]:
    """n rows of a class label, for a model that knows so many classes; name: of the model."""
    if label is not None and not (classes and 0 <= label < classes):
        known = f"0 to {classes - 1}" if classes else "none, it is not class-conditional"
        raise SfumatoError(f"label {label}: model {name} knows {known}")
    if classes and label is None:
        raise SfumatoError(f"label: model {name} needs one, 0 to {classes - 1}")
    return {} if label is None else {"label": torch.full((n,), label)}
