"""Asyrp (arXiv 2210.10960): edit a picture by a learned shift of the network's bottleneck h.

x_s = alpha_s P(x_t | h + shift) + sigma_s eps(x_t | h): only the half of a step that predicts x0
sees the shift, from t = 1 down to t_edit; below, the network is left alone, and at last, below
t_boost, steps draw noise, which gives back texture. The same shift is the same change of any
picture. Several add up as sum / sqrt(n).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sfumato.core.context import Run
from sfumato.core.errors import SfumatoError
from sfumato.core.idle import Needs
from sfumato.core.mixture import Branch
from sfumato.core.solvers import DDIM, solver
from sfumato.core.starts import BoundStart, Place
from sfumato.core.taps import Tap
from sfumato.images import Image
from sfumato.methods import Method, knob, method
from sfumato.methods.cfg import CFG
from sfumato.methods.common.inverted import Way
from sfumato.methods.common.kinds import Colour, Text, Weights
from sfumato.methods.common.shifted import EDITED, Shifted
from sfumato.methods.common.weights import read

if TYPE_CHECKING:
    from sfumato.core.process import Process

PLAIN = "positive"
BOOST = 0.2
INVERTED = Needs("image")


@method
class Asyrp(Method):
    """With no picture it acts on whatever the run begins from."""

    verb: ClassVar[bool] = True
    slot: ClassVar[str | None] = "asyrp"
    needs: ClassVar[frozenset[str]] = frozenset({"x0", "eps"})
    solver: ClassVar[Any] = {"solver": "ddim", "eta": 1.0, "below": BOOST}
    defaults: ClassVar[tuple[Method, ...]] = (CFG(1.0),)
    examples: ClassVar[tuple[str, ...]] = ("shift.safetensors --image photo.png --strength 0.8",)

    file: Annotated[Weights, knob("the shift: a tuner's file, or a tensor (channels, h, w)")]
    image: Annotated[
        Image | None, knob("a picture, walked up first; none: the run's own start")
    ] = None
    strength: Annotated[
        float, knob("factor of the shift; below 0 the other way", main=True, ge=-10, le=10)
    ] = 1.0
    also: Annotated[tuple[Weights, ...], knob("another shift beside it; may be given again")] = ()
    t_edit: Annotated[float, knob("level below which nothing is shifted", ge=0, le=1)] = 0.5
    t_boost: Annotated[
        float | None, knob("level below which steps draw noise, 0.2 if not given", ge=0, le=1)
    ] = None
    t0: Annotated[float, knob("level that the picture is walked up to", gt=0, le=1), INVERTED] = 1.0
    caption: Annotated[
        Text | None, knob("what the picture shows; the prompt if not given"), INVERTED
    ] = None
    symmetric: Annotated[bool, knob("shift both halves of a step, which mostly cancels")] = False
    background: Annotated[Colour, knob("colour behind transparent parts"), INVERTED] = "white"

    passes: ClassVar[int] = 1

    def __call__(self, process: Process) -> Process:
        if self.t_boost is not None:
            boosting = DDIM(1.0, self.t_boost) if self.t_boost else DDIM()
            if process.solver is not None and solver(process.solver) != boosting:
                raise SfumatoError(
                    "asyrp: t_boost says how the solver draws noise, and a solver is given too; "
                    "leave one out"
                )
            process = replace(process, solver=boosting)
        process = process.add(start=self if self.image is not None else None)
        if not self.strength:
            return process
        return process.add(positives=branches(self.t_edit, self.symmetric), taps=(self,))

    def place(self) -> Place:
        return Place.of(self.image)

    def level(self, process: Process) -> float:
        return self.t0

    def bind_start(self, run: Run) -> BoundStart:
        caption = run.process.prompt if self.caption is None else self.caption
        assert self.image is not None
        return Way(self.id, "ddim", caption=caption).start(run, self.image, self.background)

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
        return Shifted(parts, self.strength * len(parts) ** -0.5)


def branches(t_edit: float, symmetric: bool = False) -> tuple[Branch, Branch]:
    """The plain branch, and the shifted one, which gives x0 down to t_edit (both: all of it)."""

    def above(t: float) -> bool:
        return t >= t_edit

    if symmetric:
        plain = Branch(PLAIN, weight=lambda t: 0.0 if above(t) else 1.0)
        return plain, Branch(EDITED, weight=lambda t: 1.0 if above(t) else 0.0)
    plain = Branch(PLAIN, role=lambda t: "eps" if above(t) else "both")
    return plain, Branch(EDITED, weight=lambda t: 1.0 if above(t) else 0.0, role="x0")
