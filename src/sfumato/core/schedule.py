"""Noise schedules: alpha(t), sigma(t) and the inverse of their ratio. No networks, no time grids.

x_t = alpha(t) x_0 + sigma(t) eps, with t in [0, 1]: 0 is clean, 1 is the prior. A table of T steps
has its entry k at t = (k + 1) / T. Everything here is Python floats (float64).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Protocol

from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.ranges import Range, real, whole

TINY = 1e-12  # the smallest time that is not 0

FAINTEST = 0.005
"""Below this alpha (t = 1 of a cosine schedule, never of a linear one) a state holds no picture:
sigma/alpha, up to 20,000 there, would carry the noise of a network's output into all of a run."""


class Schedule(Protocol):
    """alpha(t), sigma(t) and at(sigma/alpha) -> t; `steps` is the length of the training table."""

    @property
    def steps(self) -> int: ...

    def alpha(self, t: float) -> float: ...

    def sigma(self, t: float) -> float: ...

    def at(self, ratio: float) -> float: ...

    def prior(self, t: float) -> float:
        """Standard deviation of the noise a run starts with when its first time is t."""
        ...


def ratio(schedule: Schedule, t: float) -> float:
    """Noise to signal, sigma(t) / alpha(t)."""
    return schedule.sigma(t) / schedule.alpha(t)


def level(
    schedule: Schedule, *, ratio: float | None = None, alpha_bar: float | None = None
) -> float:
    """Time of a noise level, given as sigma/alpha or (variance preserving) alpha_bar = alpha^2."""
    if ratio is not None:
        if not 0 <= ratio < math.inf:
            raise SfumatoError(f"ratio {ratio}: sigma/alpha must be a finite number from 0 up")
        return schedule.at(ratio)
    if alpha_bar is None or not 0 < alpha_bar <= 1:
        raise SfumatoError(f"alpha_bar {alpha_bar}: must be above 0 and at most 1")
    return schedule.at(math.sqrt((1 - alpha_bar) / alpha_bar))


KEPT = 4096  # times that a table remembers the places of


@dataclass(frozen=True, repr=False)
class Table:
    """A table of alpha_bar = alpha^2, variance preserving (DDPM, arXiv 2006.11239).

    Exact at the table's times, linear in log(sigma/alpha) between them; below the first one
    sigma/alpha falls linearly to 0. `times` defaults to (k + 1) / T; a table whose times end below
    1 covers only [0, times[-1]].
    """

    alpha_bar: tuple[float, ...]
    times: tuple[float, ...] | None = None

    def __repr__(self) -> str:
        first, last = self.alpha_bar[0], self.alpha_bar[-1]
        return f"Table({len(self.alpha_bar)} levels, alpha_bar {first:g} to {last:g})"

    def __post_init__(self) -> None:
        abar = self.alpha_bar
        if not abar or any(not 0 < b < a for a, b in zip((1.0, *abar), abar, strict=False)):
            raise SfumatoError("alpha_bar: must fall strictly from below 1 and stay above 0")
        if self.times is not None and (
            len(self.times) != len(abar)
            or any(not a < b <= 1 for a, b in zip((0.0, *self.times), self.times, strict=False))
        ):
            raise SfumatoError("times: must rise strictly inside (0, 1], one for each alpha_bar")

    @classmethod
    def from_betas(cls, betas: Sequence[float]) -> Table:
        """alpha_bar = cumulative product of 1 - beta."""
        if not isinstance(betas, Iterable) or isinstance(betas, str | bytes):
            raise SfumatoError(f"betas = {betas!r:.60}: give numbers")
        rest = (1 - real(beta, "beta", Range()) for beta in betas)
        return cls(tuple(accumulate(rest, lambda a, b: a * b)))

    @property
    def steps(self) -> int:
        return len(self.alpha_bar)

    @cached_property
    def _times(self) -> tuple[float, ...]:
        return self.times or tuple((k + 1) / self.steps for k in range(self.steps))

    @cached_property
    def _log_ratio(self) -> tuple[float, ...]:
        return tuple(0.5 * math.log((1 - a) / a) for a in self.alpha_bar)

    @cached_property
    def _found(self) -> dict[float, tuple[int, float]]:
        """Times that were looked up: one evaluation asks for the same two a dozen times."""
        return {}

    def _at_table(self, t: float) -> tuple[int, float]:
        """Index and distance: (k, 0) on a table time, (k, w) with 0 < w < 1 between k - 1 and k."""
        known = self._found.get(t)
        if known is None:
            if len(self._found) >= KEPT:
                self._found.clear()
            known = self._found[t] = self._look_up(t)
        return known

    def _look_up(self, t: float) -> tuple[int, float]:
        times = self._times
        if not 0 <= t <= times[-1] * (1 + 1e-6):  # its end may have been float32
            raise SfumatoError(f"time {t}: this schedule covers [0, {times[-1]:g}]")
        t = min(t, times[-1])
        k = min(bisect_left(times, t), len(times) - 1)
        for near in (k, k - 1):
            if near >= 0 and abs(times[near] - t) * self.steps <= 1e-6:
                return near, 0.0
        before = times[k - 1] if k else 0.0
        return k, (t - before) / (times[k] - before)

    def _ratio(self, t: float) -> float:
        k, w = self._at_table(t)
        logs = self._log_ratio
        if w == 0.0:
            return math.exp(logs[k])
        if k == 0:
            return math.exp(logs[0]) * w
        return math.exp(logs[k - 1] + (logs[k] - logs[k - 1]) * w)

    def alpha(self, t: float) -> float:
        if t == 0:
            return 1.0
        k, w = self._at_table(t)
        return math.sqrt(self.alpha_bar[k]) if w == 0.0 else 1 / math.hypot(1, self._ratio(t))

    def sigma(self, t: float) -> float:
        if t == 0:
            return 0.0
        k, w = self._at_table(t)
        if w == 0.0:
            return math.sqrt(1 - self.alpha_bar[k])
        r = self._ratio(t)
        return r / math.hypot(1, r)

    def at(self, ratio: float) -> float:
        if ratio <= 0:
            return 0.0
        logs, times, log = self._log_ratio, self._times, math.log(ratio)
        if log <= logs[0]:
            return times[0] * ratio / math.exp(logs[0])
        if log >= logs[-1]:
            return times[-1]
        k = bisect_left(logs, log)
        w = (log - logs[k - 1]) / (logs[k] - logs[k - 1])
        return times[k - 1] + (times[k] - times[k - 1]) * w

    def prior(self, t: float) -> float:
        return 1.0


