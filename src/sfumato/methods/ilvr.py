"""ILVR (arXiv 2108.02938): hold the low frequencies of every state to those of a reference.

x <- x + phi(y_s - x) on arrival at s, where y_s is the reference at the state's own noise level and
phi shrinks by `factor` and back. It acts on the state, so it runs with any solver and guidance.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sfumato import images
from sfumato.core.context import Call, Run
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import REFERENCE, Guide
from sfumato.core.lazy import torch
from sfumato.core.starts import Place
from sfumato.images import Image
from sfumato.methods import Method, knob, method
from sfumato.methods.common.fields import Background

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process

log = logging.getLogger("sfumato")


@method
class ILVR(Method):
    """Small factors keep nearly everything of the reference, large ones its colours and layout.

    Stopping early (`stop` above 0) frees the end of the run: a finer control than the factor. The
    reference may be a tensor (C, H, W) for all pictures or (n, C, H, W), one for each.
    """

    verb: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        'photo.png --preset variations -p "leaf" -n 4 --sheet',
        'drawing.png -p "rose" --factor 8',
    )
    slot: ClassVar[str | None] = "ilvr"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "variations": {"factor": 4.0},
        "translation": {"factor": 8.0},
        "paint": {"factor": 16.0},
        "scribble": {"factor": 4.0, "stop": 0.2},
    }

    image: Annotated[Image, knob("the reference")]
    factor: Annotated[
        float,
        knob(
            "low-pass: shrinks by this and back",
            main=True,
            unit="px",
            ge=1,
            le=4096,
            auto=(1.0, 32.0),
        ),
    ] = 8.0
    start: Annotated[float, knob("first time that is held", gt=0, le=1)] = 1.0
    stop: Annotated[
        float, knob("time below which the run is free", ge=0, le=1, auto=(0.0, 0.95))
    ] = 0.0
    kernel: Annotated[
        Literal["cubic", "linear", "lanczos2", "lanczos3", "box"], knob("shape of the low-pass")
    ] = "cubic"
    level: Annotated[
        Literal["matched", "reference"],
        knob("reference at the state's noise level, or one level up as the published loop"),
    ] = "matched"
    noise: Annotated[
        Literal["fresh", "fixed"], knob("new noise on the reference at every step, or one for all")
    ] = "fresh"
    background: Background = "white"

    def __post_init__(self) -> None:
        if self.stop >= self.start:
            raise SfumatoError(f"ilvr: stop {self.stop} is not below start {self.start}")

    def __call__(self, process: Process) -> Process:
        return process.add(guides=[self])

    def place(self) -> Place:
        """Sets the run's size where nothing else does: the result is as large as the reference."""
        return Place.of(self.image)

    def bind_guide(self, run: Run) -> Guide:
        from sfumato.nn.resize import LowPass

        if self.image.is_tensor:
            known = self.image.state("ilvr", run)
        else:
            picture = self.image.picture()
            if run.frame is None or run.frame.picture != picture.size:
                raise SfumatoError(
                    f"ilvr: the reference is {picture.width}x{picture.height}, the picture that is "
                    "edited is not; give both the same size"
                )
            pixels = images.to_work(picture, run.frame, self.background)[None]
            known = run.space.encode(pixels.to(run.device))
        return Refine(self, known, LowPass(self.cells(run.space.stride), self.kernel))

    def cells(self, stride: int) -> float:
        """The factor counted in the state's cells (of latents: factor / stride)."""
        factor = self.factor
        if factor < stride:
            raise SfumatoError(
                f"ilvr: factor {factor:g} is less than a cell of this model's latents, which is "
                f"{stride} px wide; give {stride} or more"
            )
        if factor == stride > 1:
            log.warning(
                "ilvr: factor %g holds every cell of the latents, so the result is the reference; "
                "give more than %d to leave something free",
                factor,
                stride,
            )
        return factor / stride


@dataclass(frozen=True, eq=False)
class Refine(Guide):
    """known: the reference's clean state (C, H, W) or (B or 1, C, H, W); phi: the low-pass."""

    method: ILVR
    known: Tensor
    phi: Callable[[Tensor], Tensor]

    name = "ilvr"
    arrive_rank = REFERENCE

    def active(self, call: Call) -> bool:
        return call.i >= 0 and self.method.stop < max(call.t, call.s) <= self.method.start

    def arrive(self, x: Tensor, t: float, call: Call) -> Tensor:
        m = self.method
        at = call.t if m.level == "reference" and call.s < call.t else t
        held = call.schedule.alpha(at) * self.known.to(x)
        if at > 0:
            visit = 0 if m.noise == "fixed" else None
            noise = call.noise("ilvr", x, visit=visit)
            held = torch.add(held, noise, alpha=call.schedule.sigma(at))
        return x + self.phi(held - x)
