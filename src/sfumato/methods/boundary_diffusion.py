"""BoundaryDiffusion (arXiv 2302.08357): push a picture's noise across a plane, once, and denoise.

At one level t_m the state x and the network's bottleneck h are moved along the unit normals of two
planes that tell pictures with a property from those without, v <- v + (d - v.n - b) n, so that
their signed distances become d. Nothing is learned but the planes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sfumato.core.context import Run
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.taps import Tap
from sfumato.methods import Method, knob, method
from sfumato.methods.cfg import CFG
from sfumato.methods.common.inverted import (
    InvertedBackground,
    InvertedCaption,
    InvertedEdit,
    InvertedImage,
)
from sfumato.methods.common.kinds import Weights
from sfumato.methods.common.weights import read
from sfumato.methods.inner.planes import (
    Plane,
    PushedBottleneck,
    PushedState,
    plane_of,
    planes_level,
)

if TYPE_CHECKING:
    from sfumato.core.process import Process


@method
class BoundaryDiffusion(InvertedEdit):
    """With no picture it acts on whatever the run begins from, on its way through t_m."""

    verb: ClassVar[bool] = True
    slot: ClassVar[str | None] = "boundary_diffusion"
    solver: ClassVar[Any] = "ddim"
    defaults: ClassVar[tuple[Method, ...]] = (CFG(1.0),)
    examples: ClassVar[tuple[str, ...]] = ("boundary.safetensors --image photo.png --distance 2",)

    file: Annotated[Weights, knob("the planes, as tuner boundary finds them")]
    image: InvertedImage = None
    distance: Annotated[
        float,
        knob(
            "signed distance afterwards, in spreads of the pictures it was fitted to",
            main=True,
            ge=-1000,
            le=1000,
        ),
    ] = 2.0
    spaces: Annotated[
        Literal["both", "x", "h"], knob("what is pushed: the state, the bottleneck, both")
    ] = "both"
    t_m: Annotated[
        float | None, knob("level of the push; that of the file if not given", gt=0, le=1)
    ] = None
    lag: Annotated[
        bool, knob("later bottlenecks are those of the step before, as in the released program")
    ] = False
    caption: InvertedCaption = None
    background: InvertedBackground = "white"

    def __call__(self, process: Process) -> Process:
        process = self.begun(process)
        return process.add(guides=(self,), taps=(self,))

    def level(self, process: Process) -> float:
        """The way begins at the push."""
        return planes_level(self.file) if self.t_m is None else self.t_m

    def bind_guide(self, run: Run) -> Guide:
        plane = self.plane(run, "x")
        return Guide() if plane is None else PushedState(plane, self.visit(run))

    def bind_tap(self, run: Run) -> Tap:
        plane = self.plane(run, "h")
        if plane is None and not self.lag:
            return Tap()
        return PushedBottleneck(plane, self.visit(run), self.lag)

    def visit(self, run: Run) -> int:
        """Index of the first time at or below t_m."""
        top = self.level(run.process)
        for k, t in enumerate(run.times[:-1]):
            if t <= top:
                return k
        raise SfumatoError(
            f"boundary_diffusion: no step begins at t_m {top:g} or below; give more steps"
        )

    def plane(self, run: Run, space: str) -> Plane | None:
        """The file's plane of a space, None where it is not pushed."""
        tensors = read(run, self.id, "file", self.file)
        if self.spaces not in ("both", space):
            return None
        return plane_of(tensors, space, self.distance, self.file)
