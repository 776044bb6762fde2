"""Inpainting (GLIDE, arXiv 2112.10741; RePaint, arXiv 2201.09865): draw a part of a picture anew.

A network with mask channels reads the known pixels, and its predictions are overwritten by them.
Any other network has the known part noised to its own level at every step; `resample` walks back up
and down again, so that the two parts come to fit. Outpainting is a picture with margins (`extend`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from logging import getLogger
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator

from sfumato import images
from sfumato.core.context import Call, Paste, Run
from sfumato.core.denoiser import traits
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.idle import Needs
from sfumato.core.ranges import Range
from sfumato.core.spacing import jumping
from sfumato.core.starts import BoundCanvas, Place
from sfumato.images import Image
from sfumato.methods import Method, knob, method
from sfumato.methods.common.fields import PICTURE, AlphaMask, Background, Feather, Grow, Invert
from sfumato.methods.common.replacement import Composite, drawn_with

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage
    from torch import Tensor

    from sfumato.core.denoiser import Cond, Denoiser, Prediction
    from sfumato.core.process import Process
    from sfumato.images import Picture


def _margins(margins: tuple[int, ...]) -> tuple[int, ...]:
    if min(margins) < 0:
        raise ValueError("left, top, right, bottom must be 0 or more")
    return margins


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
    invert: Annotated[Invert, Needs("mask|alpha_mask")] = False
    alpha_mask: AlphaMask = False
    extend: Annotated[
        Margins,
        knob("outpainting: margins at left, top, right, bottom", main=True, unit="px"),
        PICTURE,
    ] = (0, 0, 0, 0)
    grow: Grow = 0
    feather: Feather = 0.0
    network: Annotated[
        Literal["auto", "tuned", "plain"],
        knob("whether the network reads the known part (it needs mask channels), or is not told"),
    ] = "auto"
    resample: Annotated[int, knob("times each stretch is walked (plain)", ge=1, le=100)] = 1
    stretch: Annotated[
        int, knob("transitions walked again (plain)", ge=1, le=1000), Needs("resample>1")
    ] = 10
    background: Background = "white"

    def __post_init__(self) -> None:
        setters = [n for n in ("mask", "alpha_mask") if getattr(self, n)]
        setters += ["extend"] if any(self.extend) else []
        if len(setters) != 1:
            what = " and ".join(setters) + " each set" if setters else "nothing sets"
            raise SfumatoError(
                f"inpaint: {what} the part to draw; give one of mask, alpha_mask, extend"
            )

    def __call__(self, process: Process) -> Process:
        return process.add(canvas=self)

    @cached_property
    def pair(self) -> tuple[Picture, PILImage]:
        """The picture, maybe with margins, and its edit mask as PIL "L"."""
        picture, mask = self.image.picture(), self.mask
        if any(self.extend):
            picture, mask = images.extended(picture, self.extend, self.background)
        edit = images.edit_mask(
            picture, mask=mask, invert=self.invert, grow=self.grow, feather=self.feather
        )
        return picture, edit

    @property
    def edit_mask(self) -> PILImage | None:
        return None if self.image.is_tensor else self.pair[1]

    def place(self) -> Place:
        if self.image.is_tensor:
            return Place.of(self.image)
        picture, edit = self.pair
        return Place(picture.size, images.mask_box(edit, picture.size))

    def path(self, times: tuple[float, ...]) -> tuple[float, ...]:
        return jumping(times, self.stretch, self.resample)

    def bind_canvas(self, run: Run) -> BoundCanvas:
        known, mask, visible = self._states(run)
        run.known = known if run.known is None else run.known
        if self.resample > 1 and not run.planned and len(run.times) <= self.stretch + 1:
            getLogger("sfumato").warning("inpaint: resample does nothing, stretch is too long")
        if not self._reads(run.denoiser):
            run.guides.append(Composite(known, mask, drawn_with(run.solver)))
        elif run.space.stride == 1:  # latents of a masked picture differ outside the mask too
            run.guides.append(Overwrite(known, mask))
        return KnownPart(visible, mask, self._reads)

    def _states(self, run: Run) -> tuple[Tensor, Tensor, Tensor]:
        """The clean state (1, C, H, W), its mask, 1 = may change, and what a network is shown."""
        if self.image.is_tensor:
            known = self.image.state("inpaint", run)
            if self.mask is None:
                raise SfumatoError("inpaint: the picture is a tensor; give its mask as one too")
            mask = self.mask.edit_mask("inpaint", run, self.invert)
            return known, mask, known * (mask == 0)
        picture, edit = self.pair
        if run.frame is None or run.frame.picture != picture.size:
            width, height = run.frame.picture if run.frame else run.shape[:0:-1]
            raise SfumatoError(
                f"inpaint: its picture is {picture.width}x{picture.height}, the start's "
                f"{width}x{height}; give both the same size"
            )
        run.paste = Paste(picture, edit, opaque=self.alpha_mask)
        pixels = images.to_work(picture, run.frame, self.background)[None].to(run.device)
        mask = images.mask_to_work(edit, run.frame).to(run.device)
        cells = images.mask_to_cells(mask, run.space.stride)
        known = run.space.encode(pixels)
        # an autoencoder sees around it: what the network reads must not know what is to be drawn
        visible = known * (cells == 0)
        if run.space.stride > 1:
            visible = run.space.encode(pixels * (mask == 0))
        return known, cells, visible

    def _reads(self, denoiser: Denoiser) -> bool:
        """Whether this network reads the known part."""
        able = traits(denoiser.network).inpaint
        if self.network == "tuned" and not able:
            raise SfumatoError("inpaint: network 'tuned', but this one has no mask channels")
        return able and self.network != "plain"


@dataclass(frozen=True)
class KnownPart:
    """What networks with mask channels read: the known part, a state (1, C, H, W), and where it is.

    mask (1, 1, H, W) or (1, H, W): 1 = may change; reads: whether a network does.
    """

    state: Tensor
    mask: Tensor
    reads: Callable[[Denoiser], bool]

    def condition(self, cond: Cond, denoiser: Denoiser) -> Cond:
        if not self.reads(denoiser):
            return cond
        mask = self.mask.view(-1, 1, *self.mask.shape[-2:])
        state = self.state.view(-1, *self.state.shape[-3:])
        rows = len(next(iter(cond.values()))) if cond else 1
        channels = {"inpaint_image": state, "inpaint_mask": (mask == 0).to(state.dtype)}
        most = max(rows, *(len(value) for value in channels.values()))
        both = {**cond, **channels}
        return type(cond)({k: v.expand(most, *v.shape[1:]) for k, v in both.items()})


@dataclass(frozen=True, eq=False)
class Overwrite(Guide):
    """x0 <- m x0 + (1 - m) known at every evaluation, before thresholds (GLIDE, section 2.4)."""

    known: Tensor
    mask: Tensor

    name = "inpaint"

    def edit(self, pred: Prediction, x: Tensor, call: Call) -> Prediction:
        x0 = self.known.expand_as(x).lerp(pred.x0, self.mask.to(x.dtype).expand_as(x))
        return call.with_x0(pred, x0, x)
