"""diffusers' PNDM, entry by entry of its list of timesteps, each of which is a transition.

Its list holds the second timestep twice, for the two evaluations of the first step. Image to image
cuts the list in front, so that below full strength what is averaged are two steps, and every later
evaluation is asked for one step below its state. That is imitated here and nowhere else; sfumato's
own `plms` is the method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from sfumato.core.context import Call
from sfumato.core.denoiser import Prediction
from sfumato.core.lazy import torch
from sfumato.core.schedule import Schedule
from sfumato.core.solvers.base import BOTH, Denoise, Kept, once, transfer
from sfumato.core.solvers.multistep import ADAMS_BASHFORTH
from sfumato.models.files.schedulers import Scheduler
from sfumato.models.timesteps import times

if TYPE_CHECKING:
    from torch import Tensor

APART = 1e-10
"""Between times that are one in theirs; no time of a run may stand twice."""


class Before(NamedTuple):
    """Outputs of earlier entries, the newest first, and the state before the first."""

    outputs: tuple[Tensor, ...]
    begun: Tensor


def listed(record: Scheduler, schedule: Schedule, n: int, strength: float) -> tuple[float, ...]:
    """A time for each entry of theirs, cut as image to image cuts it, and the last level."""
    times(record, schedule, n, strength)  # which refuses what keeps no step
    *entries, last = times(record, schedule, n)
    if len(entries) > 1:
        entries.insert(2, entries[1] - APART)
    first = n - min(int(n * strength), n)
    return (*entries[first:], last)


@dataclass(frozen=True)
class PNDM:
    """Adams-Bashforth on the network's outputs, each entry moves by a stride of the table.

    first: the table's first time; last: what is moved to where the stride leads below that.
    """

    stride: float
    first: float
    last: float
    of: Literal["eps", "v"] = "eps"

    id: ClassVar[str] = "pndm"
    order: ClassVar[int] = 4
    needs: ClassVar[frozenset[str]] = BOTH
    mean_shift: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    evaluated = once

    @classmethod
    def of_record(cls, record: Scheduler, n: int) -> PNDM:
        """As a file says it, in n steps."""
        table = record.num_train_timesteps
        last = 0.0 if record.set_alpha_to_one else 1 / table
        kind: Literal["eps", "v"] = "v" if record.prediction_type == "v_prediction" else "eps"
        return cls((table // n) / table, 1 / table, last, kind)

    def jumped(self, kept: Kept, call: Call) -> Kept | None:
        """Theirs hears of no change."""
        return kept

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, state: Before | None
    ) -> tuple[Tensor, Before | None]:
        schedule = call.schedule
        output = self._told(denoise(x, t), t, schedule)
        if state is None:
            return self._moved(x, output, t, t - self.stride, schedule), Before((output,), x)
        if call.i == 1:
            mean = (output + state.outputs[0]) / 2
            return self._moved(state.begun, mean, t + self.stride, t, schedule), state
        recent = (output, *state.outputs)[:4]
        weights = ADAMS_BASHFORTH[len(recent) - 1]
        total: Tensor = sum(w * o for w, o in zip(weights, recent, strict=True))  # type: ignore[assignment]
        moved = self._moved(x, total, t, t - self.stride, schedule)
        return moved, Before(recent, state.begun)

    def _moved(self, x: Tensor, output: Tensor, t: float, s: float, schedule: Schedule) -> Tensor:
        """From t to s as if x were at t."""
        s = self.last if s < self.first - APART else s
        if self.of == "v":
            output = torch.add(schedule.alpha(t) * output, x, alpha=schedule.sigma(t))
        return transfer(x, output, t, s, schedule)

    def _told(self, pred: Prediction, t: float, schedule: Schedule) -> Tensor:
        if self.of == "eps":
            return pred.eps
        return torch.add(schedule.alpha(t) * pred.eps, pred.x0, alpha=-schedule.sigma(t))
