"""Time grids: which times one pass visits, from its start level down. Repeats and jumps on top.

A spacing is a name (NAMES), a respacing string of the OpenAI programs
("27", "ddim50", "10,10,3,2,2", "fast27"), or an explicit tuple of times.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.ranges import STEPS, TIME, real, whole
from sfumato.core.schedule import Schedule, ratio

Times = tuple[float, ...]
Rule = Callable[[int, float, Schedule], Times]
Own = Callable[[int, float], Times]
"""(steps, level, or for "model" the share of the steps that is taken) -> times."""

LONGEST = 1_000_000
"""Times of a run, with every repeat and jump."""


def uniform(n: int, t_start: float, schedule: Schedule) -> Times:
    """t_k = t_start (1 - k / n)."""
    return (*(t_start * (n - k) / n for k in range(n)), 0.0)


def karras(n: int, t_start: float, schedule: Schedule) -> Times:
    """Even in (sigma/alpha)^(1/7) down to the first table time, then 0 (2206.00364, eq. 5)."""
    return _even(n, t_start, schedule, lambda r: r ** (1 / 7), lambda u: u**7)


def logsnr(n: int, t_start: float, schedule: Schedule) -> Times:
    """Even in log(sigma/alpha) down to the first table time, then 0."""
    return _even(n, t_start, schedule, math.log, math.exp)


def _even(
    n: int,
    t_start: float,
    schedule: Schedule,
    scale: Callable[[float], float],
    back: Callable[[float], float],
) -> Times:
    high = scale(ratio(schedule, t_start))
    low = min(scale(ratio(schedule, 1 / schedule.steps)), high)
    inner = (schedule.at(back(high + (low - high) * k / max(n - 1, 1))) for k in range(1, n))
    return (t_start, *inner, 0.0)


def trailing(n: int, t_start: float, schedule: Schedule) -> Times:
    """Uniform, rounded to times of the table (2305.08891, table 2)."""
    steps = schedule.steps
    times = (round(t * steps) / steps for t in uniform(n, t_start, schedule)[1:-1])
    return (t_start, *times, 0.0)


def leading(n: int, t_start: float, schedule: Schedule) -> Times:
    """t_k = t_start (n - 1 - k) / n, one table step higher: starts below t_start (2305.08891).

    What Stable Diffusion's DDIM and PNDM take; only here because results were published with it.
    """
    first = 1 / schedule.steps
    return (*(t_start * (n - 1 - k) / n + first for k in range(n)), 0.0)


DDPM_FROM, COSINE_TO = 0.48536712, 0.80074257  # where v-diffusion's two halves meet


def _ddpm(u: float) -> float:
    """alpha^2 / sigma^2 = 1 / (e^(1e-4 + 10 u^2) - 1), a DDPM's betas in continuous form."""
    return math.sqrt(math.expm1(1e-4 + 10 * u * u))


def _spliced(u: float) -> float:
    """Even in the angle atan(sigma/alpha) for small u, DDPM's above."""
    b = u * (1 + COSINE_TO - DDPM_FROM)
    return math.tan(math.pi / 2 * b) if b < COSINE_TO else _ddpm(b + DDPM_FROM - COSINE_TO)


def _log(u: float) -> float:
    """log(alpha^2 / sigma^2) from 10 down to -10."""
    return math.exp(10 * u - 5)


def _crash(u: float) -> float:
    """sigma = sin^2(pi u / 2), alpha = sqrt(1 - sigma^2) = cos(pi u / 2) sqrt(1 + sin^2(pi u / 2)).

    Quadratic near both ends; from audio programs that share v-diffusion's samplers, not from it.
    Its u = 1 has no signal left, which solvers that divide by alpha cannot start from.
    """
    sine = math.sin(math.pi / 2 * u)
    return sine**2 / (math.cos(math.pi / 2 * u) * math.sqrt(1 + sine**2))


