"""DreamBooth (arXiv 2208.12242): teach a model a subject from a few pictures and a class noun.

The subject's pictures are called "a NAME NOUN"; pictures of "a NOUN" by the untouched model keep
the class what it was (prior preservation). Works on the bundled pixel model's base and on latent
text-to-image models, as a low-rank adapter or whole.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.errors import SfumatoError
from sfumato.core.noise import keyed
from sfumato.core.schedule import Schedule
from sfumato.methods.cfg import CFG
from sfumato.models.loaders.library import load
from sfumato.models.model import Model
from sfumato.train import checkpoint, exports, origin, report
from sfumato.train.config import Config
from sfumato.train.grids import tiled
from sfumato.train.objective import Objective
from sfumato.train.prior import preserved
from sfumato.train.reads import Reads
from sfumato.train.subject import class_pictures, naming
from sfumato.train.subject.examples import Examples, Rows
from sfumato.train.subject.shots import buckets, digests, fit, read_shots
from sfumato.train.subject.trials import (
    JUDGED,
    LEVELS,
    SHOWN,
    STEPS,
    agreement,
    guidance_of,
    mean_error,
)
from sfumato.train.subject.upsampler import SubjectUpsampler
from sfumato.train.subject.vocabulary import spelled_by, tokens_of, vocabulary_of
from sfumato.train.trainable import Trainable, check
from sfumato.train.tuners import Outcome
from sfumato.train.weighting import Plain

READS = Reads(times=True, denoiser=True, adapter=True, subject=True, classes=True)


log = logging.getLogger("sfumato")

SCENES = ("{}", "blue {}", "{}, blue background")


@dataclass(frozen=True)
class Batch:
    """Rows of the subject, of its class where there is prior preservation, and, for an upsampler,
    of the subject's large pictures."""

    subject: Rows
    classes: Rows | None
    large: Rows | None


