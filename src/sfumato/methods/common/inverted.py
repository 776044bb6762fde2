"""A start that is a picture inverted: walked up its deterministic path, to be sampled back down."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from sfumato.core.context import Call, Run
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.idle import Needs
from sfumato.core.inversion import Inversion, Inverted
from sfumato.core.process import Process
from sfumato.core.solvers import solver
from sfumato.core.starts import BoundStart
from sfumato.images import Image, ImageInput
from sfumato.methods import knob
from sfumato.methods.common.kinds import Colour, Text
from sfumato.methods.common.picture_start import FromPicture, clean_state

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("sfumato")


def _upward(name: str) -> str:
    if name != "iplms-pie" and solver(name).stochastic:
        raise ValueError("draws noise, so it finds no start; take iplms-pie")
    return name


Upward = Annotated[str, AfterValidator(_upward)]
"""A solver of the way up."""


@dataclass(frozen=True)
class Way:
    """The way up: its solver, the level it climbs to (None: where sampling begins), what it reads.

    solver "iplms-pie" is iplms with one pie step first. learn: gradient steps on the start;
    measure: walk back unguided too, and report the error. name: of the method, for messages.
    control: what steers the way up, of this run alone; a picture is then inverted for each of it.
    """

    name: str
    solver: str | Mapping[str, Any]
    top: float | None = None
    caption: str = ""
    learn: int = 0
    measure: bool = False
    control: Guide | None = None

    def start(
        self, run: Run, image: ImageInput, background: str = "white", vary: float = 0.0
    ) -> InvertedStart:
        """The picture's inversion, as where the run begins; vary: towards fresh noise."""
        known = clean_state(self.name, run, image, background)
        drawn = vary or self.control is not None or run.solver.stochastic
        alike = not drawn and not run.process.prompts
        if run.n > len(known) and alike:
            log.warning("%s: all %d will be alike, nothing is drawn; give vary", self.name, run.n)
        inverted = self._of(run, known)
        run.before = inverted.calls
        run.report["inversion"] = {"calls": run.before, "top": self.top or run.level}
        if inverted.error is not None:
            before, after = inverted.error
            run.report["inversion"] |= {"round_trip": before, "learned": after}
        return InvertedStart(known, inverted, vary)

    def _of(self, run: Run, known: Tensor) -> Inverted:
        """Along one pass of the run's way down, whatever a canvas adds to it."""
        process, source = run.process, run.source
        cond = process.null
        if process.cond is None and source is not None:
            cond = source.encode([self.caption], process.label)
        down = process.spaced(process.start_or_noise.level(process))
        if self.top is not None and self.top < down[0]:
            raise SfumatoError(
                f"{self.name}: t_invert {self.top:g} is below t_start {down[0]:g}; it must be at "
                "least that"
            )
        if down[-1] > 0:
            raise SfumatoError(
                f"{self.name}: spacing ends at {down[-1]:g}; the inversion begins from the clean "
                "picture, so it must end at 0"
            )
        pie = {"solver": "iplms", "start": "improved"}
        # without its source: the card's guidance would come back
        plain = Process(
            process.denoiser, run.shape, cond, n=process.n, spacing=down,
            solver=pie if self.solver == "iplms-pie" else self.solver,
            space=process.space, device=process.device, rows_max=process.rows_max,
        )  # fmt: skip
        if self.control is not None:
            plain, known = plain.add(guides=(self.control,)), known.expand(run.n, *known.shape[1:])
        inversion = Inversion(plain, down, self.top, self.learn, self.measure)
        if run.planned:
            return Inverted(known, (), inversion.calls)
        if self.control is not None:
            return inversion.of(known)
        if source is None or process.cond is not None:  # given tensors are not told apart
            return inversion.of(known)
        return inversion.remembered(
            known, source.memo, (self.solver, self.caption, process.label, source.identity)
        )


class InvertedEdit(FromPicture):
    """Edits a picture, walked up first; with none it acts on whatever the run begins from."""

    if TYPE_CHECKING:
        caption: str | None
        background: str

    def begun(self, process: Process) -> Process:
        """The process with the picture as its start, where there is one."""
        return process.add(start=self if self.image is not None else None)

    def bind_start(self, run: Run) -> BoundStart:
        caption = run.process.prompt if self.caption is None else self.caption
        return Way(self.id, "ddim", caption=caption).start(run, self.image, self.background)


INVERTED = Needs("image")
InvertedImage = Annotated[
    Image | None, knob("a picture, walked up first; none: the run's own start")
]
InvertedCaption = Annotated[
    Text | None, knob("what the picture shows; the prompt if not given"), INVERTED
]
InvertedBackground = Annotated[Colour, knob("colour behind transparent parts"), INVERTED]
"""Fields of an InvertedEdit: image, caption, background."""


@dataclass(frozen=True)
class InvertedStart:
    """known: the picture's clean state (1, C, H, W); inverted: its start and path; vary: how far
    the start is turned towards fresh noise."""

    known: Tensor
    inverted: Inverted
    vary: float

    def state(self, call: Call, like: Tensor) -> Tensor:
        x = self.inverted.x.expand_as(like)
        if not self.vary:
            return x
        angle = self.vary * math.pi / 2
        held = call.alpha * self.known
        fresh = call.noise("start", like) * call.sigma
        return held + math.cos(angle) * (x - held) + math.sin(angle) * fresh