def _rising(ratio_at: Callable[[float], float], text: str) -> Rule:
    """Even in u in [0, 1], where sigma/alpha = ratio_at(u); u = 1 is the highest time there is."""

    def rule(n: int, t_start: float, schedule: Schedule) -> Times:
        top = ratio(schedule, t_start)
        low, high = 0.0, 1.0
        if top < ratio_at(1.0):
            for _ in range(60):  # u of t_start: the functions rise, but none has a short inverse
                u = (low + high) / 2
                low, high = (u, high) if ratio_at(u) < top else (low, u)
        times = [schedule.at(ratio_at(high * (n - k) / n)) for k in range(n)]
        if high < 1.0:
            times[0] = t_start
        return (*times, 0.0)

    rule.__doc__ = text
    return rule


RULES: dict[str, Rule] = {
    "uniform": uniform,
    "leading": leading,
    "trailing": trailing,
    "karras": karras,
    "logsnr": logsnr,
    "v-spliced": _rising(_spliced, "v-diffusion's default: linear angle, then DDPM's times."),
    "v-ddpm": _rising(_ddpm, "DDPM's times in v-diffusion."),
    "v-log": _rising(_log, "v-diffusion's times even in log SNR, from 10 to -10."),
    "v-crash": _rising(
        _crash, "sigma = sin^2 of an even angle, from audio programs on v-diffusion."
    ),
}
"""Every named spacing. v-spliced, v-ddpm and v-log end below t = 1: runs start at their highest."""


MODEL = "model"
"""The times of the scheduler that a model was published with; its source knows them."""

SHIFTED = "shifted"
"""An even ramp, shifted to the noisy end as a flow model was trained; its source knows how far."""

OWNED = (MODEL, SHIFTED)
"""Spacings that only a model knows."""

NAMES = (*RULES, *OWNED)
"""Spacings that take a number of steps."""

RESPACING = re.compile("(fast27|ddim[0-9]{1,6}|( *[0-9]{1,6} *)(, *[0-9]{1,6} *){0,999})?")


def declared(spacing: Any) -> str | Times | None:
    """A spacing as a process keeps it: a rule's name, a respacing, or times as floats.

    Times are two or more in [0, 1], of which no two neighbours are alike.
    """
    if spacing is None or (isinstance(spacing, str) and spacing in NAMES):
        return spacing
    if isinstance(spacing, str):
        if not RESPACING.fullmatch(spacing):
            raise _unknown(spacing)
        return spacing
    try:
        entries = () if isinstance(spacing, Set | Mapping | bytes) else tuple(spacing[:])
    except (TypeError, IndexError, RuntimeError):  # RuntimeError: a sparse tensor
        raise SfumatoError(f"spacing {spacing!r:.60}: give a name, or times") from None
    if not 2 <= len(entries) <= LONGEST:
        raise SfumatoError(f"spacing: has {len(entries)} times; give 2 to {LONGEST:,}")
    times = tuple(real(time, f"spacing[{k}]", TIME) for k, time in enumerate(entries))
    for k, (t, s) in enumerate(itertools.pairwise(times)):
        if t == s:
            raise SfumatoError(f"spacing[{k + 1}] {s:g}: is the time before it again")
    return times


def _unknown(text: str) -> SfumatoError:
    return SfumatoError(
        f"spacing {text!r:.60}: not one of {', '.join(NAMES)}, nor a respacing such as 27, ddim50 "
        "or 10,10,3"
    )


def respaced(text: str, steps: int) -> list[int]:
    """Indices kept of a table of `steps`, rising (improved diffusion, arXiv 2102.09672).

    "a,b,c" cuts the table in equal parts and keeps that many of each; "ddimN" is the first whole
    stride that keeps N; "fast27" is GLIDE's upsampler; "" keeps all.
    """
    if text == "":
        return list(range(steps))
    if text == "fast27":
        kept = respaced("10,10,3,2,2", steps)
        kept[-1] = steps - 3  # ends a little below the top; found by the authors of GLIDE
        return kept
    if not RESPACING.fullmatch(text):
        raise _unknown(text)
    if text.startswith("ddim"):
        count = int(text[4:])
        for stride in range(1, steps):
            if len(range(0, steps, stride)) == count:
                return list(range(0, steps, stride))
        raise SfumatoError(
            f"spacing {quoted(text)}: no whole stride keeps {count} of {steps} steps"
        )
    counts = [int(count) for count in text.split(",")]
    if not any(counts):
        raise SfumatoError(f"spacing {text!r:.60}: keeps nothing of the table")
    return _sections(counts, steps, text)


