"""What is seen of a run: Call, one moment, Run, what it is bound to, and Step, what it yields.

Nothing here walks anything. The loop that does is in loop.py; extensions read Call and Run, never
the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sfumato.core.denoiser import Denoiser, Prediction
from sfumato.core.frame import Frame
from sfumato.core.noise import Noise, fresh_of
from sfumato.core.schedule import Schedule
from sfumato.core.spaces import Space

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.guides import Guide
    from sfumato.core.process import Process
    from sfumato.core.solvers.base import Solver
    from sfumato.core.source import Source
    from sfumato.core.taps import Tap


log = logging.getLogger("sfumato")

RESTARTS = 10
"""Attempts of a run that a guide or tap gives up, before the best one is kept."""


class Restart(Exception):  # noqa: N818 - nothing is wrong with the program
    """A run is given up and begun again; `Call.restart` raises it, the loop catches it."""

    def __init__(self, loss: float) -> None:
        super().__init__(loss)
        self.loss = loss


@dataclass(frozen=True, eq=False)
class Call:
    """What every extension sees of the moment.

    t, s: time of this evaluation and target of the transition; i: which of the transitions, -1 for
    the start; eval: evaluation inside the transition; held: where a caller differentiates through
    the run, the state as a constant of the score that is taken; times: all of the run; last_up:
    visit of the last start or upward move; random: where noise is drawn from; memo: scratch space
    of one run; restarts: whether it may be begun again; tied: whether x_t = alpha x0 + sigma eps
    holds for the run's predictions; parts: each branch's prediction. Inside the network also
    branch, whose rows a tap has, and pictures: which of the batch these are.
    """

    t: float
    s: float
    i: int
    times: tuple[float, ...]
    schedule: Schedule
    last_up: int
    random: Noise
    memo: dict[Any, Any]
    tied: bool = True
    restarts: bool = False
    eval: int = 0
    held: Tensor | None = None
    parts: Mapping[str, Prediction] = field(default_factory=dict)
    branch: str = ""
    pictures: slice = field(default_factory=partial(slice, None))

    @property
    def transitions(self) -> int:
        """Of the whole run, moves back up among them."""
        return len(self.times) - 1

    @property
    def visit(self) -> int:
        """Index in `times` of the time arrived at; the start is 0."""
        return self.i + 1

    @property
    def alpha(self) -> float:
        return self.schedule.alpha(self.t)

    @property
    def sigma(self) -> float:
        return self.schedule.sigma(self.t)

    def with_x0(self, pred: Prediction, x0: Tensor, x: Tensor) -> Prediction:
        """The prediction with another x0; eps follows where the two are tied."""
        return pred.with_x0(x0, x, self.alpha, self.sigma) if self.tied else replace(pred, x0=x0)

    def cleaned(
        self, pred: Prediction, change: Callable[[Tensor], Tensor], x: Tensor
    ) -> Prediction:
        """The prediction with its x0 changed; of an untied one the x0 that eps stands for too."""
        if self.tied:
            return self.with_x0(pred, change(pred.x0), x)
        return pred.cleaned(change, x, self.alpha, self.sigma)

    def restart(self, loss: float) -> None:
        """Begin the run again from fresh noise, because it goes wrong by this much.

        After RESTARTS attempts the one of least loss is walked to its end; there this does nothing,
        as where the run's noise has no other.
        """
        if self.restarts:
            raise Restart(loss)

    def count(self, what: str, n: int = 1) -> None:
        """Add to what the run has cost besides its network calls (`Run.counts`)."""
        count(self.memo, what, n)

    def noise(self, purpose: str, like: Tensor, visit: int | None = None) -> Tensor:
        """Standard normal noise shaped like `like`; the same key gives the same tensor."""
        visit = self.visit if visit is None else visit
        key = (visit, self.eval)
        kept = self.memo.get(("noise", purpose))
        if kept is None or kept[0] != key:
            kept = (key, self.random.draw(purpose, visit, self.eval, like))
            self.memo["noise", purpose] = kept
        drawn: Tensor = kept[1]
        return drawn


@dataclass(frozen=True, eq=False)
class Paste:
    """What is pasted back at the end. original: the picture in uint8; edit_mask: at its size, None
    where all of it may change; opaque: what was edited shows, though it was transparent before."""

    original: Any
    edit_mask: Any = None
    opaque: bool = False


@dataclass(eq=False)
class Run:
    """What one run is bound to, and what its parts have to say of it.

    process: what it was bound from, its slots filled; shape: of the state without its batch axis;
    frame: a picture's size against the work size, None where the state was given as a tensor;
    times: all that will be visited; planned: bound for a plan, not to be walked; tied: no branch is
    split by role.

    A Start or a Canvas sets known, the clean state of its picture, and paste; guides: those that
    hold what it keeps, after all others of equal rank. taps: what acts inside the network; a Start
    or Canvas may append some, guides find all of them bound. finishers: what methods do to the
    decoded pixels (n, 3, H, W) in [-1, 1]; before: network calls made to find the start; report:
    what a recipe keeps of the run. answers: what it found besides pictures, such as a message or a
    score, by name: plain data. restarts: whether it may be begun again.
    """

    process: Process
    schedule: Schedule
    space: Space
    shape: tuple[int, ...]
    frame: Frame | None
    times: tuple[float, ...]
    seed: int
    noise: Noise
    solver: Solver[Any]
    planned: bool = False
    tied: bool = True
    known: Tensor | None = None
    paste: Paste | None = None
    guides: list[Guide] = field(default_factory=list)
    taps: list[Tap] = field(default_factory=list)
    finishers: list[Callable[[Tensor], Tensor]] = field(default_factory=list)
    before: int = 0
    report: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    memo: dict[Any, Any] = field(default_factory=dict)
    restarts: bool = field(init=False)

    def __post_init__(self) -> None:
        self.restarts = fresh_of(self.noise, 1) is not None

    @property
    def source(self) -> Source | None:
        return self.process.source

    @property
    def denoiser(self) -> Denoiser:
        return self.process.denoiser

    @property
    def n(self) -> int:
        """Pictures in the batch."""
        return self.process.n

    @property
    def device(self) -> str:
        return self.process.device

    @property
    def level(self) -> float:
        """The time that it begins at."""
        return self.times[0]

    @property
    def untouched(self) -> bool:
        """t0 = 0: the input is the result; neither network nor autoencoder is called."""
        return self.times == (0.0,)

    @property
    def counts(self) -> dict[str, int]:
        """Backward passes, and what guides looked at pictures with, so far."""
        return dict(self.memo.get("counts", {}))

    def call(self, i: int, t: float, s: float, last_up: int = 0) -> Call:
        """The moment of transition i, t -> s."""
        return Call(
            t, s, i, self.times, self.schedule, last_up, self.noise, self.memo, self.tied,
            self.restarts,
        )  # fmt: skip

    def restarted(self, loss: float, memo: Mapping[Any, Any]) -> None:
        """Fresh noise, and of the scratch space what there was when the run was bound.

        RESTARTS attempts are enough: the best one is then made again, to its end.
        """
        losses = self.report.setdefault("restarts", [])
        losses.append(loss)
        attempt = len(losses)
        if attempt == RESTARTS:
            attempt = self.report["attempt"] = losses.index(min(losses))
            self.restarts = False
            log.warning("restarted %d times, the best attempt is kept", RESTARTS)
        fresh = fresh_of(self.noise, attempt)
        assert fresh is not None
        self.noise = fresh
        counts = self.counts
        self.memo.clear()
        self.memo.update(memo, counts=counts)

    def decode(self, x: Tensor) -> Tensor:
        """The pixels of a last state."""
        pixels = self.space.decode(x)
        for finish in self.finishers:
            pixels = finish(pixels)
        return pixels


@dataclass(frozen=True, eq=False)
class Step:
    """One transition, done.

    i: which of the transitions (-1: the start), t -> s, x: state on arrival at s, pred: the
    prediction used (None on upward moves and at the start), scores: (B,) log-probability of each
    guide, calls: network calls so far, stage: 0 base, 1 first upsampler.
    """

    i: int
    transitions: int
    t: float
    s: float
    x: Tensor = field(repr=False)
    pred: Prediction | None = field(repr=False)
    scores: Mapping[str, Tensor]
    calls: int
    stage: int = 0
    show: Callable[[Step], Any] | None = field(default=None, repr=False)

    def preview(self) -> Any:
        """What the picture looks like now: a Picture, or without a model its pixels in [-1, 1]."""
        return self.show(self) if self.show else self.pixels()

    @property
    def scalars(self) -> dict[str, Any]:
        """What a trace keeps of it: times, network calls, a list of scores for each guide."""
        scores = {name: score.tolist() for name, score in self.scores.items()}
        return {"t": self.t, "s": self.s, "calls": self.calls, **scores}

    def pixels(self) -> Tensor:
        """The predicted clean state, or the state itself where nothing was predicted."""
        return self.x if self.pred is None else self.pred.x0


def count(memo: dict[Any, Any], what: str, n: int = 1) -> None:
    """Add n to a run's count of something, such as "clip" or "backward"."""
    counts = memo.setdefault("counts", {})
    counts[what] = counts.get(what, 0) + n
