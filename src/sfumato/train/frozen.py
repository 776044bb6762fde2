"""A frozen model with a tap beside it that learns: its batches, its loss, what it draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from sfumato.core.context import Call
from sfumato.core.denoiser import Cond, Network, traits
from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.inversion import Inversion, Inverted
from sfumato.core.mixture import Branch
from sfumato.core.noise import Seeded, keyed
from sfumato.core.process import Process
from sfumato.core.taps import Entry, Site, Tap, Taps, sites_of
from sfumato.methods.threshold import Clamp
from sfumato.models.loaders.library import load
from sfumato.train.batches import Batches, TestSet
from sfumato.train.captioned import cutting
from sfumato.train.config import Config
from sfumato.train.data.compose import Plan
from sfumato.train.objective import Loss, check_trainable
from sfumato.train.subject.trials import LEVELS, guidance_of

STEPS = 12
JUDGED = 32
"""Pictures of a test whose errors are measured."""
RARE = 200
"""Captions that are looked through for each one that says a word."""


@dataclass(frozen=True)
class Batch:
    """Pictures (B, 3, S, S) in [-1, 1], their states and noise, texts, and times."""

    pixels: Tensor
    x0: Tensor
    noise: Tensor
    texts: list[str]
    times: list[float]
    importance: list[float] | None = None


@dataclass(frozen=True, eq=False)
class Tapped:
    """A network with a tap on all rows of every call."""

    network: Network
    tap: Tap
    call: Call

    @property
    def config(self) -> object:
        return traits(self.network)

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
        entry = Entry(self.tap, slice(0, len(x)), self.call)
        return Taps((entry,)).run(self.network, x, time, Cond(cond))


@dataclass(eq=False)
class Bottleneck(Tap):
    """Notes the bottleneck of the last call."""

    h: Tensor | None = None

    def at(self, site: Site) -> bool:
        return site.kind == "middle"

    def feature(self, h: Tensor, site: Site, call: Call) -> Tensor:
        self.h = h
        return h


def bottleneck(process: Process, x: Tensor | None = None, t: float = 1.0) -> Tensor:
    """The bottleneck (B, C, h, w) of a process's network at states x of level t; none: at noise."""
    look = Bottleneck()
    with torch.no_grad():
        for _ in replace(process, spacing=(t, t / 2), n_steps=None).add(taps=(look,)).steps(x):
            pass
    assert look.h is not None
    return look.h