class DreamBooth:
    """Implements Tuner."""

    def __init__(self, config: Config, data: Path, folder: Path, device: str) -> None:
        self.config, self.device, self.folder = config, device, folder
        self.seed = config.run.seed
        subject = config.subject
        if not subject.noun.strip():
            raise SfumatoError("dreambooth: no class noun; say what the subject is, such as dog")
        model = self.taught(load(config.model.start or "emoji", device=device, dtype="float32"))
        if model.text is None:
            raise SfumatoError(f"model {model.name}: reads no text, so it cannot learn a name")
        if subject.upsampler and not model.upsamplers:
            raise SfumatoError(f"subject.upsampler: model {model.name} has none; leave it out")
        check(model, config)  # before class pictures are made
        self.shots = read_shots(Path(subject.pictures) if subject.pictures else data)
        self.name = self.called(model)
        words = vocabulary_of(model) if subject.name else ()
        self.tokens = naming.inspected(tokens_of(model), self.name, words, spelled_by(model))
        self.subject_text = model.phrase(subject.wording.format(f"{self.name} {subject.noun}"))
        self.class_text = model.phrase(subject.wording.format(subject.noun))
        self.texts = (self.subject_text, self.class_text, "")
        self._digests = digests(model, self.shots)
        now = origin.of(config, self._digests)
        origin.going_on(folder, now, whole=False)  # before class pictures are made
        sizes = buckets(model.card.native, model.card.multiple)
        of_class = self._class_pictures(model, sizes) if subject.prior else []
        with torch.no_grad():
            self.photos = [fit(shot, sizes).to(device) for shot in self.shots]
            self.states = [model.space.encode(x[None])[0] for x in self.photos]
            self.class_states = [model.space.encode(x.to(device)[None])[0] for x in of_class]
        self.examples = Examples(
            "subject", self.states, [self.subject_text], subject.drop, self.seed
        )
        self.class_examples = None
        if self.class_states:
            texts = [self.class_text]
            self.class_examples = Examples(
                "class", self.class_states, texts, subject.drop, self.seed
            )
        large: Examples | None = None
        if subject.upsampler:
            factor = model.card.factor(2)
            larger = [(factor * width, factor * height) for width, height in sizes]
            photos = [fit(shot, larger).to(device) for shot in self.shots]
            large = Examples("large", photos, [self.subject_text], 0.0, self.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(keyed(f"{self.seed}/adapter"))
            self.trainable = self.trained(model)
        self.upsampler = None
        if large is not None:
            self.upsampler = SubjectUpsampler(self.trainable, config, large, self.subject_text)
        self.trainable.train(True)
        measured = folder / "heldout.csv"
        past = report.read(measured) if measured.exists() else []
        self.best = max((row[report.CHOSEN] for row in past if report.CHOSEN in row), default=-inf)

    def taught(self, model: Model) -> Model:
        """The model that learns, with what it needs to know before."""
        return model

    def called(self, model: Model) -> str:
        """The subject's name."""
        return self.config.subject.name or naming.identifier_of(model, self.seed)

    def trained(self, model: Model) -> Trainable:
        """What of the model is trained."""
        return Trainable(model, self.config, self.texts)

    def write(
        self, folder: Path, average: Mapping[str, Tensor], note: Mapping[str, Any]
    ) -> tuple[Path, str]:
        """What was learned, as files; the one to be named, and a line that says what."""
        return exports.write(self.trainable, folder, average, note)

    def _class_pictures(self, model: Model, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Their pixels (3, H, W) at work sizes."""
        subject = self.config.subject
        if subject.class_folder:
            shots = read_shots(Path(subject.class_folder))
            self._digests |= {f"class picture {shot.name}": shot.digest for shot in shots}
            return [fit(shot, sizes) for shot in shots]
        wanted = class_pictures.wanted_of(self.config, model)
        assert wanted is not None  # there is a prior, and no folder
        self._digests["the class pictures"] = wanted.key
        return [class_pictures.pixels(picture) for picture in wanted.pictures()]

    def parameters(self) -> dict[str, nn.Parameter]:
        return self.trainable.trained

    def digests(self) -> dict[str, str]:
        return self._digests

    def batch(self, step: int, share: slice) -> Batch:
        """B of the subject and, with prior preservation, B of the class."""
        n, times, schedule = self.config.optim.batch, self.config.objective.times, self.schedule
        mine, others = (
            None if examples is None else examples.rows(step, n, share, times, schedule)
            for examples in (self.examples, self.class_examples)
        )
        assert mine is not None
        large = None if self.upsampler is None else self.upsampler.rows(step, share)
        return Batch(mine, others, large)

    @property
    def schedule(self) -> Schedule:
        schedule: Schedule = self.denoiser.schedule
        return schedule

    @property
    def denoiser(self) -> Any:
        return self.trainable.denoiser

    def loss(self, batch: Batch, step: int) -> Outcome:
        torch.manual_seed(keyed(f"{self.seed}/dropout/{step}/{os.environ.get('RANK', '0')}"))
        subject = self.config.subject
        mine, mse = self._weighted(batch.subject, self.config.objective)
        parts = {"subject": mse}
        rows, of_class = [mine], [False] * len(mine)
        if batch.classes is not None:
            objective = self.config.objective
            if not subject.weigh_prior:
                objective = replace(objective, weighting=Plain())
            prior, parts["class"] = self._weighted(batch.classes, objective)
            rows.append(prior)
            of_class += [True] * len(prior)
        total = preserved(torch.cat(rows), of_class, subject.prior, subject.convention)
        if batch.large is not None and self.upsampler is not None:
            loss = self.upsampler.loss(batch.large)
            total, parts["upsampler"] = total + loss.total, float(loss.mse.mean())
        return Outcome(total, parts)

    def _weighted(self, rows: Rows, objective: Objective) -> tuple[Tensor, float]:
        times, importance = zip(*rows.times, strict=True)
        cond = self.trainable.condition(rows.texts)
        loss = objective.at(self.denoiser, rows.x0, cond, rows.noise, times, importance)
        return loss.rows, float(loss.mse.mean())

    def judge(self) -> dict[str, float]:
        """Errors on fixed noise of the subject's and the class's pictures; with a CLIP at hand how
        much the generated pictures are the subject's, the text's, and each other's."""
        self.trainable.train(False)
        measures = {
            f"subject {t:g}": self._error(self.states, self.subject_text, t) for t in LEVELS
        }
        if self.class_states:
            rows = self.class_states[:JUDGED]
            measures |= {f"class {t:g}": self._error(rows, self.class_text, t) for t in LEVELS}
        if self.upsampler is not None:
            measures |= {f"upsampler {t:g}": self.upsampler.error(t) for t in LEVELS}
        measures |= self._agreement()
        self.trainable.train(True)
        return measures

    def _error(self, states: Sequence[Tensor], text: str, t: float) -> float:
        cond = self.trainable.condition([text])
        return mean_error(self.config.objective, self.denoiser, states, lambda x0: cond, t)

    def _agreement(self) -> dict[str, float]:
        clip = self.trainable.model.clip()
        if clip is None:
            return {}
        mine = self._sampled(self.subject_text, JUDGED)
        others = self._sampled(self.class_text, JUDGED)
        photos = [x[None] for x in self.photos]
        measures = agreement(clip, photos, mine, others, self.class_text)
        balance = measures["subject fidelity"] + measures["text fidelity"]
        balance -= measures["class as subject"]
        measures[report.CHOSEN] = balance
        if balance > self.best:
            self.best = balance
            average = dict(self.parameters())
            self.write(self.folder / "best", average, self.note({}))
        return measures

    def _sampled(self, text: str, n: int) -> list[Tensor]:
        """Pictures of a prompt with fixed seeds."""
        model = self.trainable.model
        cond, null = (self.trainable.condition([words]) for words in (text, ""))
        process: Any = model.process(text, n=n, steps=STEPS, stages=1)
        process = replace(process, cond=cond, null=null) | CFG(guidance_of(model))
        loop = process.begin(seed=0)
        x = loop.walk()
        return list(loop.run.decode(cast(Tensor, x)).clamp(-1, 1).split(1))

    def show(self, file: Path) -> None:
        """The subject's pictures; then scenes with its name, and the class alone."""
        self.trainable.train(False)
        size = self.photos[0].shape[-2:]
        photos = torch.cat([F.interpolate(x[None], size) for x in self.photos[: 2 * SHOWN]])
        noun = self.config.subject.noun
        wording = self.config.subject.wording
        prompts = [scene.format(f"{self.name} {noun}") for scene in SCENES]
        prompts = [wording.format(prompt) for prompt in (*prompts, noun)]
        rows = [photos]
        for prompt in prompts:
            text = self.trainable.model.phrase(prompt)
            generated = self._sampled(text, SHOWN)
            rows.append(torch.cat([F.interpolate(x, size) for x in generated]))
        if self.upsampler is not None:
            self.upsampler.show(file.with_name(file.name.replace("grid", "upsampled")))
        self.trainable.train(True)
        checkpoint.put_picture(file, tiled(rows, least=96, labels=["yours", *prompts]))

    def note(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What a file says of itself."""
        subject = self.config.subject
        note: dict[str, Any] = {
            "name": self.name,
            "noun": subject.noun,
            "prompt": self.subject_text,
        }
        note |= {"tokens": self.tokens, "model": self.trainable.model.name, "prior": subject.prior}
        if subject.upsampler:
            note["low_noise"] = subject.low_noise
        note |= {"pictures": [shot.name for shot in self.shots], "training": dict(facts)}
        return note

    def export(self, folder: Path, average: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """Beside the checkpoint, so that `--adapt FOLDER` finds it; and run.json."""
        file, line = self.write(folder.parent, average, self.note(facts))
        log.info("%s", line)
        text = json.dumps({**self.note(facts), "file": line}, indent=1, ensure_ascii=False)
        checkpoint.put_text(folder.parent / "run.json", text)
        return file


def tuner(config: Config, data: Path, folder: Path, device: str) -> DreamBooth:
    """What `tuner = "dreambooth"` in a recipe makes."""
    return DreamBooth(config, data, folder, device)
