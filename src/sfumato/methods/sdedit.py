"""SDEdit (arXiv 2108.01073): noise a guide to level t0, then let the model bring it back.

Its three tasks are strokes to picture (`image` is the painting), stroke edit (`image` is a photo,
`strokes` a painted-over copy; only where they differ may change) and compositing (`image` holds a
pasted patch, `mask` says what to synthesise anew; preset "compositing").
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sfumato import images
from sfumato.core.context import Paste, Run
from sfumato.core.errors import SfumatoError
from sfumato.core.idle import Needs
from sfumato.core.schedule import level
from sfumato.core.spacing import MODEL
from sfumato.core.starts import BoundStart, Place, PriorNoise
from sfumato.images import Image
from sfumato.methods import Method, knob, method
from sfumato.methods.common.fields import PICTURE, AlphaMask, Background, Feather, Grow, Invert
from sfumato.methods.common.picture_start import Noised
from sfumato.methods.common.replacement import Composite, Regional, drawn_with
from sfumato.methods.inner.colour import MatchColour
from sfumato.methods.inner.level_map import LevelMap

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage
    from torch import Tensor

    from sfumato.core.process import Process
    from sfumato.images import Picture

MASKED = Needs("mask|alpha_mask|strokes")


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
    t0_map: Annotated[
        Image | None,
        knob("grey picture: how far each region may go, white to t0 (1 if none), black kept"),
    ] = None
    ratio: Annotated[float | None, knob("start level as sigma/alpha instead", ge=0, le=1e9)] = None
    alpha_bar: Annotated[float | None, knob("start level as alpha^2 instead", gt=0, le=1)] = None
    repeats: Annotated[int, knob("passes K; each begins from the last result", ge=1, le=100)] = 1
    mask: Annotated[
        Image | None, knob("edit mask: white may change, black is kept bit for bit")
    ] = None
    invert: Annotated[Invert, MASKED] = False
    alpha_mask: AlphaMask = False
    grow: Annotated[Grow, MASKED] = 0
    feather: Annotated[Feather, MASKED] = 0.0
    strokes: Annotated[
        Image | None, knob("painted-over copy; the mask is where it differs"), PICTURE
    ] = None
    composite: Annotated[
        Literal["level", "reference"],
        knob("kept part at the state's noise level, or one level up as the published loops"),
        Needs("!t0_map"),
    ] = "level"
    noise: Annotated[
        Literal["auto", "step", "start"],
        knob("noise of the kept part: the step's (paper), the start's (code), by the solver"),
        Needs("mask|alpha_mask|strokes|t0_map"),
    ] = "auto"
    last_noise: Annotated[
        bool,
        knob("leave noise on the kept part, as the published loops"),
        Needs("composite=reference", *MASKED.needs),
    ] = False
    match_colour: Annotated[bool, knob("give the guide's mean and spread of colours")] = False
    background: Background = "white"

    def __post_init__(self) -> None:
        levels = [n for n in self.levels if getattr(self, n) is not None]
        if len(levels) > 1:
            raise SfumatoError(f"sdedit: {' and '.join(levels)} both set the start level; give one")
        masks = [n for n in ("mask", "alpha_mask", "strokes", "t0_map") if getattr(self, n)]
        if len(masks) > 1:
            raise SfumatoError(f"sdedit: {' and '.join(masks)} each set the edit mask; give one")

    def __call__(self, process: Process) -> Process:
        return process.add(start=self)

    @property
    def reference_picture(self) -> Any:
        return self.strokes or self.image

    @property
    def masked(self) -> bool:
        return bool(self.mask or self.alpha_mask or self.strokes or self.t0_map)

    @property
    def passes(self) -> int:
        return self.repeats

    @cached_property
    def edit_mask(self) -> PILImage | None:
        """The edit mask at the picture's size, PIL "L"; a tensor's is read when the run begins."""
        if self.image.is_tensor or not self.masked:
            return None
        if self.region_levels:
            return self.region_levels.edit_mask
        return images.edit_mask(
            self.image.picture(),
            mask=self.mask,
            painted=None if self.strokes is None else self.strokes.picture(),
            invert=self.invert,
            grow=self.grow,
            feather=self.feather,
        )

    @cached_property
    def region_levels(self) -> LevelMap | None:
        if self.t0_map is None:
            return None
        return LevelMap(self.t0_map, None if self.image.is_tensor else self.image.picture().size)

    def place(self) -> Place:
        edit = self.edit_mask
        return Place.of(
            self.image, None if edit is None else images.mask_box(edit, self.image.picture().size)
        )

    def level(self, process: Process) -> float:
        schedule = process.denoiser.schedule
        most = self.region_levels.most if self.region_levels else 1.0
        if self.ratio is not None or self.alpha_bar is not None:
            return most * level(schedule, ratio=self.ratio, alpha_bar=self.alpha_bar)
        default = process.starts_at(0.5 if self.t0_map is None else 1.0)
        return most * (default if self.t0 is None else self.t0)

    def bind_start(self, run: Run) -> BoundStart:
        if run.process.spacing == MODEL and (self.ratio, self.alpha_bar) != (None, None):
            field = "alpha_bar" if self.ratio is None else "ratio"
            raise SfumatoError(
                f"sdedit: {field} names a noise level, but spacing model takes a share of its "
                "steps; give t0"
            )
        mask = cells = None
        if self.image.is_tensor:
            clean = run.known = self.image.state("sdedit", run)
            pixels = run.space.decode(clean) if self.match_colour else clean
            if self.mask is not None:
                mask = cells = self.mask.edit_mask(self.id, run, self.invert)
        else:
            picture = self.image.picture()
            # what was transparent and is painted now must show
            run.paste = Paste(picture, self.edit_mask, opaque=self.alpha_mask)
            if run.untouched:
                return PriorNoise()  # never drawn from: the picture is the result
            known = pixels = self._work(run, picture)
            if self.strokes is not None:
                pixels = self._work(run, images.painted_over(picture, self.strokes.picture()))
            if self.edit_mask is not None and not self.region_levels:
                assert run.frame is not None
                mask = images.mask_to_work(self.edit_mask, run.frame).to(run.device)
                cells = images.mask_to_cells(mask, run.space.stride)
            run.known = run.space.encode(known)
            clean = run.known if pixels is known else run.space.encode(pixels)
        draw = drawn_with(run.solver) if self.noise == "auto" else self.noise
        if regions := self.region_levels:
            levels = regions.cells(run) * (self.level(run.process) / regions.most)
            run.guides.append(Regional(run.known, levels, draw))
        elif cells is not None:
            lagging = self.composite == "reference"
            run.guides.append(Composite(run.known, cells, draw, lagging, self.last_noise))
        if self.match_colour:
            run.finishers.append(MatchColour(pixels, mask))
        return Noised(clean, prior_at_1=self.composite == "level")

    def _work(self, run: Run, picture: Picture) -> Tensor:
        """(1, 3, H, W) in [-1, 1] at the work size."""
        assert run.frame is not None
        return images.to_work(picture, run.frame, self.background)[None].to(run.device)
