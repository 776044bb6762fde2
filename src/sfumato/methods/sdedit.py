"""SDEdit (arXiv 2108.01073): noise a guide to level t0, then let the model bring it back.

Its three tasks are strokes to picture (`image` is the painting), stroke edit (`image` is a photo,
`strokes` a painted-over copy; only where they differ may change) and compositing (`image` holds a
pasted patch, `mask` says what to synthesise anew; preset "compositing").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sfumato import images
from sfumato.core.context import Call, Run
from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch
from sfumato.core.schedule import level
from sfumato.core.spacing import MODEL
from sfumato.core.starts import BoundStart, Place, PriorNoise
from sfumato.images import Image, ImageInput
from sfumato.methods import Method, knob, method
from sfumato.methods.common.colour import MatchColour
from sfumato.methods.common.fields import AlphaMask, Background, Feather, Grow, Invert
from sfumato.methods.common.replacement import Composite, drawn_with

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage
    from torch import Tensor

    from sfumato.core.process import Process
    from sfumato.images import Picture


@method
class SDEdit(Method):
    """x_t0 = alpha g + sigma z, then the model's own way down; small t0 faithful, large realistic.

    Pictures come from files or PIL; tensors (C, H, W) or (n, C, H, W) are taken as states.
    """

    verb: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        'painting.png -p "red apple" --t0 0.6',
        'photo.png --strokes painted.png -p "red apple"',
    )
    slot: ClassVar[str | None] = "start"
    levels: ClassVar[tuple[str, ...]] = ("t0", "ratio", "alpha_bar")
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "strokes": {"t0": 0.5},
        "stroke-edit": {"t0": 0.5},
        "compositing": {"t0": 0.35},
    }

    image: Annotated[Image, knob("the guide: a stroke painting, a photo, a collage")]
    t0: Annotated[
        float | None,
        knob("start level, 0.5 if none is given", main=True, ge=0, le=1, auto=(0.05, 1.0)),
    ] = None
    ratio: Annotated[float | None, knob("start level as sigma/alpha instead", ge=0, le=1e9)] = None
    alpha_bar: Annotated[float | None, knob("start level as alpha^2 instead", gt=0, le=1)] = None
    repeats: Annotated[int, knob("passes K; each begins from the last result", ge=1, le=100)] = 1
    mask: Annotated[
        Image | None, knob("edit mask: white may change, black is kept bit for bit")
    ] = None
    invert: Invert = False
    alpha_mask: AlphaMask = False
    grow: Grow = 0
    feather: Feather = 0.0
    strokes: Annotated[
        Image | None, knob("painted-over copy of the image; the mask is where they differ")
    ] = None
    composite: Annotated[
        Literal["level", "reference"],
        knob("kept part at the state's noise level, or one level up as the published loops"),
    ] = "level"
    noise: Annotated[
        Literal["auto", "step", "start"],
        knob("noise of the kept part: the step's (paper), the start's (code), by the solver"),
    ] = "auto"
    last_noise: Annotated[bool, knob("leave noise on the kept part, as the published loops")] = (
        False
    )
    match_colour: Annotated[
        bool, knob("give the result the guide's mean and spread of colours")
    ] = False
    background: Background = "white"

    def __post_init__(self) -> None:
        levels = [n for n in self.levels if getattr(self, n) is not None]
        if len(levels) > 1:
            raise SfumatoError(f"sdedit: {' and '.join(levels)} both set the start level; give one")
        masks = [n for n in ("mask", "alpha_mask", "strokes") if getattr(self, n)]
        if len(masks) > 1:
            raise SfumatoError(f"sdedit: {' and '.join(masks)} each set the edit mask; give one")
        if not masks and (self.invert or self.grow or self.feather):
            raise SfumatoError("sdedit: invert, grow and feather need a mask; give one")
        idle = [n for n in ("alpha_mask", "strokes", "grow", "feather") if getattr(self, n)]
        if self.image.is_tensor and idle:
            raise SfumatoError(f"sdedit: {idle[0]} is for pictures; a state takes a tensor as mask")

    def __call__(self, process: Process) -> Process:
        return process.add(start=self)

    @property
    def reference_picture(self) -> ImageInput | None:
        reference: ImageInput = self.strokes or self.image
        return reference

    @property
    def masked(self) -> bool:
        return bool(self.mask or self.alpha_mask or self.strokes)

    @property
    def passes(self) -> int:
        return self.repeats

    @cached_property
    def edit(self) -> PILImage | None:
        """The edit mask at the picture's size, PIL "L"; a tensor's is read when the run begins."""
        if self.image.is_tensor or not self.masked:
            return None
        return images.edit_mask(
            self.image.picture(),
            mask=self.mask,
            painted=None if self.strokes is None else self.strokes.picture(),
            invert=self.invert,
            grow=self.grow,
            feather=self.feather,
        )

    def place(self) -> Place:
        edit = self.edit
        return Place.of(
            self.image, None if edit is None else images.mask_box(edit, self.image.picture().size)
        )

    def level(self, process: Process) -> float:
        if self.ratio is not None or self.alpha_bar is not None:
            return level(process.denoiser.schedule, ratio=self.ratio, alpha_bar=self.alpha_bar)
        return process.starts_at(0.5) if self.t0 is None else self.t0

    def bind_start(self, run: Run) -> BoundStart:
        if run.process.spacing == MODEL and (self.ratio, self.alpha_bar) != (None, None):
            given = "alpha_bar" if self.ratio is None else "ratio"
            raise SfumatoError(
                f"sdedit: {given} names a noise level, but spacing model takes a share of its "
                "steps; give t0"
            )
        mask = cells = None
        if self.image.is_tensor:
            clean = run.known = self.image.state("sdedit", run.shape, run.n).to(run.device)
            pixels = run.space.decode(clean) if self.match_colour else clean
            if self.mask is not None:
                mask = cells = self.mask.edit(self.id, run.shape, run.n, self.invert).to(run.device)
        else:
            picture = self.image.picture()
            # what was transparent and is painted now must show
            run.paste = (picture, self.edit, None if self.alpha_mask else picture.alpha)
            if run.untouched:
                return PriorNoise()  # never drawn from: the picture is the result
            known = pixels = self._work(run, picture)
            if self.strokes is not None:
                pixels = self._work(run, images.painted_over(picture, self.strokes.picture()))
            if self.edit is not None:
                assert run.frame is not None
                mask = images.mask_to_work(self.edit, run.frame).to(run.device)
                cells = images.mask_to_cells(mask, run.space.stride)
            run.known = run.space.encode(known)
            clean = run.known if pixels is known else run.space.encode(pixels)
        if cells is not None:
            draw = drawn_with(run.solver) if self.noise == "auto" else self.noise
            lagging = self.composite == "reference"
            run.guides.append(Composite(run.known, cells, draw, lagging, self.last_noise))
        if self.match_colour:
            run.finishers.append(MatchColour(pixels, mask))
        return Noised(clean, prior_at_1=self.composite == "level")

    def _work(self, run: Run, picture: Picture) -> Tensor:
        """(1, 3, H, W) in [-1, 1] at the work size."""
        assert run.frame is not None
        return images.to_work(picture, run.frame, self.background)[None].to(run.device)


@dataclass(frozen=True)
class Noised:
    """clean: a state without noise (B or 1, C, H, W), brought to the run's first time.

    prior_at_1: t = 1 is pure noise, of the purpose that a run without a picture draws.
    """

    clean: Tensor
    prior_at_1: bool

    def state(self, call: Call, like: Tensor) -> Tensor:
        t, like = call.t, like.to(self.clean)
        if t == 1 and self.prior_at_1:
            return call.noise("prior", like) * call.schedule.prior(t)
        return torch.add(call.alpha * self.clean, call.noise("start", like), alpha=call.sigma)
