"""What a run shows of itself: a CSV of means, a picture of its curves, the memory
and time it takes."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from sfumato.documents import check_regular
from sfumato.train import checkpoint

LONGEST = 1 << 16  # bytes of a line
INKS = ("#1b6ca8", "#d1495b", "#2e8b57", "#b8860b", "#6a4c93", "#444444", "#e07a1f", "#008080")


class Log:
    """Means over a window of steps, one CSV row each."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.window: list[Mapping[str, float]] = []
        self._seconds = 0.0

    def add(self, row: Mapping[str, float]) -> None:
        self.window.append(row)

    def begin(self, seconds: float) -> None:
        """The first window begins when the run has taken so long."""
        self._seconds = seconds

    def pace(self, seconds: float) -> float:
        """Steps per second over the window; `seconds` is the run's time so far."""
        spent, self._seconds = seconds - self._seconds, seconds
        return len(self.window) / spent if spent > 0 else 0.0

    def write(self, step: int, seconds: float, pace: float, rate: float) -> dict[str, float]:
        """Append the window's means and empty it; NaN (no picture of a level) is skipped."""
        names = list(self.window[0])
        row: dict[str, float] = {"step": step, "seconds": round(seconds, 1)}
        row |= {"pictures/s": round(pace, 2), "rate": rate}
        for name in names:
            values = [w[name] for w in self.window if not math.isnan(w[name])]
            row[name] = sum(values) / len(values) if values else math.nan
        self.window.clear()
        self.put(row)
        return row

    def put(self, row: Mapping[str, float]) -> None:
        """Append one row; the first one names the columns, a row with others renames them."""
        columns = _columns(self.file)
        if columns != list(row):
            rows = read(self.file) if columns else []
            self._write([*rows, row])
            return
        with (
            checkpoint.writing(self.file),
            self.file.open("a", newline="", encoding="utf-8") as stream,
        ):
            csv.writer(stream).writerow(_cells(row, columns))

    def cut(self, step: int) -> None:
        """Drop rows after a step, which a resumed run will write again, and what is no whole
        row."""
        if not self.file.exists():
            return
        if rows := [row for row in read(self.file) if row["step"] <= step]:
            self._write(rows)  # at once: a kill here loses no row
        else:
            self.file.unlink()

    def _write(self, rows: Sequence[Mapping[str, float]]) -> None:
        columns = list(dict.fromkeys(name for row in reversed(rows) for name in row))
        with (
            checkpoint.beside(self.file) as part,
            part.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.writer(stream)
            writer.writerow(columns)
            writer.writerows(_cells(row, columns) for row in rows)


def memory(device: str) -> float:
    """Most memory that the process has held so far, in GiB: the accelerator's, else its own."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**30
    try:
        import resource
    except ImportError:  # not on Windows
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def clock(seconds: float) -> str:
    """1 h 05 min, 4 min, or 30 s."""
    if not math.isfinite(seconds):
        return "unknown time"
    minutes = int(seconds // 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"


def _cells(row: Mapping[str, float], columns: Sequence[str]) -> list[str]:
    values = [row.get(name, math.nan) for name in columns]
    return [
        str(v) if isinstance(v, int) else f"{v:.{15 if v.is_integer() else 6}g}" for v in values
    ]


def _columns(file: Path) -> list[str]:
    """The names in a log's first line; none where it is missing, empty or torn there."""
    if file.exists():
        check_regular(file)
    try:
        with file.open(newline="", encoding="utf-8", errors="replace") as stream:
            line = stream.readline(LONGEST)
    except FileNotFoundError:
        return []
    return next(csv.reader([line]), []) if line.endswith("\n") else []


def read(file: Path) -> list[dict[str, float]]:
    """A log's rows as numbers, to the last whole one: a kill may have torn what follows."""
    names = _columns(file)
    if "step" not in names:
        return []
    rows: list[dict[str, float]] = []
    with file.open(newline="", encoding="utf-8", errors="replace") as stream:
        for line in list(stream)[1:]:
            try:
                values = [float(value) for value in next(csv.reader([line]), [])]
            except (ValueError, csv.Error):
                break
            if len(values) != len(names) or not line.endswith("\n"):
                break
            rows.append(dict(zip(names, values, strict=True)))
    return rows


NOT_CURVES = ("step", "seconds", "pictures/s", "rate", "gradient")
CHOSEN = "balance"
"""The column whose highest value marks a step: what the tuner keeps as its best."""


def plot(source: Path, target: Path, size: tuple[int, int] = (900, 520)) -> None:
    """The columns of a log over its steps, values on a logarithmic axis."""
    rows = read(source)
    if not rows:
        return
    names = [name for name in rows[0] if name not in NOT_CURVES]
    curves = {
        name: [
            (row["step"], row[name]) for row in rows if row[name] > 0 and math.isfinite(row[name])
        ]
        for name in names
    }
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return
    width, height = size
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(13)
    left, top, right, bottom = 64, 14, width - 190, height - 34
    values = [v for points in curves.values() for _, v in points]
    low, high = math.log10(min(values)), math.log10(max(values))
    low, high = low - 0.02, max(high + 0.02, low + 0.1)
    end = max(row["step"] for row in rows)

    def position(step: float, value: float) -> tuple[float, float]:
        x = left + (right - left) * step / end
        y = bottom - (bottom - top) * (math.log10(value) - low) / (high - low)
        return x, y

    for value in _ticks(low, high):
        _, y = position(0, value)
        draw.line([(left, y), (right, y)], fill="#e4e4e4")
        draw.text((left - 6, y), f"{value:g}", fill="#444", font=font, anchor="rm")
    for k in range(5):
        step = end * k / 4
        x, _ = position(step, 10**low)
        draw.text((x, bottom + 6), f"{step:,.0f}", fill="#444", font=font, anchor="ma")
    if marked := [row for row in rows if math.isfinite(row.get(CHOSEN, math.nan))]:
        best = max(marked, key=lambda row: row[CHOSEN])
        x, _ = position(best["step"], 10**low)
        draw.line([(x, top), (x, bottom)], fill="#222", width=1)
        draw.text((x + 4, top + 4), f"best {best['step']:,.0f}", fill="#222", font=font)
    for k, (name, points) in enumerate(curves.items()):
        ink = INKS[k % len(INKS)]
        path = [position(*point) for point in points]
        if len(path) > 1:
            draw.line(path, fill=ink, width=2)
        else:
            draw.ellipse([path[0][0] - 2, path[0][1] - 2, path[0][0] + 2, path[0][1] + 2], fill=ink)
        y = top + 8 + 20 * k
        draw.line([(right + 12, y), (right + 34, y)], fill=ink, width=3)
        draw.text(
            (right + 40, y), f"{name} {points[-1][1]:.3g}", fill="#222", font=font, anchor="lm"
        )
    draw.rectangle([left, top, right, bottom], outline="#888")
    checkpoint.put_picture(target, image)


def _ticks(low: float, high: float) -> Sequence[float]:
    """1, 2 and 5 times powers of ten inside the range."""
    ticks = [
        m * 10.0**e
        for e in range(math.floor(low) - 1, math.ceil(high) + 1)
        for m in (1, 2, 5)
        if low <= math.log10(m * 10.0**e) <= high
    ]
    return ticks or [10**low, 10**high]
