"""DiffStyler (arXiv 2211.10682): keep what a picture shows, change how it is painted, by words.

The picture is inverted without guidance, and sampled back by two denoisers side by side: the
process's own, which reads the prompt, and one that knows art. Losses may steer at every step.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

from pydantic import AfterValidator

from sfumato import images
from sfumato.core.branches import Branch
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Call, Guide
from sfumato.core.inversion import Inversion, Inverted
from sfumato.core.process import name_of
from sfumato.core.schedule import Schedule
from sfumato.core.solvers import solver
from sfumato.core.starts import Place
from sfumato.images import Image
from sfumato.methods import Colour, Method, Text, Weights, Window, knob, method
from sfumato.methods.gradient import Gradient
from sfumato.methods.patch_nce import PatchNCE

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.denoiser import Prediction
    from sfumato.core.process import Process
    from sfumato.core.run import Run

log = logging.getLogger("sfumato")

KEPT = 8  # inversions that a model remembers


def _upward(name: str) -> str:
    if name != "iplms-pie" and solver(name).stochastic:
        raise ValueError("draws noise, so it finds no start; take iplms-pie")
    return name


Upward = Annotated[str, AfterValidator(_upward)]
"""A solver of the way up."""


@method
class DiffStyler(Method):
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

    image: Annotated[Image, knob("the picture to restyle")]
    content: Annotated[
        float, knob("how much of the picture stays", main=True, ge=0, le=1, auto=(0.0, 1.0))
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
        knob(
            "gradient steps on the start, so that the way back finds the picture", ge=0, le=10_000
        ),
    ] = 0
    measure: Annotated[bool, knob("walk back unguided too, and report the round trip's error")] = (
        False
    )
    vary: Annotated[
        float, knob("fresh noise in the start: 0 none, all results alike, 1 SDEdit", ge=0, le=1)
    ] = 0.0
    art: Annotated[
        Weights, knob("second denoiser: auto (the model's own for this prompt), none, file, model")
    ] = "auto"
    art_prompt: Annotated[Text, knob("what the second denoiser reads; empty: nothing")] = ""
    style: Annotated[float, knob("weight of the second denoiser", ge=0, le=10)] = 0.5
    general: Annotated[
        float | None, knob("weight of the first; 1 - style if not given", ge=0, le=10)
    ] = None
    window: Annotated[Window, knob("times low, high between which the second acts", unit="t")] = (
        0.0,
        1.0,
    )
    normalise: Annotated[
        bool, knob("weights sum to 1; no: the velocity is as long as they sum to, as released")
    ] = True
    contrast: Annotated[
        float, knob("weight of the patchwise contrastive loss, which holds content", ge=0, le=1e6)
    ] = 1.0
    push: Annotated[
        float | None,
        knob(
            "length of all guides' push as a part of the noise prediction's; by content",
            ge=0,
            le=100,
        ),
    ] = None
    until: Annotated[
        float | None, knob("level below which losses are silent; by content", unit="t", ge=0, le=1)
    ] = None
    background: Annotated[Colour, knob("colour behind transparent parts, for the network")] = (
        "white"
    )

    def __post_init__(self) -> None:
        if self.general == 0 and self.style == 0:
            raise SfumatoError("diffstyler: general and style are both 0; nothing would be drawn")

    def level(self, held: bool) -> float:
        """T: high where a loss holds the content, else it must do so alone."""
        if self.t_start is not None:
            return self.t_start
        return 0.96 - 0.04 * self.content if held else 0.85 - 0.5 * self.content

    def __call__(self, process: Process) -> Process:
        art = self.second(process)
        if process.solver is None:
            process = replace(process, solver={"solver": "iplms", "start": "euler"})
        losses = self.losses(process)
        held = bool(losses) or self.content == 0
        process = process.add(start=_Start(self, held, art))
        for loss in losses:
            added = loss(process).guides[len(process.guides) :]
            process = process.add(guides=[_Unless(loss.id, guide) for guide in added])
        if art is None:
            return process
        low, high = self.window
        style = self.style
        general = max(1 - style, 0.0) if self.general is None else self.general
        total = general + style

        def share(t: float) -> float:
            return style / total if low <= t <= high else 0.0

        branches = (
            Branch("general", weight=lambda t: 1 - share(t), leads=True),
            Branch("art", self.art_prompt, share, art.denoiser, source=art),
        )
        guides = () if self.normalise or total == 1 else (Velocity(total),)
        return process.add(positives=branches, guides=guides)

    def losses(self, process: Process) -> list[Method]:
        """The loss, of the prediction alone, so that no denoiser is walked back; and its push."""
        push = 0.25 * self.content if self.push is None else self.push
        asked: list[Method] = [] if self.push is None else [Gradient(self.push)]
        source: Any = process.source
        if source is None or not (self.contrast and push):
            return asked
        if source.get("features") is None:
            log.info("diffstyler: the model lends no features, so its start alone keeps content")
            return asked
        low = 0.45 - 0.15 * self.content if self.until is None else self.until
        contrast = PatchNCE(weight=self.contrast, window=(low, 1.0), through="prediction")
        return [contrast, Gradient(push)]

    def second(self, process: Process) -> Any:
        """The model of the second denoiser, None where there is none for this prompt."""
        source: Any = process.source
        if self.art == "none" or self.style == 0 or source is None:
            return None
        name = None if self.art == "auto" else self.art
        found = source.art(process.prompt, name)
        if found is None:
            log.info("diffstyler: no second denoiser for %r; the first one alone", process.prompt)
        return found


class _Unless(Guide):
    """A guide of this method's own, unless the process has that method by itself."""

    def __init__(self, other: str, guide: Guide) -> None:
        self.other, self.guide, self.name = other, guide, guide.name

    def bind(self, run: Run) -> Guide:
        named = [name_of(method) for method in run.process.methods]
        return Guide() if self.other in named else self.guide.bind(run)


