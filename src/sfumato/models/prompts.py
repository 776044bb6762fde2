"""Prompts to tokens, for networks with a text transformer of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.models.vocabularies import too_long


class Prompts:
    """A tokenizer.json and the network's context length; "" is the null condition.

    cut: shorten what is too long instead of refusing it (training's composed captions).
    """

    def __init__(self, file: Path, context: int, pad: int = 0, cut: bool = False) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(file))
        self.context = context
        self.pad = pad
        self.cut = cut

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
                raise SfumatoError(too_long(text, len(ids), self.context))
            tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
            mask[row, : len(ids)] = True
        return Cond({"tokens": tokens, "mask": mask})
