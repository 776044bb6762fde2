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
from sfumato.core.composite import Composite
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Call, Guide
from sfumato.core.lazy import torch
from sfumato.core.schedule import Schedule, level
from sfumato.core.spacing import MODEL
from sfumato.core.starts import Place
from sfumato.images import Image
from sfumato.methods import Colour, Method, knob, method

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process
    from sfumato.core.run import Run


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
    invert: Annotated[bool, knob("swap the mask's black and white")] = False
    alpha_mask: Annotated[bool, knob("the picture's transparency is the edit mask")] = False
    grow: Annotated[int, knob("enlarge the mask first", unit="px", ge=0, le=4096)] = 0
    feather: Annotated[float, knob("soften the mask's edge, inwards", unit="px", ge=0, le=512)] = (
        0.0
    )
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
    background: Annotated[Colour, knob("colour behind transparent parts, for the network")] = (
        "white"
    )

    def __post_init__(self) -> None:
        given = [n for n in ("t0", "ratio", "alpha_bar") if getattr(self, n) is not None]
        if len(given) > 1:
            raise SfumatoError(f"sdedit: {' and '.join(given)} both set the start level; give one")
        masks = [n for n in ("mask", "alpha_mask", "strokes") if getattr(self, n)]
        if len(masks) > 1:
            raise SfumatoError(f"sdedit: {' and '.join(masks)} each set the edit mask; give one")
        if not masks and (self.invert or self.grow or self.feather):
            raise SfumatoError("sdedit: invert, grow and feather need a mask; give one")
        idle = [n for n in ("alpha_mask", "strokes", "grow", "feather") if getattr(self, n)]
        if self.image.is_tensor and idle:
            raise SfumatoError(f"sdedit: {idle[0]} is for pictures; a state takes a tensor as mask")

    def __call__(self, process: Process) -> Process:
        return process.add(start=_Start(self), guides=[_Keep(self)] if self.masked else [])

    @property
    def guide(self) -> Any:
        return self.strokes or self.image

    @property
    def masked(self) -> bool:
        return bool(self.mask or self.alpha_mask or self.strokes)


@dataclass(frozen=True)
class _Start:
    """The guide noised to a level."""

    method: SDEdit

    @property
    def passes(self) -> int:
        return self.method.repeats

    @cached_property
    def edit(self) -> Any:
        """The edit mask at the picture's size, PIL "L", or None."""
        m = self.method
        if m.image.is_tensor or not m.masked:
            return None
        return images.edit_mask(
            m.image.picture(),
            mask=m.mask,
            painted=None if m.strokes is None else m.strokes.picture(),
            invert=m.invert,
            grow=m.grow,
            feather=m.feather,
        )

    @property
    def parts(self) -> tuple[Any, Any] | None:
        """The picture that is kept outside the edit mask, and that mask."""
        return None if self.edit is None else (self.method.image.picture(), self.edit)

    def place(self) -> Place:
        image = self.method.image
        if image.is_tensor:
            return Place(shape=tuple(image.tensor().shape[-3:]))
        size = image.picture().size
        return Place(size, None if self.edit is None else images.mask_box(self.edit, size))

    def level(self, schedule: Schedule) -> float:
        m = self.method
        if m.ratio is not None or m.alpha_bar is not None:
            return level(schedule, ratio=m.ratio, alpha_bar=m.alpha_bar)
        return 0.5 if m.t0 is None else m.t0

    def bind(self, run: Run) -> _Bound:
        m = self.method
        given = next((name for name in ("ratio", "alpha_bar") if getattr(m, name) is not None), "")
        if given and run.process.spacing == MODEL:
            raise SfumatoError(
                f"sdedit: {given} names a noise level, but spacing model takes a share of its "
                "steps; give t0"
            )
        if m.image.is_tensor:
            known = m.image.state("sdedit", run.shape, run.n).to(run.device)
            mask = None
            if m.mask is not None:
                mask = m.mask.edit("sdedit", run.shape, run.n, m.invert).to(run.device)
            if m.match_colour:
                run.finishers.append(_MatchColour(run.space.decode(known), mask))
            return _Bound(run, m, known, known, mask)
        picture = m.image.picture()
        # what was transparent and is painted now must show
        run.paste = (picture, self.edit, None if m.alpha_mask else picture.alpha)
        if run.untouched:
            return _Bound(run, m, None, None, None)
        known = self.pixels(run, picture)
        guide = known
        if m.strokes is not None:
            guide = self.pixels(run, images.painted_over(picture, m.strokes.picture()))
        mask = cells = None
        if self.edit is not None:
            mask = images.mask_to_work(self.edit, run.frame).to(run.device)
            cells = images.mask_to_cells(mask, run.space.stride)
        if m.match_colour:
            run.finishers.append(_MatchColour(guide, mask))
        state = run.space.encode(known)
        return _Bound(run, m, state if guide is known else run.space.encode(guide), state, cells)

    def pixels(self, run: Run, picture: Any) -> Tensor:
        """(1, 3, H, W) in [-1, 1] at the work size."""
        return images.to_work(picture, run.frame, self.method.background)[None].to(run.device)


@dataclass(frozen=True)
class _Bound:
    """guide and known: clean states (B or 1, C, H, W), None of a run that leaves its picture
    untouched; mask: 1 = may change, or None."""

    run: Run
    method: SDEdit
    guide: Any
    known: Any
    mask: Any

    def state(self, call: Call, like: Tensor) -> Tensor:
        t, schedule = self.run.times[0], self.run.schedule
        like = like.to(self.guide)
        if t == 1 and self.method.composite == "level":
            return call.noise("prior", like) * schedule.prior(t)
        noise = call.noise("start", like)
        return torch.add(schedule.alpha(t) * self.guide, noise, alpha=schedule.sigma(t))


class _Keep(Guide):
    """Becomes the composite of the bound picture and mask."""

    def __init__(self, method: SDEdit) -> None:
        self.method = method

    def bind(self, run: Run) -> Guide:
        assert isinstance(run.start, _Bound)
        m, draw = self.method, self.method.noise
        if draw == "auto":
            draw = "step" if run.solver.stochastic else "start"
        return Composite(
            run.start.known, run.start.mask, draw, m.composite == "reference", m.last_noise
        )


@dataclass(frozen=True, eq=False)
class _MatchColour:
    """Gives each channel of the edited part of the pixels the guide's mean and deviation."""

    guide: Tensor
    mask: Tensor | None

    def __call__(self, pixels: Tensor) -> Tensor:
        guide = self.guide.expand_as(pixels)
        weight = torch.ones_like(pixels)
        if self.mask is not None:
            weight = (self.mask > 0).to(pixels).expand_as(pixels)
        mean, std = _moments(pixels, weight)
        goal, spread = _moments(guide, weight)
        matched = (pixels - mean) * (spread / std.clamp_min(1e-6)) + goal
        return torch.where(weight > 0, matched, pixels)


def _moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    total = weight.sum((-2, -1), keepdim=True).clamp_min(1)
    mean = (x * weight).sum((-2, -1), keepdim=True) / total
    variance = ((x - mean) ** 2 * weight).sum((-2, -1), keepdim=True) / total
    return mean, variance.sqrt()
