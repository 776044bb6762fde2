"""ControlNet (arXiv 2302.05543): a second network reads a hint, such as edges, and sets the layout.

h_k <- h_k + scale c_k at every skip and at the middle, where c_k is what a trained copy of the way
down makes of the state, the prompt and the hint. T2I adapters (arXiv 2302.08453) add maps of the
hint alone to the way down. Several add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sfumato import images
from sfumato.core.context import Call, Run
from sfumato.core.errors import SfumatoError
from sfumato.core.starts import Place
from sfumato.core.taps import Site, Tap
from sfumato.images import Image
from sfumato.methods import Method, knob, method
from sfumato.methods.common.kinds import Colour, Weights, Window, within
from sfumato.methods.common.weights import record

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.denoiser import Cond
    from sfumato.core.process import Process
    from sfumato.core.source import Control, Spot


@method
class ControlNet(Method):
    """The picture has the hint's layout and the prompt's content."""

    verb: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        'edges.png control.safetensors -p "red apple"',
        'photo.png lllyasviel/sd-controlnet-canny --make edges -p "a castle"',
    )

    hint: Annotated[Image, knob("edges, a mask, a depth map: what the network was taught to read")]
    file: Annotated[Weights, knob("a tuner's file, or a ControlNet or T2I adapter of diffusers")]
    scale: Annotated[float, knob("strength", main=True, ge=0, le=2)] = 1.0
    make: Annotated[
        Literal["given", "edges", "mask"],
        knob("hint as it is; or what differs from its ground, or the edges in it"),
    ] = "given"
    guess: Annotated[
        bool, knob("for the prompt alone, not for guidance's empty one; weaker on large maps")
    ] = False
    window: Annotated[Window, knob("times at which it acts: low, high")] = (0.0, 1.0)
    background: Annotated[Colour, knob("colour behind transparent parts")] = "white"

    def __call__(self, process: Process) -> Process:
        return process.add(taps=(self,))

    def place(self) -> Place:
        """Sets the run's size where nothing else does."""
        return Place(self.hint.picture().size)

    def bind_tap(self, run: Run) -> Tap:
        if run.source is None or run.frame is None:
            raise SfumatoError("controlnet: needs a model and a start that is no tensor")
        control = run.source.control(self.file)
        record(run, self.id, "file", control.origin)
        picture = self.hint.picture()
        if run.frame.picture != picture.size:
            width, height = run.frame.picture
            raise SfumatoError(
                f"controlnet: the hint is {picture.width}x{picture.height}, the picture that is "
                f"edited {width}x{height}; give both the same size"
            )
        if not self.scale:
            return Tap()  # exactly as without
        pixels = images.to_work(picture, run.frame, self.background)[None].to(run.device)
        hint = control.read(self.hinted(pixels))
        key = f"{control.origin.sha256} {self.hint.sha256}"
        return Controlled(control, hint, key, self.scale, self.guess, self.window)

    def hinted(self, pixels: Tensor) -> Tensor:
        """The hint as a picture (1, 3, H, W) in [-1, 1]."""
        from sfumato.nn.hints import HINTS

        if self.make == "given":
            return pixels
        return HINTS[self.make](pixels).expand(-1, 3, -1, -1) * 2 - 1


@dataclass(eq=False)
class Controlled(Tap):
    """The second network runs once for each branch; hint: as it reads it, for all pictures."""

    control: Control
    hint: Any
    key: str = ""
    scale: float = 1.0
    guess: bool = False
    window: tuple[float, float] = (0.0, 1.0)
    name: str = field(default="controlnet", init=False)

    def __post_init__(self) -> None:
        self.on = ("positives",) if self.guess or self.control.pooled else None

    def active(self, call: Call) -> bool:
        return within(self.window, call.t)

    def enter(self, x: Tensor, time: Tensor, cond: Cond, call: Call) -> Tap:
        added = self.control(x, time, cond, self.hint)
        scales = [self.scale] * len(added)
        if self.guess and not self.control.pooled:
            last = max(len(added) - 1, 1)
            scales = [scale * 0.1 ** ((last - k) / last) for k, scale in enumerate(scales)]
        return Added(
            {spot: v * scale for (spot, v), scale in zip(added.items(), scales, strict=True)},
            self.key,
        )


@dataclass(eq=False)
class Added(Tap):
    """Adds maps, each at its place."""

    maps: Mapping[Spot, Tensor]
    key: str = ""
    name: str = field(default="controlnet", init=False)

    def at(self, site: Site) -> bool:
        return (site.kind, site.index) in self.maps

    def feature(self, h: Tensor, site: Site, call: Call) -> Tensor:
        own = self.maps[site.kind, site.index]
        if own.shape[1] != h.shape[1] or own.shape[2:] not in (h.shape[2:], (1, 1)):
            raise SfumatoError(
                f"{self.name}: its map is {tuple(own.shape[1:])}, that of {site.name} is "
                f"{tuple(h.shape[1:])}; it is for another network"
            )
        return h + own.to(h.dtype)
