"""DiffStyler (arXiv 2211.10682): keep what a picture shows, change how it is painted, by words.

The picture is inverted without guidance, and sampled back by two denoisers side by side: the
process's own, which reads the prompt, and one that knows art. Losses may steer at every step.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from sfumato.core.composition import name_of
from sfumato.core.context import Run
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide, GuideBinder
from sfumato.core.idle import Needs
from sfumato.core.mixture import Branch
from sfumato.core.process import Process
from sfumato.core.source import Source
from sfumato.core.starts import BoundStart
from sfumato.images import Image
from sfumato.methods import knob, method
from sfumato.methods.common.fields import Background
from sfumato.methods.common.inverted import Upward, Way
from sfumato.methods.common.kinds import Denoiser, Text, Window, within
from sfumato.methods.common.picture_start import FromPicture
from sfumato.methods.common.weights import record
from sfumato.methods.gradient import Gradient
from sfumato.methods.inner.velocity import Velocity
from sfumato.methods.patch_nce import PatchNCE

log = logging.getLogger("sfumato")

SECOND = Needs("art!=none", "style>0")


@method
class DiffStyler(FromPicture):
    """The start is the inverted picture; e = general e_prompt + style e_art; a loss holds content.

    content runs from 0, the style alone, to 1, all shapes and shades: t_start, push and until
    follow it where they are not given. One loss is there (`sf.PatchNCE`); others compose with it,
    and with any method.
    """

    verb: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        'photo.png -p "ink drawing"',
        'photo.png -p "ink drawing" --content 0.5',
    )
    slot: ClassVar[str | None] = "start"
    solver: ClassVar[str | Mapping[str, Any] | None] = {"solver": "iplms", "start": "euler"}
    levels: ClassVar[tuple[str, ...]] = ("t_start",)

    image: Annotated[Image, knob("the picture to restyle")]
    content: Annotated[
        float,
        knob("how much of the picture stays", main=True, ge=0, le=1, auto=(0.0, 1.0)),
        Needs("!t_start|!push|!until"),
    ] = 0.5
    t_start: Annotated[
        float | None, knob("level T that sampling begins at; by content", unit="t", gt=0, le=1)
    ] = None
    t_invert: Annotated[
        float | None, knob("level T1 >= T that the inversion climbs to", unit="t", gt=0, le=1)
    ] = None
    inversion: Annotated[
        Upward,
        knob("solver of the way up: iplms-pie is iplms with one pie step first; or any other"),
    ] = "iplms-pie"
    caption: Annotated[
        Text, knob("what the picture shows, read during inversion; may be empty")
    ] = ""
    learn: Annotated[
        int,
        knob("gradient steps on the start: the way back finds the picture", ge=0, le=10_000),
    ] = 0
    measure: Annotated[bool, knob("walk back unguided too, and report the round trip's error")] = (
        False
    )
    vary: Annotated[
        float, knob("fresh noise in the start: 0 none, all results alike, 1 SDEdit", ge=0, le=1)
    ] = 0.0
    art: Annotated[
        Denoiser, knob("second denoiser: auto (the model's own for this prompt), none, file, model")
    ] = "auto"
    art_prompt: Annotated[Text, knob("what the second denoiser reads; empty: nothing"), SECOND] = ""
    style: Annotated[
        float, knob("weight of the second denoiser", ge=0, le=10), Needs("art!=none")
    ] = 0.5
    general: Annotated[
        float | None, knob("weight of the first; 1 - style if not given", ge=0, le=10), SECOND
    ] = None
    window: Annotated[Window, knob("times low, high of the second", unit="t"), SECOND] = (0.0, 1.0)
    normalise: Annotated[
        bool,
        knob("weights sum to 1; no: the velocity is as long as they sum to, as released"),
        SECOND,
    ] = True
    contrast: Annotated[
        float,
        knob("weight of the patchwise contrastive loss, which holds content", ge=0, le=1e6),
        Needs("push!=0", "push|content"),
    ] = 1.0
    push: Annotated[
        float | None,
        knob("length of all guides' push as a part of the prediction's; by content", ge=0, le=100),
    ] = None
    until: Annotated[
        float | None,
        knob("level below which the loss is silent; by content", unit="t", ge=0, le=1),
        Needs("contrast>0", "push!=0", "push|content"),
    ] = None
    background: Background = "white"

    def __post_init__(self) -> None:
        if self.general == 0 and self.style == 0:
            raise SfumatoError("diffstyler: general and style are both 0; nothing would be drawn")

    def __call__(self, process: Process) -> Process:
        guides: list[GuideBinder] = [Unless(loss) for loss in self.losses(process)]
        art = self.second(process)
        if art is None:
            return process.add(start=self, guides=guides)
        general = max(1 - self.style, 0.0) if self.general is None else self.general
        total = general + self.style

        def share(t: float) -> float:
            return self.style / total if within(self.window, t) else 0.0

        branches = (
            Branch("general", weight=lambda t: 1 - share(t), leads=True),
            Branch("art", self.art_prompt, share, art.denoiser, source=art),
        )
        if not self.normalise and total != 1:
            guides.append(Velocity(total))
        return process.add(start=self, positives=branches, guides=guides)

    def level(self, process: Process) -> float:
        """T: high where a loss holds the content, else it must do so alone."""
        if self.t_start is not None:
            return self.t_start
        held = self.content == 0 or any(isinstance(guide, Unless) for guide in process.guides)
        top = 0.96 - 0.04 * self.content if held else 0.85 - 0.5 * self.content
        return process.starts_at(top)

    def losses(self, process: Process) -> list[PatchNCE | Gradient]:
        """The loss, of the prediction alone, so that no denoiser is walked back; and its push."""
        push = 0.25 * self.content if self.push is None else self.push
        asked: list[PatchNCE | Gradient] = [] if self.push is None else [Gradient(self.push)]
        if process.source is None or not (self.contrast and push):
            return asked
        if process.source.features() is None:
            log.info("diffstyler: the model lends no features, so its start alone keeps content")
            return asked
        low = 0.45 - 0.15 * self.content if self.until is None else self.until
        contrast = PatchNCE(weight=self.contrast, window=(low, 1.0), through="prediction")
        return [contrast, Gradient(push)]

    def second(self, process: Process) -> Source | None:
        """The model of the second denoiser, None where there is none for this prompt."""
        if self.art == "none" or self.style == 0 or process.source is None:
            return None
        art = process.source.second(process.prompt, None if self.art == "auto" else self.art)
        if art is None:
            log.info("diffstyler: no second denoiser for %r; the first one alone", process.prompt)
        return art

    def bind_start(self, run: Run) -> BoundStart:
        for branch in run.process.positives:
            if branch.name == "art" and branch.source is not None:
                record(run, self.id, "art", branch.source.origin)
        way = Way(self.id, self.inversion, self.t_invert, self.caption, self.learn, self.measure)
        return way.start(run, self.image, self.background, self.vary)


@dataclass(frozen=True)
class Unless:
    """A method of this method's own, unless the process has one of that kind by itself."""

    method: PatchNCE | Gradient

    def bind_guide(self, run: Run) -> Guide:
        own = (name_of(method) for method in run.process.methods)
        return Guide() if self.method.id in own else self.method.bind_guide(run)
