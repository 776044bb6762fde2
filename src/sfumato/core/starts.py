"""Where a run begins and what it keeps: Place, Start, Canvas, and pure noise.

A Start that begins from a picture is a method, which binds itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from sfumato.core.context import Call, Run
from sfumato.core.frame import Box, Sides

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.denoiser import Cond, Denoiser
    from sfumato.core.process import Process


class Sized(Protocol):
    """Something of a size (width, height), such as a PIL image."""

    @property
    def size(self) -> Sides: ...


class Given(Protocol):
    """A picture, or the tensor of a state, as a method has it (images.ImageInput)."""

    @property
    def is_tensor(self) -> bool: ...

    def picture(self) -> Sized: ...

    def tensor(self) -> Tensor: ...


@dataclass(frozen=True)
class Place:
    """What is known of a run's picture before the run has a size.

    size: (width, height) of the picture; box: the part (left, top, right, bottom) worth working on,
    None for all of it; shape: of a state that is given as a tensor; exact: worked on at its own
    size, whatever the model's is.
    """

    size: Sides | None = None
    box: Box | None = None
    shape: tuple[int, ...] | None = None
    exact: bool = False

    @classmethod
    def of(cls, image: Given | None, box: Box | None = None, exact: bool = False) -> Place:
        """Where the given picture or state is; nowhere without one."""
        if image is None:
            return cls()
        if image.is_tensor:
            return cls(shape=tuple(image.tensor().shape[-3:]))
        return cls(image.picture().size, box, exact=exact)


@runtime_checkable
class Placed(Protocol):
    """Something that says where the run's picture is, where nothing before it does."""

    def place(self) -> Place: ...


class Start(Protocol):
    """The first state of a run and its time."""

    @property
    def passes(self) -> int:
        """How often the times are walked; each return upwards is forward noising."""
        ...

    def place(self) -> Place: ...

    def level(self, process: Process) -> float:
        """t_start in [0, 1], `process.starts_at(default)` where nobody said one; 0 returns the
        picture untouched."""
        ...

    def bind_start(self, run: Run) -> BoundStart: ...


class BoundStart(Protocol):
    def state(self, call: Call, like: Tensor) -> Tensor:
        """The state at the run's first time, call.t, shaped like `like` (n, C, H, W)."""
        ...


class Canvas(Protocol):
    """A picture of which a part is kept, whatever the run starts from (inpainting)."""

    def place(self) -> Place: ...

    def path(self, times: tuple[float, ...]) -> tuple[float, ...]:
        """The times of the run, maybe with moves back up."""
        ...

    def bind_canvas(self, run: Run) -> BoundCanvas: ...


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

    def level(self, process: Process) -> float:
        return process.starts_at(1.0)

    def bind_start(self, run: Run) -> BoundStart:
        return self

    def state(self, call: Call, like: Tensor) -> Tensor:
        std: float = call.schedule.prior(call.t) * self.temperature
        return call.noise("prior", like) * std
