"""Curves: measures over the values of one field, how a point is chosen, and how they are drawn."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from sfumato.home import home
from sfumato.images.writing import write_whole
from sfumato.measure.axis import Value, is_number, said
from sfumato.metrics.kernel import Estimate

LABELS = {
    "kernel": "kernel distance (lower: more real)",
    "rms": "distance to the guide, rms",
    "l2": "distance to the guide, L2",
    "outside": "distance outside the mask, rms",
    "low": "low-band error, rms",
    "diversity": "diversity over seeds, rms",
    "clip": "agreement with the text, 100 cos",
}


@dataclass(frozen=True)
class Point:
    """One value of the field, how many pictures, and each measure with its 95 % interval."""

    value: Value
    pictures: int
    measures: Mapping[str, Estimate]


@dataclass(frozen=True)
class Curve:
    """axis: what was varied, such as sdedit.t0; parent: id of the recipe; rule: why `chosen`."""

    axis: str
    parent: str
    points: tuple[Point, ...]
    chosen: Value | None = None
    rule: str = ""

    @property
    def id(self) -> str:
        """Digest of everything in the curve."""
        return f"sha256 {sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()}"

    def names(self) -> list[str]:
        """Measures that at least one point has, in their usual order."""
        return [name for name in LABELS if any(name in p.measures for p in self.points)]

    def keep(self) -> Path:
        """Write the curve where recipes that name its id find it, under SFUMATO_HOME/curves."""
        path = home() / "curves" / f"{self.id.removeprefix('sha256 ')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(self), indent=1).encode())
        return path

    def to_csv(self) -> str:
        """One row a value: each measure with the ends of its interval."""
        stream = io.StringIO()
        columns = [f"{name}{end}" for name in self.names() for end in ("", " low", " high")]
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([self.axis, "pictures", *columns, "chosen"])
        for point in self.points:
            row: list[Any] = [said(point.value), point.pictures]
            for name in self.names():
                estimate = point.measures.get(name)
                ends = (estimate.value, estimate.low, estimate.high) if estimate else ("", "", "")
                row += [f"{end:.6g}" if end != "" else "" for end in ends]
            writer.writerow([*row, "x" if point.value == self.chosen else ""])
        return stream.getvalue()


SHORT = 16  # letters
KNEE = "nearest to the most real and the most faithful, each scaled to [0, 1]"
GIVEN = "given"


def knee(points: Sequence[Point]) -> tuple[Value, str] | None:
    """The value nearest to being both as real and as faithful as any: both scaled to [0, 1]."""
    rows = [p for p in points if {"kernel", "rms"} <= set(p.measures)]
    if len(rows) < 3:
        return None
    scaled = []
    for name in ("kernel", "rms"):
        values = [p.measures[name].value for p in rows]
        low, high = min(values), max(values)
        scaled.append([(v - low) / ((high - low) or 1.0) for v in values])
    best = min(range(len(rows)), key=lambda k: scaled[0][k] ** 2 + scaled[1][k] ** 2)
    return rows[best].value, KNEE


def plot(curve: Curve, target: Path) -> None:
    """PNG: realism against faithfulness where both are known, then every measure by value."""
    from matplotlib.figure import Figure  # no pyplot: it would choose a window system

    names = curve.names()
    both = {"kernel", "rms"} <= set(names)
    count = len(names) + both
    figure = Figure(figsize=(4.2 * min(count, 3), 3.2 * -(-count // 3)), layout="constrained")
    axes = figure.subplots(-(-count // 3), min(count, 3), squeeze=False).flat
    if both:
        _trade(next(axes), curve)
    for name in names:
        _single(next(axes), curve, name)
    for unused in axes:
        unused.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_whole(target, buffer.getvalue())


def _short(value: Value) -> str:
    """As it stands in a figure."""
    text = said(value)
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"


def _trade(axes: Any, curve: Curve) -> None:
    rows = [p for p in curve.points if {"kernel", "rms"} <= set(p.measures)]
    x = [p.measures["rms"].value for p in rows]
    y = [p.measures["kernel"].value for p in rows]
    axes.plot(x, y, "-o", color="#1b6ca8", markersize=4)
    for p, a, b in zip(rows, x, y, strict=True):
        axes.annotate(
            _short(p.value), (a, b), textcoords="offset points", xytext=(5, 4), fontsize=8
        )
        if p.value == curve.chosen:
            axes.plot([a], [b], "o", color="#d1495b", markersize=9, fillstyle="none", mew=2)
    axes.set(xlabel=LABELS["rms"], ylabel=LABELS["kernel"], title=f"by {curve.axis}")
    axes.grid(alpha=0.3)


def _single(axes: Any, curve: Curve, name: str) -> None:
    rows = [(p.value, p.measures[name]) for p in curve.points if name in p.measures]
    if all(is_number(value) for value, _ in rows):
        x: list[Any] = [value for value, _ in rows]
        axes.fill_between(x, [e.low for _, e in rows], [e.high for _, e in rows], alpha=0.18)
        axes.plot(x, [e.value for _, e in rows], "-o", markersize=4)
        if curve.chosen is not None:
            axes.axvline(curve.chosen, color="#d1495b", linewidth=1)
    else:
        for k, (value, e) in enumerate(rows):  # nothing lies between two of them
            colour = "#d1495b" if value == curve.chosen else "#1f77b4"
            axes.plot([k, k], [e.low, e.high], color=colour, alpha=0.4)
            axes.plot([k], [e.value], "o", color=colour, markersize=5)
        axes.set_xticks(range(len(rows)), [_short(v) for v, _ in rows], fontsize=8, rotation=20)
        axes.margins(x=0.2)
    axes.set(xlabel=curve.axis, title=LABELS[name])
    axes.grid(alpha=0.3)