class Velocity(Guide):
    """v = total times the mixture's, where v = alpha eps - sigma x0: weights that do not sum to 1.

    As the released program does; the path then turns by a wrong angle (spread 1.32 at a sum of 0.6,
    0.76 at 1.4, for a Gaussian).
    """

    name = "diffstyler.velocity"

    def __init__(self, total: float) -> None:
        self.total = total

    def edit(self, pred: Prediction, x: Tensor, call: Call) -> Prediction:
        alpha, sigma = call.schedule.alpha(call.t), call.schedule.sigma(call.t)
        v = self.total * (alpha * pred.eps - sigma * pred.x0)
        return replace(pred, x0=alpha * x - sigma * v, eps=sigma * x + alpha * v)


@dataclass(frozen=True)
class _Start:
    """The picture, inverted."""

    method: DiffStyler
    held: bool = False
    art: Any = None
    passes: int = 1

    def place(self) -> Place:
        image = self.method.image
        if image.is_tensor:
            return Place(shape=tuple(image.tensor().shape[-3:]))
        return Place(image.picture().size)

    def level(self, schedule: Schedule) -> float:
        return self.method.level(self.held)

    def inversion(self, process: Process) -> Inversion:
        """Along one pass of the process, whatever a canvas adds to it."""
        m = self.method
        up: Any = m.inversion
        if up == "iplms-pie":
            up = {"solver": "iplms", "start": "improved"}
        down = process.spaced(self.level(process.denoiser.schedule))
        if m.t_invert is not None and m.t_invert < down[0]:
            raise SfumatoError(
                f"diffstyler: t_invert {m.t_invert:g} is below t_start {down[0]:g}; it must be at "
                "least that"
            )
        if down[-1] > 0:
            raise SfumatoError(
                f"diffstyler: spacing ends at {down[-1]:g}; the inversion begins from the clean "
                "picture, so it must end at 0"
            )
        plain = replace(
            process, start=None, canvas=None, guides=(), aways=(), positives=(), solver=up,
            methods=(),
        )  # fmt: skip
        return Inversion(plain, down, m.t_invert, m.learn, m.measure)

    def bind(self, run: Run) -> _Bound:
        m = self.method
        if m.image.is_tensor:
            known = m.image.state("diffstyler", run.shape, run.n).to(run.device)
            known = known[None] if known.ndim == 3 else known
        else:
            picture = m.image.picture()
            run.paste = (picture, None, picture.alpha)
            pixels = images.to_work(picture, run.frame, m.background)[None]
            known = run.space.encode(pixels.to(run.device))
        if run.n > len(known) and m.vary == 0 and not run.solver.stochastic:
            log.warning("diffstyler: all %d will be alike, nothing is drawn; give vary", run.n)
        found = self.found(run, known)
        run.report["inversion"] = {"calls": run.before, "top": self.method.t_invert or run.times[0]}
        if self.art is not None:
            digests = [adapter["sha256"] for adapter in self.art.adapters]
            run.report["art"] = {"weights": self.art.weights, "adapters": digests}
        if found.error is not None:
            run.report["inversion"] |= {"round_trip": found.error[0], "learned": found.error[1]}
        return _Bound(run, m, known, found)

    def found(self, run: Run, known: Tensor) -> Inverted:
        """The inversion, of the last few that the model remembers where it is among them."""
        process, source = run.process, cast(Any, run.process.source)
        cond = process.null
        if process.cond is None and source is not None:
            cond = source.encode([self.method.caption], process.label)
        # without its source: the card's guidance would come back
        alone = replace(process, source=None, cond=cond, null=None, shape=run.shape)
        inversion = self.inversion(alone)
        if run.planned:
            run.before = inversion.calls
            return Inverted(known, (), run.before)
        kept: dict[Any, Any] = {}
        if source is not None and process.cond is None:  # given tensors are not told apart
            kept = source.loaded.setdefault("inversions", {})
        asked: list[Any] = [inversion.down, inversion.top, self.method.learn, self.method.measure]
        asked += [self.method.inversion, self.method.caption, process.label, list(known.shape)]
        if source is not None:
            asked += [source.weights, list(map(dict, source.adapters)), source.choice.dtype]
        digest = sha256(json.dumps(asked).encode())
        digest.update(known.detach().cpu().numpy().tobytes())
        key = digest.hexdigest()
        if key not in kept:
            kept[key] = inversion.of(known)
            for old in list(kept)[:-KEPT]:
                del kept[old]
        made: Inverted = kept[key]
        run.before = made.calls  # remembered or not: the same run records the same
        return made


@dataclass(frozen=True)
class _Bound:
    """known: the picture's clean state (1, C, H, W); inverted: its start and path."""

    run: Run
    method: DiffStyler
    known: Any
    inverted: Inverted

    def state(self, call: Call, like: Tensor) -> Tensor:
        x: Tensor = self.inverted.x.expand_as(like)
        if not self.method.vary:
            return x
        schedule, t = call.schedule, self.run.times[0]
        angle = self.method.vary * math.pi / 2
        held: Tensor = schedule.alpha(t) * self.known
        fresh = call.noise("start", like) * schedule.sigma(t)
        return held + math.cos(angle) * (x - held) + math.sin(angle) * fresh
