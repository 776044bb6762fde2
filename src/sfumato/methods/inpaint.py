"""Inpainting (GLIDE, arXiv 2112.10741; RePaint, arXiv 2201.09865): draw a part of a picture anew.

A network with mask channels reads the known pixels, and its predictions are overwritten by them.
Any other network has the known part noised to its own level at every step; `resample` walks back up
and down again, so that the two parts come to fit. Outpainting is a picture with margins (`extend`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator

from sfumato import images
from sfumato.core.composite import Composite
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Call, Guide
from sfumato.core.ranges import Range
from sfumato.core.spacing import jumping
from sfumato.core.starts import Place
from sfumato.images import Image
from sfumato.methods import Colour, Method, knob, method

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.denoiser import Cond, Denoiser, Prediction
    from sfumato.core.process import Process
    from sfumato.core.run import Run


def _margins(given: tuple[int, ...]) -> tuple[int, ...]:
    if min(given) < 0:
        raise ValueError("left, top, right, bottom must be 0 or more")
    return given


Margin = Annotated[int, Range(le=32_768)]
Margins = Annotated[tuple[Margin, Margin, Margin, Margin], AfterValidator(_margins)]


@method
class Inpaint(Method):
    """What the mask leaves black stays bit for bit; the white part is drawn by the prompt."""

    verb: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        'photo.png --mask mask.png -p "red apple"',
        'photo.png --extend 32 0 32 0 -p "castle"',
    )
    slot: ClassVar[str | None] = "canvas"
    stages: ClassVar[Literal["base", "all"]] = "all"

    image: Annotated[Image, knob("the picture")]
    mask: Annotated[Image | None, knob("edit mask: white is drawn anew, black is kept")] = None
    invert: Annotated[bool, knob("swap the mask's black and white")] = False
    alpha_mask: Annotated[bool, knob("the picture's transparency is the edit mask")] = False
    extend: Annotated[
        Margins,
        knob("outpainting: margins at left, top, right, bottom", main=True, unit="px"),
    ] = (0, 0, 0, 0)
    grow: Annotated[int, knob("enlarge the mask first", unit="px", ge=0, le=4096)] = 0
    feather: Annotated[float, knob("soften the mask's edge, inwards", unit="px", ge=0, le=512)] = (
        0.0
    )
    network: Annotated[
        Literal["auto", "tuned", "plain"],
        knob("whether the network reads the known part (it needs mask channels), or is not told"),
    ] = "auto"
    resample: Annotated[int, knob("times each stretch is walked (plain)", ge=1, le=100)] = 1
    stretch: Annotated[int, knob("transitions walked again (plain)", ge=1, le=1000)] = 10
    background: Annotated[Colour, knob("colour behind transparent parts, for the network")] = (
        "white"
    )

    def __post_init__(self) -> None:
        given = [n for n in ("mask", "alpha_mask") if getattr(self, n)]
        given += ["extend"] if any(self.extend) else []
        if len(given) != 1:
            what = " and ".join(given) + " each set" if given else "nothing sets"
            raise SfumatoError(
                f"inpaint: {what} the part to draw; give one of mask, alpha_mask, extend"
            )
        if self.invert and any(self.extend):
            raise SfumatoError("inpaint: invert is for masks; extend draws the margins alone")
        idle = [n for n in ("alpha_mask", "grow", "feather") if getattr(self, n)]
        idle += ["extend"] if any(self.extend) else []
        if self.image.is_tensor and idle:
            raise SfumatoError(f"inpaint: {idle[0]} is for pictures; a state takes a tensor mask")

    def __call__(self, process: Process) -> Process:
        return process.add(canvas=_Canvas(self), guides=[_Known()])


@dataclass(frozen=True)
class _Canvas:
    """The picture and its mask, before a run has a size."""

    method: Inpaint

    @cached_property
    def parts(self) -> Any:
        """The picture, maybe with margins, and its edit mask as PIL "L"."""
        m = self.method
        picture, mask = m.image.picture(), m.mask
        if any(m.extend):
            picture, grown = images.extended(picture, m.extend, m.background)
            return picture, images.edit_mask(picture, mask=grown, grow=m.grow, feather=m.feather)
        return picture, images.edit_mask(
            picture, mask=mask, invert=m.invert, grow=m.grow, feather=m.feather
        )

    def place(self) -> Place:
        if self.method.image.is_tensor:
            return Place(shape=tuple(self.method.image.tensor().shape[-3:]))
        picture, edit = self.parts
        return Place(picture.size, images.mask_box(edit, picture.size))

    def path(self, times: tuple[float, ...]) -> tuple[float, ...]:
        return jumping(times, self.method.stretch, self.method.resample)

    def bind(self, run: Run) -> _Bound:
        m = self.method
        if m.image.is_tensor:
            known = m.image.state("inpaint", run.shape, run.n).to(run.device)
            if m.mask is None:
                raise SfumatoError("inpaint: the picture is a tensor; give its mask as one too")
            mask = m.mask.edit("inpaint", run.shape, run.n, m.invert).to(run.device)
            return _Bound(m, known, mask, known * (mask == 0))
        picture, edit = self.parts
        if run.frame.picture != picture.size:
            width, height = run.frame.picture
            raise SfumatoError(
                f"inpaint: its picture is {picture.width}x{picture.height}, the start's "
                f"{width}x{height}; give both the same size"
            )
        run.paste = (picture, edit, None if m.alpha_mask else picture.alpha)
        pixels = images.to_work(picture, run.frame, m.background)[None].to(run.device)
        mask = images.mask_to_work(edit, run.frame).to(run.device)
        cells = images.mask_to_cells(mask, run.space.stride)
        known = run.space.encode(pixels)
        # an autoencoder sees around it: what the network reads must not know what is to be drawn
        shown = known * (cells == 0)
        if run.space.stride > 1:
            shown = run.space.encode(pixels * (mask == 0))
        return _Bound(m, known, cells, shown)


@dataclass(frozen=True)
class _Bound:
    """known: clean state (1, C, H, W); mask (1, 1, H, W) or (1, H, W): 1 = may change.

    shown: what a network with mask channels reads of the picture, a state too.
    """

    method: Inpaint
    known: Any
    mask: Any
    shown: Any

    def tuned(self, denoiser: Denoiser) -> bool:
        """Whether this network reads the known part."""
        config = getattr(denoiser.network, "config", None)
        able = bool(getattr(config, "inpaint", False))
        if self.method.network == "tuned" and not able:
            raise SfumatoError("inpaint: network 'tuned', but this one has no mask channels")
        return able and self.method.network != "plain"

    def condition(self, cond: Cond, denoiser: Denoiser) -> Cond:
        if not self.tuned(denoiser):
            return cond
        mask = self.mask.view(-1, 1, *self.mask.shape[-2:])
        known = (mask == 0).to(self.known.dtype)
        rows = len(next(iter(cond.values()))) if cond else 1
        shown = self.shown.view(-1, *self.shown.shape[-3:])
        given = {"inpaint_image": shown, "inpaint_mask": known}
        most = max(rows, *(len(value) for value in given.values()))
        made = {**cond, **given}
        return type(cond)({k: v.expand(most, *v.shape[1:]) for k, v in made.items()})


@dataclass(frozen=True, eq=False)
class _Known(Guide):
    """Becomes the right guide for the run's network."""

    name = "inpaint"

    def bind(self, run: Run) -> Guide:
        bound = run.canvas
        assert isinstance(bound, _Bound)
        if bound.tuned(run.process.denoiser):
            if run.space.stride > 1:  # latents of a masked picture differ outside the mask too
                return _Read()
            assert run.mixture is not None
            return _Overwrite(bound.known, bound.mask, run.mixture.tied)
        return Composite(bound.known, bound.mask, "step" if run.solver.stochastic else "start")


class _Read(Guide):
    """Nothing to steer: the network reads the known part, which is pasted back in pixels."""

    name = "inpaint"


@dataclass(frozen=True, eq=False)
class _Overwrite(Guide):
    """x0 <- m x0 + (1 - m) known at every evaluation, before thresholds (GLIDE, section 2.4)."""

    known: Tensor
    mask: Tensor
    tied: bool

    name = "inpaint"

    def edit(self, pred: Prediction, x: Tensor, call: Call) -> Prediction:
        x0 = self.known.expand_as(x).lerp(pred.x0, self.mask.to(x.dtype).expand_as(x))
        if not self.tied:
            return replace(pred, x0=x0)
        return pred.with_x0(x0, x, call.schedule.alpha(call.t), call.schedule.sigma(call.t))