def _sections(counts: Sequence[int], steps: int, text: str) -> list[int]:
    kept: list[int] = []
    start = 0
    for part, count in enumerate(counts):
        size = steps // len(counts) + (part < steps % len(counts))
        if size < count:
            raise SfumatoError(
                f"spacing {quoted(text)}: cannot keep {count} of a part of {size} steps"
            )
        stride = (size - 1) / (count - 1) if count > 1 else 1
        position = 0.0  # summed up, not multiplied: the reference rounds the accumulated float
        for _ in range(count):
            kept.append(start + round(position))
            position += stride
        start += size
    return kept


def materialise(
    spacing: str | Sequence[float] | None,
    n: int | None,
    t_start: float,
    schedule: Schedule,
    own: Own | None = None,
) -> Times:
    """The times of one pass.

    A named rule takes n transitions from t_start to 0, `own` those that only the model knows; of
    "model", t_start is the share of the n that is taken. A respacing string fixes the times; with
    t_start < 1 that level is put in front and times at or above it are dropped. A tuple is used
    as it is, and begins at t_start. The last two replace n: giving both is an error.
    """
    if spacing is None or (isinstance(spacing, str) and spacing in NAMES):
        if n is None:
            raise SfumatoError("steps: not given, and no model card here that would say")
        n = whole(n, "steps", STEPS)
        if spacing in OWNED:
            if own is None:
                what = "times from" if spacing == MODEL else "a shift from"
                raise SfumatoError(
                    f"spacing {spacing}: this model has no scheduler of diffusers to take {what}; "
                    f"leave it out, or take one of {', '.join(RULES)}"
                )
            return own(n, t_start)
        times = RULES[spacing or "uniform"](n, t_start, schedule)
        if any(s >= t for t, s in zip((t_start + 1e-9, *times), times, strict=False)):
            raise SfumatoError(
                f"steps {n}: spacing {spacing} cannot place as many below t = {t_start:g}; give "
                "fewer, or spacing uniform"
            )
        return times
    if n is not None:
        raise SfumatoError(f"steps {n} and spacing {spacing!r}: each fixes the steps, give one")
    if not isinstance(spacing, str):
        listed = declared(spacing)
        assert isinstance(listed, tuple)
        if abs(listed[0] - t_start) > 1e-6:
            raise SfumatoError(
                f"start level {t_start:g}: the times given as spacing begin at {listed[0]:g}; "
                "leave the level out, or the times"
            )
        return listed
    steps = schedule.steps
    kept = [(k + 1) / steps for k in reversed(respaced(spacing, steps))]
    if t_start < 1:
        kept = [t_start, *(t for t in kept if t < t_start - 1e-9)]
    return (*kept, 0.0)


def jumping(times: Times, length: int, repeats: int) -> Times:
    """Move back up `length` transitions and down again, `repeats` - 1 times at every length-th one.

    RePaint's resampling (arXiv 2201.09865): counted from the end, so that the jumps begin `length`
    transitions below the top and the last one starts at the last time above 0.
    """
    if repeats == 1:
        return times
    _bounded(len(times) * repeats)
    last = len(times) - 2  # the position of the lowest time above 0
    left = dict.fromkeys(range(0, last + 1 - length, length), repeats - 1)
    path, height = [times[0]], last
    while height > 0:
        height -= 1
        path.append(times[last - height])
        if left.get(height, 0) > 0:
            left[height] -= 1
            path += [times[last - height - k] for k in range(1, length + 1)]
            height += length
    return (*path, times[-1])


def repeated(times: Times, passes: int) -> Times:
    """The same pass several times; the move back up is forward noising (SDEdit's K)."""
    _bounded(len(times) * passes)
    return times * passes


def _bounded(count: int) -> None:
    if count > LONGEST:
        raise SfumatoError(
            f"steps: {count:,} transitions with every repeat, of at most {LONGEST:,}; give fewer"
        )
