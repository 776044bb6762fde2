"""Class pictures of prior preservation: made once by the untouched model, kept, checked, reused.

The cache's key names everything that makes them; picture i comes from its own seed, in batches that
are always the same, so that what was made before and what is made now are equal bit for bit.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato import images
from sfumato.core.errors import SfumatoError
from sfumato.core.noise import keyed
from sfumato.documents import read_json
from sfumato.home import home
from sfumato.images import Picture
from sfumato.models.encoders import Encoders
from sfumato.models.files.hashes import file_digest
from sfumato.models.model import Model
from sfumato.train import checkpoint
from sfumato.train.config import Config

log = logging.getLogger("sfumato")

PAUSE = 5.0  # seconds between lines about how far it is
MADE = "made.json"  # digests of the pictures that were made, by file name


@dataclass(frozen=True, eq=False)
class Wanted:
    """count pictures of the text, at the base's own size, with the card's sampler and guidance;
    at_once: how many are made together, as many as are trained together."""

    model: Model
    text: str
    count: int
    seed: int
    at_once: int

    @cached_property
    def process(self) -> Any:
        return self.model.process(self.text, stages=1)

    @cached_property
    def folder(self) -> Path:
        """The cache's folder for these pictures."""
        return home() / "classes" / self.key

    @cached_property
    def key(self) -> str:
        """Digest of all that makes them: weights, adapters, number format, card, schedule, tokens,
        and everything that the recipe says."""
        asked = json.loads(self.model.asked(self.process, self.seed).to_json())
        asked.pop("versions", None)
        denoiser = self.model.denoiser
        sources = {
            "weights": self.model.weights,
            "dtype": self.model.choice.dtype,
            "recipe": asked,
            "card": asdict(self.model.card),
            "reading": [denoiser.kind, denoiser.learned_range, denoiser.sigma_data],
            "levels": _levels(self.model),
            "tokens": _tokens(self.model, (self.text, "")),
            "together": self.at_once,
        }
        text = json.dumps(sources, sort_keys=True, default=str)
        return sha256(text.encode()).hexdigest()[:24]

    def pictures(self) -> list[Picture]:
        """The pictures, those that are missing made now."""
        digests = self._known()
        pictures = [self._kept(i, digests) for i in range(self.count)]
        wanted = [i for i, picture in enumerate(pictures) if picture is None]
        if wanted:
            log.info("%d pictures of %r are made by the untouched model", len(wanted), self.text)
            _folder(self.folder)
        done, reported = 0, time.monotonic()
        for first in self._firsts(wanted):
            result = self.batch.sample(seed=self.seed_of(first))
            for i, image in enumerate(result.images, first):
                if i >= self.count or pictures[i] is not None:
                    continue
                self._keep(i, Picture.of(image).encode("PNG"), digests)
                pictures[i] = self._kept(i, digests)
                done += 1
            if time.monotonic() - reported > PAUSE or done == len(wanted):
                reported = time.monotonic()
                log.info("class pictures: %d of %d", done, len(wanted))
        if any(picture is None for picture in pictures):
            raise SfumatoError(f"{self.folder}: class pictures could not be kept; free some space")
        return [picture for picture in pictures if picture is not None]

    def missing(self) -> list[int]:
        """Which of the pictures are not there yet, damaged, or not those that were made."""
        digests = self._known()
        return [i for i in range(self.count) if self._kept(i, digests) is None]

    @property
    def batch(self) -> Any:
        """What makes `at_once` of them."""
        return self.process.based(n=self.at_once)

    def seed_of(self, first: int) -> int:
        """Seed of the batch that begins with this picture."""
        return int(keyed(f"{self.seed}/class") % 2**30 + first)

    def batches(self) -> list[int]:
        """The first pictures of the batches that are missing, whole or in part."""
        return self._firsts(self.missing())

    def _firsts(self, wanted: Sequence[int]) -> list[int]:
        return sorted({i // self.at_once * self.at_once for i in wanted})

    def keep(self, pictures: Mapping[int, bytes]) -> None:
        """Take pictures, as PNG files, that such batches have made elsewhere."""
        digests = self._known()
        _folder(self.folder)
        for i, data in pictures.items():
            if i < self.count:
                self._keep(i, data, digests)

    def _keep(self, i: int, data: bytes, digests: dict[str, str]) -> None:
        name = f"{i:04d}.png"
        with checkpoint.beside(self.folder / name) as part:
            part.write_bytes(data)
        digests[name] = file_digest(self.folder / name)
        checkpoint.put_text(self.folder / MADE, json.dumps(digests, indent=0))

    def _known(self) -> dict[str, str]:
        try:
            return read_json(dict[str, str], self.folder / MADE)
        except SfumatoError:
            return {}

    def _kept(self, i: int, digests: dict[str, str]) -> Picture | None:
        """Picture i of the cache, None where it is missing or is not what was made."""
        name = f"{i:04d}.png"
        try:
            picture = images.open_image(self.folder / name)
        except SfumatoError:
            return None
        whole = picture.size == self.model.card.native and picture.sha256 == digests.get(name)
        return picture if whole else None


def wanted_of(config: Config, model: Model) -> Wanted | None:
    """What a recipe's training makes; None where it has none, or is given some."""
    subject = config.subject
    if not subject.prior or subject.class_folder or not config.reads.classes:
        return None
    text = model.phrase(subject.wording.format(subject.noun))
    return Wanted(model, text, subject.class_pictures, config.run.seed, config.optim.batch)


def _folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SfumatoError(
            f"{folder}: cannot be made ({error.strerror}); free some space"
        ) from None


def _levels(model: Model) -> str:
    """The noise schedule and what the network is told of it."""
    denoiser = model.denoiser
    times = [(k + 1) / 64 for k in range(64)]
    schedule = denoiser.schedule
    return repr([(schedule.alpha(t), schedule.sigma(t), denoiser.time(t)) for t in times])


def _tokens(model: Model, texts: tuple[str, ...]) -> list[list[int]]:
    """What the texts are to the model."""
    text: Any = model.text
    if isinstance(text, Encoders):
        return [list(encoder.tokens(each)) for encoder in text.encoders for each in texts]
    return [list(text.tokenizer.encode(each).ids) for each in texts]


def pixels(picture: Picture) -> Tensor:
    """(3, H, W) in [-1, 1]."""
    values = np.asarray(images.flattened(picture, "white")).astype(np.float32)
    return torch.from_numpy(values / np.float32(127.5) - 1).permute(2, 0, 1).contiguous()
