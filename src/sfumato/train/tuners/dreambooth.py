"""DreamBooth (arXiv 2208.12242): teach a model a subject from a few pictures and a class noun.

The subject's pictures are called "a NAME NOUN"; pictures of "a NOUN" by the untouched model keep
the class what it was (prior preservation). Works on the bundled pixel model's base and on latent
text-to-image models, as a low-rank adapter or whole.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from random import Random
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.core.noise import keyed
from sfumato.core.schedule import Schedule
from sfumato.methods.cfg import CFG
from sfumato.metrics import fidelity
from sfumato.models import encoders
from sfumato.models.cascade import quantised
from sfumato.models.loaders.library import load
from sfumato.models.model import Model
from sfumato.models.prompts import Prompts
from sfumato.train import checkpoint, origin, report, super_resolution
from sfumato.train.batches import tiled
from sfumato.train.config import Config
from sfumato.train.objective import Loss, Objective
from sfumato.train.subject import class_pictures, naming
from sfumato.train.subject.album import Album, Rows
from sfumato.train.subject.prior import preserved
from sfumato.train.subject.shots import Shot, buckets, fit, read_shots
from sfumato.train.trainable import Tuned
from sfumato.train.tuners import Outcome
from sfumato.train.weighting import Plain

log = logging.getLogger("sfumato")

LEVELS = (0.125, 0.375, 0.625, 0.875)
SCENES = ("{}", "blue {}", "{}, blue background")
SHOWN, JUDGED, STEPS = 4, 8, 16


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
        given = config.subject
        if not given.noun.strip():
            raise SfumatoError("dreambooth: no class noun; say what the subject is, such as dog")
        model = load(config.model.start or "emoji", device=device, dtype="float32")
        if model.text is None:
            raise SfumatoError(f"model {model.name}: reads no text, so it cannot learn a name")
        if given.upsampler and not model.upsamplers:
            raise SfumatoError(f"subject.upsampler: model {model.name} has none; leave it out")
        self.shots = read_shots(Path(given.pictures) if given.pictures else data)
        self.name = given.name or named(model, self.seed)
        known = vocabulary_of(model) if given.name else ()
        self.tokens = naming.inspected(tokens_of(model), self.name, known, spelled_by(model))
        self.spoken = model.phrase(given.wording.format(f"{self.name} {given.noun}"))
        self.class_text = model.phrase(given.wording.format(given.noun))
        self.texts = (self.spoken, self.class_text, "")
        self.read = digests(model, self.shots)
        seen = origin.of(config, self.read)
        origin.going_on(folder, seen, whole=False)  # before class pictures are made
        sizes = buckets(model.card.native, model.card.multiple)
        of_class = self._class_pictures(model, sizes) if given.prior else []
        with torch.no_grad():
            fitted = [fit(shot, sizes).to(device) for shot in self.shots]
            self.rows = [model.space.encode(x[None])[0] for x in fitted]
            self.class_rows = [model.space.encode(x.to(device)[None])[0] for x in of_class]
        self.real = fitted
        self.album = Album("subject", self.rows, [self.spoken], given.drop, self.seed)
        self.class_album = None
        if self.class_rows:
            texts = [self.class_text]
            self.class_album = Album("class", self.class_rows, texts, given.drop, self.seed)
        self.large_album = None
        if given.upsampler:
            factor = model.card.factor(2)
            larger = [(factor * width, factor * height) for width, height in sizes]
            large = [fit(shot, larger).to(device) for shot in self.shots]
            self.large_album = Album("large", large, [self.spoken], 0.0, self.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(keyed(f"{self.seed}/adapter"))
            self.tuned = Tuned(model, config, self.texts)
        self.tuned.train(True)
        measured = folder / "heldout.csv"
        past = report.read(measured) if measured.exists() else []
        self.best = max((row[report.CHOSEN] for row in past if report.CHOSEN in row), default=-inf)

    def _class_pictures(self, model: Model, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Their pixels (3, H, W) at work sizes."""
        given = self.config.subject
        if given.class_folder:
            shots = read_shots(Path(given.class_folder))
            self.read |= {f"class picture {shot.name}": shot.digest for shot in shots}
            return [fit(shot, sizes) for shot in shots]
        at_once = self.config.optim.batch
        wanted = class_pictures.Wanted(
            model, self.class_text, given.class_pictures, self.seed, at_once
        )
        self.read["the class pictures"] = wanted.key
        return [class_pictures.pixels(picture) for picture in wanted.made()]

    def parameters(self) -> dict[str, nn.Parameter]:
        return self.tuned.trained

    def digests(self) -> dict[str, str]:
        return self.read

    def batch(self, step: int, share: slice) -> Batch:
        """B of the subject and, with prior preservation, B of the class."""
        n, times, schedule = self.config.optim.batch, self.config.objective.times, self.schedule
        mine, others = (
            None if album is None else album.rows(step, n, share, times, schedule)
            for album in (self.album, self.class_album)
        )
        assert mine is not None
        large = None
        if self.large_album is not None:
            levels = self.upsampler.schedule
            large = self._cut(self.large_album.rows(step, n, share, times, levels), step, share)
        return Batch(mine, others, large)

    def _cut(self, rows: Rows, step: int, share: slice) -> Rows:
        """Random squares of the large pictures and of their noise."""
        side = min(self.config.subject.crop, *rows.x0.shape[-2:])
        rng, n = Random(keyed(f"{self.seed}/crop/{step}")), self.config.optim.batch
        places = super_resolution.corners(rows.x0.shape, side, self.factor, n, rng)[share]
        x0, noise = (
            super_resolution.cut(pictures, side, places) for pictures in (rows.x0, rows.noise)
        )
        return replace(rows, x0=x0, noise=noise)

    @property
    def upsampler(self) -> Any:
        return self.tuned.model.upsamplers[0]

    @property
    def factor(self) -> int:
        """How much larger the first upsampler's pictures are than the base's."""
        return self.tuned.model.card.factor(2)

    @property
    def schedule(self) -> Schedule:
        found: Schedule = self.denoiser.schedule
        return found

    @property
    def denoiser(self) -> Any:
        return self.tuned.denoiser

    def loss(self, batch: Batch, step: int) -> Outcome:
        torch.manual_seed(keyed(f"{self.seed}/dropout/{step}/{os.environ.get('RANK', '0')}"))
        given = self.config.subject
        mine, mse = self._weighted(batch.subject, self.config.objective)
        parts = {"subject": mse}
        rows, of_class = [mine], [False] * len(mine)
        if batch.classes is not None:
            objective = self.config.objective
            if not given.weigh_prior:
                objective = Objective(objective.times, Plain(), objective.norm, objective.vb)
            prior, parts["class"] = self._weighted(batch.classes, objective)
            rows.append(prior)
            of_class += [True] * len(prior)
        total = preserved(torch.cat(rows), of_class, given.prior, given.convention)
        if batch.large is not None:
            loss = self._sharpened(batch.large)
            total, parts["upsampler"] = total + loss.total, float(loss.mse.mean())
        return Outcome(total, parts)

    def _sharpened(self, rows: Rows) -> Loss:
        """The upsampler's loss on large pictures and what small ones keep of them.

        Small ones are rounded to 8 bits, as between the stages of a run.
        """
        small = quantised(F.avg_pool2d(rows.x0, self.factor))
        low = small + self.config.subject.low_noise * torch.randn(small.shape).to(small)
        times, importance = zip(*rows.times, strict=True)
        cond = self._low(low, rows.texts)
        return self.config.objective.at(
            self.upsampler, rows.x0, cond, rows.noise, times, importance
        )

    def _weighted(self, rows: Rows, objective: Objective) -> tuple[Tensor, float]:
        times, importance = zip(*rows.times, strict=True)
        cond = self.tuned.condition(rows.texts)
        loss = objective.at(self.denoiser, rows.x0, cond, rows.noise, times, importance)
        return loss.rows, float(loss.mse.mean())

    def judge(self) -> dict[str, float]:
        """Errors on fixed noise of the subject's and the class's pictures; with a CLIP at hand how
        much the made pictures are the subject's, the text's, and each other's."""
        self.tuned.train(False)
        made = {f"subject {t:g}": self._error(self.rows, self.spoken, t) for t in LEVELS}
        if self.class_rows:
            rows = self.class_rows[:JUDGED]
            made |= {f"class {t:g}": self._error(rows, self.class_text, t) for t in LEVELS}
        if self.large_album is not None:
            made |= {f"upsampler {t:g}": self._blur(t) for t in LEVELS}
        made |= self._agreement()
        self.tuned.train(True)
        return made

    def _blur(self, t: float) -> float:
        """The upsampler's error on fixed noise of the subject's large pictures, whole."""
        assert self.large_album is not None
        total = 0.0
        for k, x0 in enumerate(self.large_album.states):
            small = quantised(F.avg_pool2d(x0[None], self.factor))
            cond = self._low(small, [self.spoken])
            noise = self._fixed(x0, k, t)
            total += float(self.config.objective.at(self.upsampler, x0[None], cond, noise, [t]).mse)
        return total / len(self.large_album.states)

    def _low(self, small: Tensor, texts: Sequence[str]) -> Cond:
        """What the upsampler reads: the small pictures, and of GLIDE's the words too."""
        words = self.tuned.condition(texts) if self.upsampler.network.config.xf_width else {}
        return Cond({**words, "low_res": small})

    def _fixed(self, state: Tensor, k: int, t: float) -> Tensor:
        generator = torch.Generator(self.device)
        generator.manual_seed(keyed(f"judge/{k}/{t}"))
        return torch.randn(state[None].shape, generator=generator, device=self.device)

    def _error(self, states: Sequence[Tensor], text: str, t: float) -> float:
        total = 0.0
        for k, x0 in enumerate(states):
            noise, cond = self._fixed(x0, k, t), self.tuned.condition([text])
            total += float(self.config.objective.at(self.denoiser, x0[None], cond, noise, [t]).mse)
        return total / len(states)

    def _agreement(self) -> dict[str, float]:
        clip = self.tuned.model.clip()
        if clip is None:
            return {}
        real = self._seen(clip, [x[None] for x in self.real])
        mine = self._seen(clip, self._sampled(self.spoken, JUDGED))
        others = self._seen(clip, self._sampled(self.class_text, JUDGED))
        said = clip.text([self.class_text]).expand(len(mine), -1)
        found = {
            "subject fidelity": float(fidelity.subject_fidelity(mine, real).mean()),
            "text fidelity": float(fidelity.prompt_fidelity(mine, said).mean()),
            "class as subject": float(fidelity.pres(others, real).mean()),
            "diversity": fidelity.diversity(1 - mine @ mine.T),
        }
        balance = found["subject fidelity"] + found["text fidelity"] - found["class as subject"]
        found[report.CHOSEN] = balance
        if balance > self.best:
            self.best = balance
            self.tuned.export(self.folder / "best", dict(self.parameters()), self.note({}))
        return found

    def _seen(self, clip: Any, pictures: Sequence[Tensor]) -> Tensor:
        """A CLIP's vectors of pictures (1, 3, H, W) in [-1, 1]."""
        sides = (clip.size, clip.size)
        sized = [F.interpolate(x, sides, mode="bilinear", antialias=True) for x in pictures]
        whole = torch.cat(sized)
        vectors: Tensor = clip.image(whole, torch.zeros(len(whole), device=whole.device))
        return vectors

    def _sampled(self, text: str, n: int) -> list[Tensor]:
        """Pictures of a prompt with fixed seeds."""
        model = self.tuned.model
        cond, null = (self.tuned.condition([words]) for words in (text, ""))
        process: Any = model.process(text, n=n, steps=STEPS, stages=1)
        process = replace(process, cond=cond, null=null) | CFG(guidance_of(model))
        loop = process.begin(seed=0)
        x = loop.walk()
        return list(loop.run.decode(cast(Tensor, x)).clamp(-1, 1).split(1))

    def show(self, file: Path) -> None:
        """The subject's pictures; then scenes with its name, and the class alone."""
        self.tuned.train(False)
        size = self.real[0].shape[-2:]
        real = torch.cat([F.interpolate(x[None], size) for x in self.real[: 2 * SHOWN]])
        noun = self.config.subject.noun
        around = self.config.subject.wording
        prompts = [scene.format(f"{self.name} {noun}") for scene in SCENES]
        prompts = [around.format(prompt) for prompt in (*prompts, noun)]
        rows = [real]
        for prompt in prompts:
            text = self.tuned.model.phrase(prompt)
            made = self._sampled(text, SHOWN)
            rows.append(torch.cat([F.interpolate(x, size) for x in made]))
        if self.large_album is not None:
            self._upsampled(file.with_name(file.name.replace("grid", "upsampled")))
        self.tuned.train(True)
        with checkpoint.beside(file) as part:
            tiled(rows, least=96, labels=["yours", *prompts]).save(part, "PNG")

    def _upsampled(self, file: Path) -> None:
        """The subject's own pictures, from small ones, above the true ones."""
        assert self.large_album is not None
        size, rows = self.large_album.states[0].shape[-2:], []
        for x0 in self.large_album.states[: 2 * SHOWN]:
            small = quantised(F.avg_pool2d(x0[None], self.factor))
            process: Any = self.tuned.model.upsampler(0)
            cond = self._low(small, [self.spoken])
            made = replace(process, cond=cond, shape=tuple(x0.shape)).sample(seed=0)
            rows.append(F.interpolate(torch.cat([made, x0[None]]), size))
        columns = list(torch.stack(rows, dim=1))
        with checkpoint.beside(file) as part:
            tiled(columns, least=int(size[-1]), labels=["made", "yours"]).save(part, "PNG")

    def note(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What a file says of itself."""
        given = self.config.subject
        said: dict[str, Any] = {"name": self.name, "noun": given.noun, "prompt": self.spoken}
        said |= {"tokens": self.tokens, "model": self.tuned.model.name, "prior": given.prior}
        if given.upsampler:
            said["low_noise"] = given.low_noise
        said |= {"pictures": [shot.name for shot in self.shots], "training": dict(facts)}
        return said

    def export(self, folder: Path, average: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """Beside the checkpoint, so that `--adapt FOLDER` finds it; and run.json."""
        file, line = self.tuned.export(folder.parent, average, self.note(facts))
        log.info("%s", line)
        text = json.dumps({**self.note(facts), "file": line}, indent=1, ensure_ascii=False)
        checkpoint.put_text(folder.parent / "run.json", text)
        return file


def named(model: Model, seed: int) -> str:
    """A rare word of the model's tokenizer, the same whenever the run is started again."""
    return naming.pick_identifier(tokens_of(model), vocabulary_of(model), seed)


def digests(model: Model, shots: Sequence[Shot]) -> dict[str, str]:
    """Of the model that learns and of the subject's pictures."""
    return {"the model": model.weights[:24]} | {
        f"picture {shot.name}": shot.digest[:24] for shot in shots
    }


def guidance_of(model: Model) -> float:
    """The card's guidance scale."""
    scales = [m["scale"] for m in model.card.defaults.methods if m.get("method") == "cfg"]
    return float(scales[0]) if scales else 1.0


def tokens_of(model: Model) -> naming.Tokens:
    """The model's tokenizer as a function; of several encoders the first one's."""
    text = model.text
    if isinstance(text, encoders.Encoders):
        return text.encoders[0].tokens
    tokenizer: Any = text
    return lambda words: list(tokenizer.tokenizer.encode(words).ids)


def spelled_by(model: Model) -> Callable[[int], str]:
    """What a token of the model's stands for."""
    text: Any = model.text
    if isinstance(text, encoders.Encoders):
        read: Any = text.encoders[0].tokenizer
        return lambda k: str(read.convert_ids_to_tokens(k)).removesuffix("</w>")
    return lambda k: str(text.tokenizer.decode([k])).strip()


def vocabulary_of(model: Model) -> list[str]:
    """Whole words of the tokenizer, common ones first."""
    text = model.text
    if isinstance(text, encoders.Encoders):
        known = text.encoders[0].tokenizer.get_vocab()
        ends = {word.removesuffix("</w>"): i for word, i in known.items() if word.endswith("</w>")}
    else:
        assert isinstance(text, Prompts) or hasattr(text, "tokenizer")
        known = cast(Any, text).tokenizer.get_vocab()
        ends = {word.removeprefix("Ġ"): i for word, i in known.items() if word.startswith("Ġ")}
    return sorted(ends, key=lambda word: ends[word])


def tuner(config: Config, data: Path, folder: Path, device: str) -> DreamBooth:
    """What `tuner = "dreambooth"` in a recipe makes."""
    return DreamBooth(config, data, folder, device)