@dataclass(frozen=True)
class VP:
    """Continuous variance preserving schedule, beta(t) linear (arXiv 2011.13456).

    alpha_bar(t) = exp(-(beta_min t + (beta_max - beta_min) t^2 / 2)).
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    steps: int = 1000

    def _integral(self, t: float) -> float:
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t * t

    def alpha(self, t: float) -> float:
        return math.exp(-0.5 * self._integral(t))

    def sigma(self, t: float) -> float:
        return math.sqrt(-math.expm1(-self._integral(t)))

    def at(self, ratio: float) -> float:
        target = math.log1p(ratio * ratio)
        slope = self.beta_max - self.beta_min
        root = math.sqrt(self.beta_min**2 + 2 * slope * target)
        return min(1.0, 2 * target / (self.beta_min + root))  # the form that is stable near 0

    def prior(self, t: float) -> float:
        return 1.0


@dataclass(frozen=True)
class VE:
    """Variance exploding: alpha = 1, sigma(t) = sigma_min (sigma_max / sigma_min)^t, sigma(0) = 0.

    It jumps to sigma_min just above 0 (arXiv 2011.13456). Pixels are in [0, 1] in that family.
    """

    sigma_min: float = 0.01
    sigma_max: float = 348.0
    steps: int = 1000

    def alpha(self, t: float) -> float:
        return 1.0

    def sigma(self, t: float) -> float:
        return 0.0 if t == 0 else self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def at(self, ratio: float) -> float:
        if ratio <= 0:
            return 0.0
        t = math.log(ratio / self.sigma_min) / math.log(self.sigma_max / self.sigma_min)
        return min(1.0, max(TINY, t))

    def prior(self, t: float) -> float:
        return self.sigma(t)


@dataclass(frozen=True)
class Cosine:
    """Continuous: alpha = cos(pi t / 2), sigma = sin(pi t / 2), as v-diffusion's networks know it.

    Its last time has no signal left; networks that cannot be asked there say so by t_max.
    """

    steps: int = 1000

    def alpha(self, t: float) -> float:
        return math.cos(math.pi / 2 * t)

    def sigma(self, t: float) -> float:
        return math.sin(math.pi / 2 * t)

    def at(self, ratio: float) -> float:
        return 2 / math.pi * math.atan(max(ratio, 0.0))

    def prior(self, t: float) -> float:
        return 1.0


NO_SIGNAL = (
    2.0**-53
)  # alpha at t = 1 of a schedule that ends in pure noise, where one divides by it


@dataclass(frozen=True)
class Flow:
    """Straight lines from data to noise: alpha = 1 - t, sigma = t (rectified flow, 2209.03003).

    t is the noise level itself; where its times stand (the shift of SD 3 and Flux) is a spacing's
    matter. A run that begins below t = 1 without a picture begins with the deviation that data of
    unit variance would have there.
    """

    steps: int = 1000

    def alpha(self, t: float) -> float:
        return max(1 - t, NO_SIGNAL)

    def sigma(self, t: float) -> float:
        return t

    def at(self, ratio: float) -> float:
        return max(ratio, 0.0) / (1 + max(ratio, 0.0))

    def prior(self, t: float) -> float:
        return math.hypot(1 - t, t)


def linear(steps: int = 1000, start: float | None = None, end: float | None = None) -> Table:
    """Betas in a line from 1e-4 to 0.02, both scaled by 1000 / steps (arXiv 2006.11239)."""
    scale = 1000 / steps
    first = 1e-4 * scale if start is None else start
    last = 0.02 * scale if end is None else end
    return Table.from_betas(_linspace(first, last, steps))


def scaled_linear(steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> Table:
    """Square roots of the betas in a line (latent diffusion, arXiv 2112.10752)."""
    return Table.from_betas([b * b for b in _linspace(math.sqrt(start), math.sqrt(end), steps)])


def squared_cosine(steps: int = 1000, max_beta: float = 0.999) -> Table:
    """alpha_bar ~ cos^2, betas capped (arXiv 2102.09672); "squaredcos_cap_v2" or "cosine"."""

    def bar(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    return Table.from_betas(
        [min(1 - bar((i + 1) / steps) / bar(i / steps), max_beta) for i in range(steps)]
    )


def _linspace(first: float, last: float, n: int) -> list[float]:
    if n == 1:
        return [first]
    return [first + (last - first) * i / (n - 1) for i in range(n)]


SCHEDULES: dict[str, Callable[[int], Table]] = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "squaredcos_cap_v2": squared_cosine,
    "cosine": squared_cosine,
}


def named(name: str, steps: int = 1000) -> Table:
    """The table that checkpoints call by this name."""
    if not isinstance(name, str) or name not in SCHEDULES:
        known = ", ".join(SCHEDULES)
        raise SfumatoError(f"schedule {quoted(str(name))}: unknown; known are {known}")
    return SCHEDULES[name](whole(steps, "schedule: steps", Range(1, 1_000_000)))
