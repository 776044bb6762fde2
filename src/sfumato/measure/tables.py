"""Tables of a comparison: means with intervals, and paired differences from the first way."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.measure.curve import LABELS
from sfumato.metrics.kernel import Estimate, interval

MEASURES = (*LABELS, "seconds", "calls")


@dataclass(frozen=True)
class Score:
    """What one picture says, or of a batch what its pictures say together.

    key: of what it was made from; scores of two ways with one key are compared as a pair.
    """

    way: str
    key: tuple[int, ...]
    measures: Mapping[str, float]
    file: Path | None
    prompt: str


@dataclass(frozen=True)
class Line:
    """A measure of a way. difference: from the first way, pair by pair; None of the first."""

    way: str
    measure: str
    estimate: Estimate
    difference: Estimate | None


@dataclass(frozen=True)
class Table:
    """ways in their order; lines by way and measure."""

    ways: tuple[str, ...]
    lines: tuple[Line, ...]

    @classmethod
    def of(cls, ways: Sequence[str], scores: Sequence[Score]) -> Table:
        lines = []
        for way in ways:
            for measure in MEASURES:
                own = _values(scores, way, measure)
                if not own:
                    continue
                first = _values(scores, ways[0], measure)
                both = [own[key] - first[key] for key in own if key in first]
                paired = interval(both) if both and way != ways[0] else None
                lines.append(Line(way, measure, interval(list(own.values())), paired))
        return cls(tuple(ways), tuple(lines))

    def line(self, way: str, measure: str) -> Line | None:
        """A measure of a way, where it has one."""
        return next((one for one in self.lines if (one.way, one.measure) == (way, measure)), None)

    def names(self) -> list[str]:
        """Measures that at least one way has."""
        return [name for name in MEASURES if any(one.measure == name for one in self.lines)]

    def to_csv(self) -> str:
        """A row a way and measure, each with the ends of its interval."""
        header = ["way", "measure", "n", "value", "low", "high", "difference", "difference low",
                  "difference high"]  # fmt: skip
        rows: list[Sequence[Any]] = [header]
        for one in self.lines:
            rows.append(
                [one.way, one.measure, one.estimate.n, *_ends(one.estimate), *_ends(one.difference)]
            )
        return _csv(rows)

    def __str__(self) -> str:
        """For people: a row a way, a column a measure; below it the differences from the first."""
        names = [name for name in self.names() if name != "l2"]  # which rms says at equal size
        blocks = [_block(self, names, "way", lambda one: _shown(one.estimate), self.ways)]
        if len(self.ways) > 1:
            title = f"minus {self.ways[0]}"
            others = self.ways[1:]
            told = _block(self, names, title, _difference, others)
            blocks.append(f"{told}\n* beyond 0 at 95 %, pictures of equal input, prompt and seed")
        return "\n\n".join(blocks)


def _values(scores: Sequence[Score], way: str, measure: str) -> dict[tuple[int, ...], float]:
    return {s.key: s.measures[measure] for s in scores if s.way == way and measure in s.measures}


def _difference(line: Line) -> str:
    if line.difference is None:
        return ""
    sure = line.difference.low > 0 or line.difference.high < 0
    return f"{_shown(line.difference)}{' *' if sure and line.difference.n > 1 else ''}"


def _shown(estimate: Estimate) -> str:
    """A single value has no interval."""
    return str(estimate) if estimate.n > 1 else f"{estimate.value:.4g}"


def _block(table: Table, names: Sequence[str], title: str, text: Any, ways: Sequence[str]) -> str:
    cells = [[title, *names]]
    for way in ways:
        lines = (table.line(way, name) for name in names)
        cells.append([way, *("" if line is None else text(line) for line in lines)])
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _ends(estimate: Estimate | None) -> list[str]:
    if estimate is None:
        return ["", "", ""]
    if estimate.n < 2:
        return [f"{estimate.value:.6g}", "", ""]
    return [f"{end:.6g}" for end in (estimate.value, estimate.low, estimate.high)]


def rows_csv(scores: Sequence[Score]) -> str:
    """A row a picture, with all that it says."""
    singles = [score for score in scores if score.file is not None]
    names = [name for name in MEASURES if any(name in score.measures for score in singles)]
    rows: list[Sequence[Any]] = [["way", "prompt", "seed", "file", *names]]
    for score in singles:
        assert score.file is not None
        values = (score.measures.get(name) for name in names)
        rows.append(
            [score.way, score.prompt, score.key[-1], score.file.as_posix(),
             *("" if value is None else f"{value:.6g}" for value in values)]
        )  # fmt: skip
    return _csv(rows)


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