class Frozen:
    """The model that a recipe's model.start names, in float32, and the pictures of its data."""

    def __init__(self, config: Config, data: Path, folder: Path, device: str) -> None:
        self.config, self.device = config, device
        self.model = load(config.model.start or "emoji", device=device, dtype="float32")
        self.denoiser = self.model.denoiser
        check_trainable(self.denoiser)
        sites_of(self.denoiser.network, Tap())
        side, multiple = config.data.size, self.model.card.multiple
        if side % multiple:
            raise SfumatoError(
                f"data.size = {side}: {self.model.name} takes multiples of {multiple}"
            )
        if self.model.text is None:
            raise SfumatoError(f"model.start {self.model.name}: reads no text; take one that does")
        self.model = cutting(self.model)
        self.batches = Batches(config, data, folder, device)
        schedule = self.denoiser.schedule
        self.call = Call(1.0, 0.0, 0, (1.0, 0.0), schedule, 0, Seeded(config.run.seed), {})
        self._alone: dict[str, float] = {}

    def digests(self) -> dict[str, str]:
        """Of the pictures and of the model."""
        return self.batches.digests() | {"the weights of model.start": self.model.origin.sha256}

    def batch(self, step: int, share: slice, drop: float) -> Batch:
        """The pictures of a step with their captions, of which a share is left empty."""
        n = self.config.optim.batch
        plans = self.batches.plans(step, share)
        rng = self.batches.rng("dropped", step)
        kept = [rng.random() >= drop for _ in range(n)][share]
        drawn = self.config.objective.times(
            n, self.denoiser.schedule, self.batches.rng("times", step)
        )[share]
        pixels = self.batches.pixels(plans)
        x0 = self.encoded(pixels)
        noise = self.batches.randn((n, *x0.shape[1:]), "noise", step)[share]
        texts = [plan.caption if keep else "" for plan, keep in zip(plans, kept, strict=True)]
        return Batch(pixels, x0, noise, texts, [t for t, _ in drawn], [w for _, w in drawn])

    def spoken(self, word: str, n: int, key: str, without: str = "") -> list[Plan]:
        """n plans whose captions say a word, and not another; key: what they are drawn by."""
        rng, plans = Random(keyed(f"{self.config.run.seed}/{key}")), []
        for _ in range(RARE * n):
            plan = self.batches.composer.plan(rng)
            words = f" {plan.caption.lower()} "
            if word.lower() in words and not (without and without.lower() in words):
                plans.append(plan)
            if len(plans) == n:
                return plans
        raise SfumatoError(
            f"data: of {RARE * n} captions {len(plans)} say {quoted(word)}, {n} are needed; take a "
            "commoner word"
        )

    def encoded(self, pixels: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model.space.encode(pixels)

    def way(self, steps: int) -> Process:
        """Up and down by DDIM, without words."""
        side, model = self.config.data.size, self.model
        cond = self.denoiser.prepare(model.encode([""]))
        return Process(
            self.denoiser, model.shape((side, side)), cond, n_steps=steps, solver="ddim",
            space=model.space, device=self.device,
        )  # fmt: skip

    def inverted(self, way: Process, times: tuple[float, ...], pixels: Tensor) -> Inverted:
        """Pictures (B, 3, S, S) walked up the falling times of a way."""
        known = self.encoded(pixels)
        with torch.no_grad():
            return Inversion(replace(way, n=len(known)), times).of(known)

    def ended(self, way: Process, x: Tensor) -> Tensor:
        """The pictures (B, 3, S, S) at the end of a way down from states x."""
        *_, last = replace(way, n=len(x)).steps(x)
        pixels: Tensor = self.model.space.decode(last.x).clamp(-1, 1)
        return pixels

    def loss(self, batch: Batch, tap: Tap) -> Loss:
        """The denoiser's loss with the tap in its network."""
        with torch.no_grad():
            cond = self.denoiser.prepare(self.model.encode(batch.texts))
        tapped = replace(self.denoiser, network=Tapped(self.denoiser.network, tap, self.call))
        return self.config.objective.at(
            tapped, batch.x0, cond, batch.noise, batch.times, batch.importance
        )

    def tests(self) -> list[tuple[str, TestSet]]:
        """Training pictures, then held-out ones where there are any."""
        return list(zip(("train", "held-out"), self.batches.tests, strict=False))

    def error(self, test: TestSet, t: float, tap: Tap, rows: slice) -> float:
        """Unweighted error of some of a test's pictures at a level, the same noise every time."""
        pixels = test.pixels[rows]
        x0 = self.encoded(pixels)
        noise = self.batches.randn(tuple(x0.shape), "judge", 0)
        batch = Batch(pixels, x0, noise, test.texts[rows], [t] * len(x0))
        return float(self.loss(batch, tap).mse.mean())

    def judged(self, tap_of: Callable[[Tensor], Tap]) -> dict[str, float]:
        """Errors at four levels, with the tap of the tests' pictures and with none."""
        rows, errors = slice(0, JUDGED), {}
        for who, test in self.tests():
            tap = tap_of(test.pixels[rows])
            for t in LEVELS:
                errors[f"{who} {t:g}"] = self.error(test, t, tap, rows)
                if len(self._alone) < len(errors):  # the model stays as it is
                    self._alone[f"{who} alone {t:g}"] = self.error(test, t, Tap(), rows)
        return errors | self._alone

    def drawn(self, texts: Sequence[str], *taps: Tap) -> Tensor:
        """Pictures (B, 3, S, S) of texts, with the card's guidance, always the same seed."""
        model, space = self.model, self.model.space
        side = self.config.data.size
        process = Process(
            self.denoiser, model.shape((side, side)), model.encode(texts), model.encode([""]),
            n=len(texts), n_steps=STEPS, solver="dpmpp-2m", space=space, device=self.device,
            taps=taps,
        )  # fmt: skip
        if space.stride == 1:
            process = process.add(guides=[Clamp(-1.0, 1.0)])
        process = process.add(aways=[Branch("away", weight=guidance_of(model))])
        pixels: Tensor = process.sample(seed=0)
        return pixels
