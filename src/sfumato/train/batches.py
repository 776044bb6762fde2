"""What every tuner reads: the pictures of a recipe, their captions and tokens, keyed noise."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.core.noise import keyed
from sfumato.models.files import vocabularies
from sfumato.models.prompts import Prompts
from sfumato.train import checkpoint, origin, warm_start
from sfumato.train.config import Config
from sfumato.train.data import store
from sfumato.train.data.captions import Wording
from sfumato.train.data.compose import Composer, Mix, Plan


class Batches:
    """Batches by step number, and fixed pictures to judge by.

    tests: training pictures, then held-out ones where the data has any: rows of the store that
    stay the same, their pixels (N, 3, S, S) in [-1, 1] and plain captions.
    """

    def __init__(self, config: Config, data: Path, folder: Path, device: str) -> None:
        self.config, self.device = config, device
        self.seed = config.run.seed
        styles = [name for name, _ in config.mix.styles]
        wanted: dict[str, Any] = {"size": config.data.size, "styles": styles}
        wanted["without"] = config.data.without
        train = store.read(data, split=config.data.split, **wanted).to(device)
        self.composer = Composer(train, config.mix, config.wording, self.seed)
        self._folder = folder
        self.tests = [TestSet(train, config.data.size)]
        if train.styles[0] and config.data.split == "train":
            held = store.read(data, split="test", **wanted).to(device)
            self.tests.append(TestSet(held, config.data.size))

    @cached_property
    def tokenizer_file(self) -> Path:
        """The run's tokenizer: a given one, maybe with Korean pieces added, or a new one; made anew
        until there is a checkpoint that was trained with it."""
        file, concepts = self._folder / origin.TOKENIZER, self.composer.store.concepts
        if not (file.exists() and (file.parent / origin.CHECKPOINT).exists()):
            model = self.config.model
            if model.tokenizer:
                words = warm_start.tokenizer_of(model.tokenizer)
                tokenizer = warm_start.extended(words, concepts, model.vocabulary)
            else:
                tokenizer = warm_start.tokenizer(concepts, model.vocabulary)
            part = file.with_suffix(f".{os.getpid()}.part")  # of each process of a run
            try:
                with checkpoint.writing(file):
                    file.parent.mkdir(parents=True, exist_ok=True)
                    part.write_bytes(tokenizer.to_str(pretty=True).encode())
                    part.replace(file)
            finally:
                part.unlink(missing_ok=True)
        return file

    def digests(self, words: bool = False) -> dict[str, str]:
        """Of the pictures with their captions, and of the tokenizer."""
        digests = self.composer.store.digests()
        if words:
            digests |= origin.tokenizer(self.tokenizer_file.parent)
        return digests

    def prompts(self, context: int, vocabulary: int) -> Prompts:
        """Captions to tokens, cut where they are too long; the network knows `vocabulary`."""
        prompts = Prompts(vocabularies.read_tokenizer(self.tokenizer_file), context, cut=True)
        if (size := prompts.tokenizer.get_vocab_size()) > vocabulary:
            raise SfumatoError(
                f"model.network: knows {vocabulary} tokens, the tokenizer has {size}; give it as "
                "many, or a smaller model.vocabulary"
            )
        return prompts

    def plans(self, step: int, share: slice) -> list[Plan]:
        return self.composer.plans(step, self.config.optim.batch)[share]

    def pixels(self, plans: Sequence[Plan]) -> Tensor:
        return self.composer.render(plans, self.config.data.size)

    def rng(self, purpose: str, step: int) -> Random:
        return Random(keyed(f"{self.seed}/{purpose}/{step}"))

    def randn(self, shape: tuple[int, ...], purpose: str, step: int) -> Tensor:
        """Standard normal numbers of a purpose and step, drawn on the device."""
        generator = torch.Generator(self.device)
        generator.manual_seed(keyed(f"{self.seed}/{purpose}/{step}"))
        return torch.randn(shape, generator=generator, device=self.device)


class TestSet:
    """Up to 160 plain pictures with their plain captions, the same at every measure."""

    def __init__(self, pictures: store.Store, size: int) -> None:
        rng = Random(keyed("judge"))
        chosen = sorted(rng.sample(range(len(pictures)), k=min(160, len(pictures))))
        still = Mix(hue=0, background=0, pair=0, small=0, jitter=0)
        plain = Composer(pictures, still, Wording())
        self.concepts = [pictures.concepts[row] for row in chosen]
        self.styles = [pictures.styles[row] for row in chosen]
        style_names = [store.STYLES.get(style, ("",))[0] for style in self.styles]
        self.texts = [
            ", ".join(part for part in (concept.label, style) if part)
            for concept, style in zip(self.concepts, style_names, strict=True)
        ]
        self.pixels = plain.render([plain.still(row) for row in chosen], size)
