"""Asyrp (arXiv 2210.10960): edit a picture by a learned shift of the network's bottleneck h.

x_s = alpha_s P(x_t | h + shift) + sigma_s eps(x_t | h): only the half of a step that predicts x0
sees the shift, from t = 1 down to t_edit; below, the network is left alone, and at last, below
t_boost, steps draw noise, which gives back texture. The same shift is the same change of any
picture. Several add up as sum / sqrt(n).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sfumato.core.context import Call, Run
from sfumato.core.errors import SfumatoError
from sfumato.core.mixture import Branch
from sfumato.core.solvers import DDIM, solver
from sfumato.core.taps import Site, Tap
from sfumato.methods import Method, knob, method
from sfumato.methods.cfg import CFG
from sfumato.methods.common.inverted import (
    INVERTED,
    InvertedBackground,
    InvertedCaption,
    InvertedEdit,
    InvertedImage,
)
from sfumato.methods.common.kinds import Weights
from sfumato.methods.common.weights import read

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process

PLAIN, EDITED = "positive", "edited"  # branches; the second one sees the shift
BOOST = 0.2


@method
class Asyrp(InvertedEdit):
    """With no picture it acts on whatever the run begins from."""

    verb: ClassVar[bool] = True
    slot: ClassVar[str | None] = "asyrp"
    needs: ClassVar[frozenset[str]] = frozenset({"x0", "eps"})
    solver: ClassVar[Any] = {"solver": "ddim", "eta": 1.0, "below": BOOST}
    defaults: ClassVar[tuple[Method, ...]] = (CFG(1.0),)
    examples: ClassVar[tuple[str, ...]] = ("shift.safetensors --image photo.png --strength 0.8",)

    file: Annotated[Weights, knob("the shift: a tuner's file, or a tensor (channels, h, w)")]
    image: InvertedImage = None
    strength: Annotated[
        float, knob("factor of the shift; below 0 the other way", main=True, ge=-10, le=10)
    ] = 1.0
    also: Annotated[tuple[Weights, ...], knob("another shift beside it; may be given again")] = ()
    t_edit: Annotated[float, knob("level below which nothing is shifted", ge=0, le=1)] = 0.5
    t_boost: Annotated[
        float | None, knob("level below which steps draw noise, 0.2 if not given", ge=0, le=1)
    ] = None
    t0: Annotated[float, knob("level that the picture is walked up to", gt=0, le=1), INVERTED] = 1.0
    caption: InvertedCaption = None
    symmetric: Annotated[bool, knob("shift both halves of a step, which mostly cancels")] = False
    background: InvertedBackground = "white"

    def __call__(self, process: Process) -> Process:
        if self.t_boost is not None:
            boosting = DDIM(1.0, self.t_boost) if self.t_boost else DDIM()
            if process.solver is not None and solver(process.solver) != boosting:
                raise SfumatoError(
                    "asyrp: t_boost says how the solver draws noise, and a solver is given too; "
                    "leave one out"
                )
            process = replace(process, solver=boosting)
        process = self.begun(process)
        if not self.strength:
            return process
        return process.add(positives=branches(self.t_edit, self.symmetric), taps=(self,))

    def level(self, process: Process) -> float:
        return self.t0

    def bind_tap(self, run: Run) -> Tap:
        from sfumato.nn.shift import shift_of

        names = [branch.name for branch in run.process.positives]
        if names not in ([PLAIN, EDITED], [EDITED, PLAIN]):
            others = ", ".join(name for name in names if name not in (PLAIN, EDITED))
            raise SfumatoError(
                f"asyrp: splits the prediction into two halves, and another method has branches of "
                f"its own ({others}); leave one out"
            )
        files = [("file", self.file), *(("also", name) for name in self.also)]
        shifts = [shift_of(read(run, self.id, field, name), name) for field, name in files]
        parts = [part.to(run.device) for part in shifts]
        return ShiftedBottleneck(parts, self.strength * len(parts) ** -0.5)


@dataclass(eq=False)
class ShiftedBottleneck(Tap):
    """h + strength times the sum of shifts f(h, t), in the middle of the edited branch."""

    shifts: Sequence[Any]
    strength: float = 1.0
    on: Any = (EDITED,)
    name: str = "asyrp"

    def at(self, site: Site) -> bool:
        return site.kind == "middle"

    def feature(self, h: Tensor, site: Site, call: Call) -> Tensor:
        for shift in self.shifts:
            if shift.channels != h.shape[1]:
                raise SfumatoError(
                    f"asyrp: a shift of {shift.channels} channels, this network's bottleneck has "
                    f"{h.shape[1]}; it belongs to another model"
                )
            change = shift(h, call.t)
            if change.shape[-2:] not in (h.shape[-2:], (1, 1)):
                raise SfumatoError(
                    f"asyrp: a shift of {change.shape[-1]}x{change.shape[-2]}, the bottleneck is "
                    f"{h.shape[-1]}x{h.shape[-2]}; it belongs to another size"
                )
            h = h + self.strength * change.to(h.dtype)
        return h


def branches(t_edit: float, symmetric: bool = False) -> tuple[Branch, Branch]:
    """The plain branch, and the shifted one, which gives x0 down to t_edit (both: all of it)."""

    def above(t: float) -> bool:
        return t >= t_edit

    if symmetric:
        plain = Branch(PLAIN, weight=lambda t: 0.0 if above(t) else 1.0)
        return plain, Branch(EDITED, weight=lambda t: 1.0 if above(t) else 0.0)
    plain = Branch(PLAIN, role=lambda t: "eps" if above(t) else "both")
    return plain, Branch(EDITED, weight=lambda t: 1.0 if above(t) else 0.0, role="x0")
