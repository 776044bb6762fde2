"""Distilled guidance (arXiv 2210.03142): a scale that a network was taught to follow by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Cond, traits
from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch
from sfumato.core.mixture import Branch
from sfumato.core.taps import Tap
from sfumato.methods import Method, knob, method

if TYPE_CHECKING:
    from sfumato.core.process import Process


@method
class DistilledGuidance(Method):
    """The network reads the scale as a number, and answers as if it had been guided by it.

    One call a step, as without guidance; for Flux.1 dev and LCM. `cfg` guides truly, by two calls.
    """

    slot: ClassVar[str | None] = "distilled_guidance"

    scale: Annotated[float, knob("strength of the guidance", main=True, ge=0, le=100)] = 3.5

    def __call__(self, process: Process) -> Process:
        return process.add(taps=(self,))

    def bind_tap(self, run: Run) -> Tap:
        if not traits(run.process.denoiser.network).distilled:
            raise SfumatoError(
                "distilled_guidance: this model's network reads no scale of guidance; take cfg"
            )
        return Told(self.scale)


class Told(Tap):
    """Writes the scale into every branch's condition."""

    name = "distilled_guidance"

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def condition(self, cond: Cond, branch: Branch, run: Run) -> Cond:
        rows = len(next(iter(cond.values()), ())) or run.n
        first = next(iter(cond.values()), None)
        device = run.process.device if first is None else first.device
        return Cond({**cond, "guidance": torch.full((rows,), self.scale, device=device)})

    def active(self, call: Call) -> bool:
        return False
