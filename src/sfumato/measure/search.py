"""auto(): a field's number found by bisection on its curve, before anything is composed with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.ranges import Range, real, whole
from sfumato.measure.axis import Axis
from sfumato.measure.curve import Curve, Point
from sfumato.measure.faithful import MEASURES, Reference
from sfumato.methods import described, find
from sfumato.metrics.kernel import interval
from sfumato.models.cascade import base_of

BATCH, PROBES = Range(1, 1000), Range(0, 100)


@dataclass(frozen=True)
class SearchResult:
    """The number, the curve it was found on, the measure and the target it meets."""

    value: float
    curve: Curve
    measure: str
    target: float


def goal_of(text: str) -> tuple[str, float | None]:
    """What a search goes by, MEASURE or MEASURE=NUMBER; without a number half-way."""
    measure, equals, target = text.partition("=")
    try:
        return measure, real(float(target), "--target", Range()) if equals else None
    except ValueError:
        raise SfumatoError(f"--target {text}: write MEASURE or MEASURE=NUMBER") from None


def auto(
    process: Any,
    name: str = "sdedit.t0",
    *,
    measure: str = "rms",
    target: float | None = None,
    between: tuple[float, float] | None = None,
    seeds: int = 2,
    seed: int = 0,
    probes: int = 5,
    say: Callable[[str], None] = lambda line: None,
) -> SearchResult:
    """The value of METHOD.FIELD at which a measure of faithfulness reaches the target.

    SDEdit's authors bisect by asking a person (arXiv 2108.01073, section 4); here the question is
    the distance to the guide. target: by default half-way between both ends of the field's range:
    at the upper one the guide has least to say. between: another range. Runs the base alone,
    `probes` + 2 times `seeds` pictures. The curve is kept under SFUMATO_HOME/curves.
    """
    if not isinstance(name, str):
        raise SfumatoError(f"auto: {name!r:.60}: give METHOD.FIELD")
    if not callable(say):
        raise SfumatoError(f"auto: say {say!r:.60}: give a function of a line")
    seeds, probes = whole(seeds, "auto: seeds", BATCH), whole(probes, "auto: probes", PROBES)
    target = None if target is None else real(target, "auto: target", Range())
    method, _, field = name.rpartition(".")
    low, high = search_range(method, field) if between is None else _ends(between)
    if measure not in MEASURES:
        raise SfumatoError(f"auto: no measure {quoted(measure)}; there are {', '.join(MEASURES)}")
    base = base_of(process).based(stages=1, n=seeds)
    model: Any = base.source
    guide = Reference.of(base, method)
    if guide is None:
        raise SfumatoError(f"auto: {name} is searched by the distance to a picture; there is none")
    points: dict[float, Point] = {}

    def probe(value: float) -> float:
        result = Axis(method, field, (value,)).at(base, value).sample(seed)
        each = [guide.measures(picture) for picture in result.images]
        if measure not in each[0]:
            raise SfumatoError(f"auto: measure {measure!r} needs an edit mask; there is none")
        estimates = {key: interval([row[key] for row in each]) for key in each[0]}
        points[value] = Point(value, len(each), estimates)
        say(f"{name} = {value:.4g}: {measure} {estimates[measure].value:.4g}")
        return estimates[measure].value

    bottom, top = probe(low), probe(high)
    goal = (bottom + top) / 2 if target is None else target
    if not min(bottom, top) <= goal <= max(bottom, top):
        raise SfumatoError(
            f"auto: {measure} = {goal:g} is not reached; {name} gives {bottom:.4g} at {low:g} and "
            f"{top:.4g} at {high:g}"
        )
    for _ in range(probes):
        middle = (low + high) / 2
        if (probe(middle) < goal) == (bottom < top):
            low = middle
        else:
            high = middle
    value = round((low + high) / 2, 4)
    rule = f"bisection to {measure} = {goal:.6g} over {seeds} seeds"
    curve = Curve(name, model.asked(base, seed).id, _sorted(points), value, rule)
    curve.keep()
    return SearchResult(value, curve, measure, goal)


def _ends(between: Any) -> tuple[float, float]:
    """Two rising numbers."""
    pair = between if isinstance(between, tuple | list) and len(between) == 2 else (0, 0)
    low, high = (real(end, "auto: between", Range()) for end in pair)
    if low >= high:
        raise SfumatoError(f"auto: between {between!r:.60}: give two numbers, the lower one first")
    return low, high


def search_range(method: str, field: str) -> tuple[float, float]:
    """Where a field may be searched, as its method says."""
    ranges = {name: _range(info) for name, info in described(find(method)).items()}
    if between := ranges.get(field):
        return between
    able = [f"{method}.{name}" for name, between in ranges.items() if between]
    raise SfumatoError(
        f"{method}.{field}: cannot be searched; {method} has {', '.join(able) or 'no such field'}"
    )


def _range(info: FieldInfo) -> tuple[float, float] | None:
    extra: Any = info.json_schema_extra or {}
    return tuple(extra["auto"]) if "auto" in extra else None


def _sorted(points: dict[float, Point]) -> tuple[Point, ...]:
    return tuple(points[value] for value in sorted(points))
