"""Runs that begin from a picture: what such methods have alike, its clean state, and first states.

A start that finds the picture's own noise first is inverted.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sfumato import images
from sfumato.core.context import Call, Paste, Run
from sfumato.core.lazy import torch
from sfumato.core.starts import BoundStart, Place
from sfumato.images import ImageInput
from sfumato.methods import Method

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process


class FromPicture(Method, ABC):
    """A Start whose field `image` is what a run begins from, once, and of what size it is."""

    if TYPE_CHECKING:
        image: Any

    passes: ClassVar[int] = 1

    def place(self) -> Place:
        return Place.of(self.image)

    @abstractmethod
    def level(self, process: Process) -> float: ...

    @abstractmethod
    def bind_start(self, run: Run) -> BoundStart: ...


def clean_state(method: str, run: Run, image: ImageInput, background: str = "white") -> Tensor:
    """The picture as the state that a run begins from and keeps, (B or 1, C, H, W).

    A tensor is a state. method: what an error calls the asker.
    """
    if image.is_tensor:
        clean = image.state(method, run)
        clean = clean[None] if clean.ndim == 3 else clean
    else:
        picture = image.picture()
        run.paste = Paste(picture)
        assert run.frame is not None
        pixels = images.to_work(picture, run.frame, background)[None]
        clean = run.space.encode(pixels.to(run.device))
    run.known = clean
    return clean


@dataclass(frozen=True)
class Clean:
    """clean: a state (B or 1, C, H, W), which the run begins at as it is."""

    clean: Tensor

    def state(self, call: Call, like: Tensor) -> Tensor:
        return self.clean.to(like).expand_as(like)


@dataclass(frozen=True)
class Noised:
    """clean: a state (B or 1, C, H, W), brought to the run's first time.

    prior_at_1: t = 1 is pure noise, of the purpose that a run without a picture draws.
    """

    clean: Tensor
    prior_at_1: bool

    def state(self, call: Call, like: Tensor) -> Tensor:
        t, like = call.t, like.to(self.clean)
        if t == 1 and self.prior_at_1:
            return call.noise("prior", like) * call.schedule.prior(t)
        return torch.add(call.alpha * self.clean, call.noise("start", like), alpha=call.sigma)
