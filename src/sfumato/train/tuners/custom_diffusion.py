"""Custom Diffusion (arXiv 2212.04488): a new word, and how attention reads text; nothing else.

Trained are the keys and values that attention makes of the text, as a low-rank change, and the
vectors of the subject's name; pictures of the class keep it what it was. What carries a picture's
layout stays as it is, so that edits of pictures keep theirs (Custom-Edit, arXiv 2305.15779). On a
latent model the name is a new word beside the vocabulary, on ours a rare one whose rows learn.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sfumato.core.errors import SfumatoError
from sfumato.models.encoders import Encoders
from sfumato.models.model import Model
from sfumato.nn import lora
from sfumato.train import checkpoint, exports
from sfumato.train.config import Config
from sfumato.train.reads import Reads
from sfumato.train.subject import naming, new_word
from sfumato.train.trainable import Trainable
from sfumato.train.tuners.dreambooth import DreamBooth

READS = Reads(times=True, denoiser=True, adapter=True, subject=True, classes=True, word=True)


log = logging.getLogger("sfumato")

TARGETS = ("text_kv",)
ROWS = "unet.token_embedding.rows"


class CustomDiffusion(DreamBooth):
    """Implements Tuner."""

    def __init__(self, config: Config, data: Path, folder: Path, device: str) -> None:
        adapter = config.adapter
        if not adapter.rank:
            raise SfumatoError(
                "custom_diffusion: adapter.rank is 0; keys and values are trained as a low-rank "
                "change, so give one"
            )
        if adapter.targets not in (TARGETS, type(adapter)().targets):
            raise SfumatoError(
                "custom_diffusion: adapter.targets: it trains text_kv alone; leave them out"
            )
        self.words: dict[str, nn.Parameter] = {}
        self.rows: lora.Rows | None = None
        config = replace(config, adapter=replace(adapter, targets=TARGETS))
        super().__init__(config, data, folder, device)

    def taught(self, model: Model) -> Model:
        """A latent model with the new word, whose vectors start as a rare word's."""
        subject = self.config.subject
        if not isinstance(model.text, Encoders):
            if subject.vectors > 1:
                raise SfumatoError(
                    f"subject.vectors: model {model.name} learns the rows of a word that it has; "
                    "leave it out"
                )
            return model
        rare = naming.identifier_of(model, self.config.run.seed)
        for k, encoder in enumerate(model.text.encoders):
            key = f"{self.config.run.seed}/word/{k}"
            vectors = new_word.start(encoder, rare, subject.vectors, key)
            self.words[f"word.{k}"] = nn.Parameter(vectors)
        word = new_word.word_of(model.text, subject)
        return new_word.taught(model, word, _plain(self.words))

    def called(self, model: Model) -> str:
        if isinstance(model.text, Encoders):
            return new_word.word_of(model.text, self.config.subject)
        return super().called(model)

    def trained(self, model: Model) -> Trainable:
        trainable = Trainable(model, self.config, self.texts, self.words)
        if trainable.own:
            table: Any = trainable.net.get_submodule("token_embedding")
            self.rows = lora.attach_rows(table, sorted(set(self.tokens)))
            trainable.trained[ROWS] = self.rows.added
        return trainable

    def write(
        self, folder: Path, average: Mapping[str, Tensor], note: Mapping[str, Any]
    ) -> tuple[Path, str]:
        """One adapter of ours; of a latent model the LoRA files, and the word's beside them."""
        layers = {name: v for name, v in average.items() if name not in (ROWS, *self.words)}
        if self.rows is not None:
            adapter, stem = self.config.adapter, ROWS.removesuffix("rows")
            table: Any = self.trainable.net.get_submodule("token_embedding")
            pair = self.rows.pair(average[ROWS], len(table.weight), adapter.alpha / adapter.rank)
            layers |= {f"{stem}{part}": value for part, value in pair.items()}
        file, line = exports.write(self.trainable, folder, layers, note)
        if self.words:
            vectors = _plain({name: average[name] for name in self.words})
            for name, tensors in new_word.files(self.name, vectors).items():
                checkpoint.put(folder / name, tensors, {"format": "pt"})
                line = f"{line}; {name}: the word {self.name}"
        return file, line

    def note(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        note = super().note(facts)
        if self.words:
            (note["word"],) = new_word.files(self.name, _plain(self.words))
        return note


def _plain(words: Mapping[str, Any]) -> dict[str, Any]:
    """By "0", "1", as encoders are numbered."""
    return {name.removeprefix("word."): vectors for name, vectors in words.items()}


def tuner(config: Config, data: Path, folder: Path, device: str) -> CustomDiffusion:
    """What `tuner = "custom_diffusion"` in a recipe makes."""
    return CustomDiffusion(config, data, folder, device)
