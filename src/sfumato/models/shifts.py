"""Times of flow models: an even ramp, shifted to the noisy end by what a scheduler's file says.

A larger picture needs more noise to hide as much of it, so that dynamic shifts grow with its size
(arXiv 2403.03206, section 5.3.2).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

from sfumato.core.errors import SfumatoError
from sfumato.core.spacing import Times
from sfumato.models.files.flow_schedulers import FlowScheduler

Ramp = Literal["even", "table", "measured", "inner", "angles"]
MIDDLE = 1.3
"""The second angle of two, as Sana Sprint was tuned for it."""

LARGEST = 1e9
"""Of a shift; of a few million times that no time below 1 is told from 1."""


@dataclass(frozen=True)
class Shifted:
    """The times that a flow's pipeline visits.

    ramp: before the shift, "even" from 1 to 1/n, or "table" from 1 to the table's first entry, as
    the scheduler places them by itself; "measured": even, and dynamic shifts are those that
    Flux.2's authors found for a size and a number of steps; "inner": n of n + 1 even ones from one
    entry below the table's last, as multistep schedulers place them; "angles": even angles, whose
    tangent is noise over picture. patch: cells of a state to a token's side.
    """

    config: FlowScheduler
    ramp: Ramp
    patch: int

    def times(self, shape: tuple[int, ...], n: int, strength: float = 1.0) -> Times:
        """Falling times of n steps for states of a shape (C, H, W), of which image to image takes
        the last n - int(n - n * strength)."""
        first = int(max(n - min(n * strength, n), 0))
        if first >= n:
            raise SfumatoError(
                f"t0 {strength:g}: of {n} steps that keeps none with spacing model, where it is "
                f"the share of steps; give at least {math.ceil(1e4 / n) / 1e4:g}, or more steps"
            )
        return self._falling(self._levels(n, 1.0, self._factor(shape, n))[first:], n)

    def below(self, shape: tuple[int, ...], n: int, level: float) -> Times:
        """Falling times of n steps from a level, those of `times` where that is 1."""
        factor = self._factor(shape, n)
        u = level / (level + factor * (1 - level))
        first, *rest = self._levels(n, u, factor)
        return self._falling([min(level, first) if self.ramp == "inner" else level, *rest], n)

    def _levels(self, n: int, u: float, factor: float) -> list[float]:
        """Of an even ramp from u, before the last time, 0."""
        if self.ramp == "angles":
            top = math.atan2(u, 1 - u)
            angles = [top * (n - k) / n for k in range(n)]
            angles = [top, MIDDLE] if n == 2 and u == 1 else angles
            return [math.sin(one) / (math.sin(one) + math.cos(one)) for one in angles]
        if self.ramp == "inner":
            top = min(u, 1 - 1 / self.config.num_train_timesteps)
            return [shifted(top * (n - k) / n, factor) for k in range(n)]
        last = u / n
        if self.ramp == "table":  # whose ends are shifted once when it is made
            first = 1 / self.config.num_train_timesteps
            last = min(first if self.config.use_dynamic_shifting else shifted(first, factor), last)
        ramp = [u + (last - u) * k / max(n - 1, 1) for k in range(n)]
        levels = [min(shifted(one, factor), 1.0) for one in ramp]
        if self.config.shift_terminal is not None and u == 1 and n > 1:
            scale = (1 - levels[-1]) / (1 - self.config.shift_terminal)
            levels = [1 - (1 - level) / scale for level in levels]
        return levels

    def _factor(self, shape: tuple[int, ...], n: int) -> float:
        config = self.config
        if not config.use_dynamic_shifting:
            return config.shift
        tokens = math.prod(side // self.patch for side in shape[-2:])
        mu = measured(tokens, n) if self.ramp == "measured" else self._line(tokens)
        largest = math.log(LARGEST) if config.time_shift_type == "exponential" else LARGEST
        if mu > largest:
            raise SfumatoError(
                f"size: the scheduler's shift is beyond {LARGEST:g} at {tokens} tokens; give a "
                "smaller one"
            )
        factor = math.exp(mu) if config.time_shift_type == "exponential" else mu
        if factor <= 0:
            raise SfumatoError(f"size: the scheduler's shift is {factor:g} at {tokens} tokens")
        return factor

    def _line(self, tokens: int) -> float:
        config = self.config
        low, high = config.base_shift or 0.0, config.max_shift or 0.0
        slope = (high - low) / (config.max_image_seq_len - config.base_image_seq_len)
        return low + slope * (tokens - config.base_image_seq_len)

    def _falling(self, levels: list[float], n: int) -> Times:
        falling = (*levels, 0.0)
        if any(s >= t for t, s in itertools.pairwise(falling)):
            raise SfumatoError(
                f"steps {n}: {self.config.kind} cannot place as many with its shift; give fewer"
            )
        return falling


def shifted(u: float, factor: float) -> float:
    """sigma/alpha times the factor (arXiv 2403.03206, eq. 23)."""
    return factor * u / (1 + (factor - 1) * u)


def measured(tokens: int, n: int) -> float:
    """Flux.2's shift, as a logarithm: lines in the tokens at 10 and at 200 steps, between them a
    line in the steps."""
    many, few = 0.00016927 * tokens + 0.45666666, 8.73809524e-05 * tokens + 1.89833333
    if tokens > 4300:
        return many
    return many + (n - 200) * (many - few) / 190
