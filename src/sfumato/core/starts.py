"""Starts: where a run begins, its state and its level. Here: pure noise, and the protocol.

A Start that begins from a picture lives with its method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sfumato.core.schedule import Schedule

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.denoiser import Cond, Denoiser
    from sfumato.core.guides import Call
    from sfumato.core.run import Run


@dataclass(frozen=True)
class Place:
    """What a Start says of its picture before the run has a size.

    size: (width, height) of the picture; box: the part (left, top, right, bottom) worth working on,
    None for all of it; shape: of a state that is given as a tensor; exact: worked on at its own
    size, whatever the model's is.
    """

    size: tuple[int, int] | None = None
    box: tuple[int, int, int, int] | None = None
    shape: tuple[int, ...] | None = None
    exact: bool = False


class Start(Protocol):
    """The first state of a run and its time."""

    @property
    def passes(self) -> int:
        """How often the times are walked; each return upwards is forward noising."""
        ...

    def place(self) -> Place: ...

    def level(self, schedule: Schedule) -> float:
        """t_start in [0, 1]; 0 returns the picture untouched."""
        ...

    def bind(self, run: Run) -> BoundStart: ...


class BoundStart(Protocol):
    def state(self, call: Call, like: Tensor) -> Tensor:
        """The state at run.times[0], shaped like `like` (n, C, H, W)."""
        ...


class Canvas(Protocol):
    """A picture of which a part is kept, whatever the run starts from (inpainting)."""

    def place(self) -> Place:
        """Sets the run's size where the Start has no picture."""
        ...

    def path(self, times: tuple[float, ...]) -> tuple[float, ...]:
        """The times of the run, maybe with moves back up."""
        ...

    def bind(self, run: Run) -> BoundCanvas: ...


class BoundCanvas(Protocol):
    def condition(self, cond: Cond, denoiser: Denoiser) -> Cond:
        """A branch's condition, with what this network reads of the picture."""
        ...


@dataclass(frozen=True)
class PriorNoise:
    """Noise of the prior's standard deviation at the run's first time.

    temperature scales it; GLIDE's upsampler starts from 0.997 of it. Its purpose "prior" is not the
    "start" that pictures are noised with: an edit with the seed that made its input would meet that
    very noise again, which over-sharpens.
    """

    passes: int = 1
    temperature: float = 1.0

    def place(self) -> Place:
        return Place()

    def level(self, schedule: Schedule) -> float:
        return 1.0

    def bind(self, run: Run) -> BoundStart:
        return _Prior(run, self.temperature)


@dataclass(frozen=True)
class _Prior:
    run: Any
    temperature: float

    def state(self, call: Call, like: Tensor) -> Tensor:
        std: float = self.run.schedule.prior(self.run.times[0]) * self.temperature
        return call.noise("prior", like) * std
