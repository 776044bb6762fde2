"""Where diffusers' runs begin, what their inpainting keeps, and what a caller is told of a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Cond, Denoiser, traits
from sfumato.core.guides import PASTE, Guide
from sfumato.core.starts import BoundCanvas, Place
from sfumato.methods.inpaint import KnownPart

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process


@dataclass(frozen=True, eq=False)
class Begun:
    """A Start: noise (n, C, h, w), or a clean state that it is added to, at the run's first time.

    at_sigma: noise alone has the deviation sigma there, else 1.
    """

    noise: Tensor
    clean: Tensor | None
    at_sigma: bool

    passes: ClassVar[int] = 1

    def place(self) -> Place:
        return Place(shape=tuple(self.noise.shape[1:]))

    def level(self, process: Process) -> float:
        return process.starts_at(1.0)

    def bind_start(self, run: Run) -> Begun:
        return self

    def state(self, call: Call, like: Tensor) -> Tensor:
        noise = self.noise.to(like)
        if self.clean is None:
            return noise * (call.sigma if self.at_sigma else 1.0)
        return torch.add(call.alpha * self.clean.to(like), noise, alpha=call.sigma)


@dataclass(frozen=True, eq=False)
class Kept:
    """A Canvas: the clean state (n, C, h, w) and its mask, 1 = may change, of whole cells.

    visible: the state of the masked picture, for networks that read it. noise: of the kept part at
    every level. pixels: the mask of pixels (n, 1, h, w), for networks that read that. drawn: a mask
    outside which states are put back, of a network that reads one too.
    """

    clean: Tensor
    visible: Tensor
    mask: Tensor
    noise: Tensor
    pixels: Tensor | None = None
    drawn: Tensor | None = None

    def place(self) -> Place:
        return Place(shape=tuple(self.clean.shape[1:]))

    def path(self, times: tuple[float, ...]) -> tuple[float, ...]:
        return times

    def bind_canvas(self, run: Run) -> BoundCanvas:
        drawn = self.mask if self.drawn is None else self.drawn
        if self.drawn is not None or not self.reads(run.denoiser):
            run.guides.append(Blended(self.clean, drawn, self.noise))
        known = KnownPart(self.visible, self.mask, self.reads)
        return known if self.pixels is None else OfPixels(known, self.pixels)

    def reads(self, denoiser: Denoiser) -> bool:
        return traits(denoiser.network).inpaint


@dataclass(frozen=True, eq=False)
class OfPixels:
    """A BoundCanvas: the known part, and which pixels (n, 1, h, w) may change."""

    known: KnownPart
    pixels: Tensor

    def condition(self, cond: Cond, denoiser: Denoiser) -> Cond:
        told = {**self.known.condition(cond, denoiser), "inpaint_pixels": self.pixels}
        rows = max(len(value) for value in told.values())
        return type(cond)({k: v.expand(rows, *v.shape[1:]) for k, v in told.items()})


@dataclass(frozen=True, eq=False)
class Blended(Guide):
    """x <- known_t where the mask is 0 after every step, known itself after the last."""

    known: Tensor
    mask: Tensor
    drawn: Tensor

    name = "mask"
    arrive_rank = PASTE

    def arrive(self, x: Tensor, t: float, call: Call) -> Tensor:
        if call.i < 0:
            return x
        known = self.known.to(x)
        if call.i < call.transitions - 1:
            schedule = call.schedule
            known = torch.add(schedule.alpha(t) * known, self.drawn.to(x), alpha=schedule.sigma(t))
        return torch.where(self.mask.to(x) > 0, x, known.expand_as(x))


@dataclass(frozen=True, eq=False)
class Heard(Guide):
    """Tells `hear` of the state after every step, which may give another: (x, t, call) -> x."""

    hear: Callable[[Tensor, float, Call], Tensor]

    name = "callback"
    arrive_rank = PASTE + 10

    def arrive(self, x: Tensor, t: float, call: Call) -> Tensor:
        return x if call.i < 0 else self.hear(x, t, call)
