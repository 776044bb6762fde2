"""The reference programs' noise schedules and respacings, written anew in numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor


class Tables:
    """A noise schedule and its respacing; t counts kept steps, `kept` tells the original ones."""

    def __init__(self, schedule: str, total: int, respacing: str = "") -> None:
        if schedule == "linear":
            betas = np.linspace(0.1 / total, 20 / total, total)
        else:
            bars = np.cos((np.arange(total + 1) / total + 0.008) / 1.008 * np.pi / 2) ** 2
            betas = np.minimum(1 - bars[1:] / bars[:-1], 0.999)
        self.kept = sections(respacing, total)
        self.whole = np.cumprod(1 - betas)
        self.bar = self.whole[self.kept]
        self.before = np.append(1.0, self.bar[:-1])
        self.beta = 1 - self.bar / self.before
        self.small = self.beta * (1 - self.before) / (1 - self.bar)
        self.of_x0 = self.beta * np.sqrt(self.before) / (1 - self.bar)
        self.of_x = (1 - self.before) * np.sqrt(1 - self.beta) / (1 - self.bar)

    def __len__(self) -> int:
        return len(self.kept)

    def log_variance(self, t: int, kind: str, told: Tensor | None) -> Any:
        """Of one transition; the first takes the small variance of the second."""
        small = math.log(self.small[max(t, 1)])
        large = math.log(self.beta[t]) if t or kind == "learned_range" else small
        if told is not None:
            return told if kind == "learned" else small + (told + 1) / 2 * (large - small)
        return small if kind == "fixed_small" else large


def sections(respacing: str, total: int) -> list[int]:
    """Kept indices of "", "ddimN" and "a,b,c"."""
    if not respacing:
        return list(range(total))
    if respacing.startswith("ddim"):
        return list(range(0, total, total // int(respacing[4:])))
    counts, kept, start = [int(part) for part in respacing.split(",")], [], 0
    for k, count in enumerate(counts):
        size = total // len(counts) + (k < total % len(counts))
        stride = 1.0 if count <= 1 else (size - 1) / (count - 1)
        kept += [start + round(stride * j) for j in range(count)]
        start += size
    return kept
