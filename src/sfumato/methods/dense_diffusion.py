"""DenseDiffusion (arXiv 2308.12964): words of the prompt where they are wanted, without training.

In the first part of a run scores of attention are moved before the softmax,
s + w t^5 (1 - S) (R (max s - s) - (1 - R) (s - min s)), with R = 1 where pixel and word, or pixel
and pixel, share a region, and S the region's part of the picture. Under a joint softmax (GLIDE, the
bundled model) the rule of words is for its text columns, that of pixels for the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.core.idle import Needs
from sfumato.core.lazy import torch
from sfumato.core.mixture import Branch
from sfumato.core.taps import ATTENTIONS, Site, Tap
from sfumato.images import Image
from sfumato.methods import Method, knob, method
from sfumato.methods.common.words import columns, holds, spans_of
from sfumato.methods.inner.apart import read_apart
from sfumato.methods.inner.regions import Written, masks

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process

POWER = 5  # of t, by which the push fades


@method
class DenseDiffusion(Method):
    """Pixels of a region look at its words and at each other, and less elsewhere."""

    slot: ClassVar[str | None] = "dense_diffusion"

    regions: Annotated[
        tuple[Written, ...],
        knob("WORDS=LEFT,TOP,RIGHT,BOTTOM in parts of 1, or WORDS=COLOUR of layout", main=True),
    ] = ()
    layout: Annotated[
        Image | None, knob("a picture in whose colours regions lie"), Needs("regions")
    ] = None
    words: Annotated[float, knob("how hard words are moved", ge=0, le=100)] = 1.0
    pixels: Annotated[float, knob("how hard pixels are drawn together", ge=0, le=100)] = 0.3
    until: Annotated[float, knob("part of the run in which it acts", ge=0, le=1)] = 0.3
    apart: Annotated[bool, knob("read each region's words by themselves too")] = True

    def __post_init__(self) -> None:
        if self.layout is not None and all(region.colour is None for region in self.regions):
            raise SfumatoError(
                f"{self.id}: layout does nothing, since no region has a colour of it; leave it out"
            )

    def __call__(self, process: Process) -> Process:
        return process.add(taps=(self,)) if self.regions else process

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(region.words for region in self.regions)

    def bind_tap(self, run: Run) -> Tap:
        if not (self.words or self.pixels) or not self.until:
            return Tap()  # nothing is moved, so nothing is
        process = run.process
        prompts = process.prompts or (process.prompt,)
        spans = [spans_of(self.id, run.source, text, process.texts) for text in prompts]
        member = torch.zeros(len(prompts), len(self.regions), len(spans[0]))
        for k, region in enumerate(self.regions):
            told = [row for row, text in enumerate(prompts) if holds(text, region.words)]
            for row in told or [0]:  # of the first one, which then says that it has no such words
                member[row, k, columns(self.id, prompts[row], spans[row], region.words)] = 1
        regions = masks(self.id, self.regions, self.layout, run)
        names = [b.name for b in process.positives if b.cond is None] or ["positive"]
        return Layout(self, regions, member.to(run.device), tuple(names))


@dataclass(eq=False)
class Layout(Tap):
    """masks (regions, H, W) of 0 and 1; member (prompts, regions, K): the columns of the regions'
    words in one prompt for all pictures, or in that of each."""

    method: DenseDiffusion
    masks: Tensor
    member: Tensor
    on: tuple[str, ...] | None = ("positive",)
    _kept: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    name = "dense_diffusion"

    def active(self, call: Call) -> bool:
        return call.i / call.transitions < self.method.until

    def at(self, site: Site) -> bool:
        return site.kind in ATTENTIONS

    def condition(self, cond: Cond, branch: Branch, run: Run) -> Cond:
        """The regions' words as they are read alone, in their places in the prompt."""
        if not self.method.apart:
            return cond
        texts = [(r.words, self.member[:, k]) for k, r in enumerate(self.method.regions)]
        return read_apart(self.name, texts, cond, branch, run)

    def scores(self, s: Tensor, site: Site, call: Call) -> Tensor:
        m, faded = self.method, call.t**POWER
        inside = self._inside(site.size)  # (regions, pixels)
        parts = [s[..., : site.text], s[..., site.text :]]
        if site.text and m.words:
            member = self.member if len(self.member) == 1 else self.member[call.pictures]
            same = torch.einsum("rp,brk->bpk", inside, member).clamp_max(1)
            share = torch.einsum("r,brk->bk", inside.mean(1), member).clamp_max(1)[:, None]
            parts[0] = _moved(parts[0], same, share, inside, m.words * faded)
        if parts[1].shape[-1] and m.pixels:
            same = (inside.mT @ inside).clamp_max(1)[None]
            parts[1] = _moved(parts[1], same, same.mean(-1, keepdim=True), inside, m.pixels * faded)
        return torch.cat(parts, -1)

    def _inside(self, size: tuple[int, int]) -> Tensor:
        if size not in self._kept:
            way = torch.nn.functional.interpolate
            sampled = way(self.masks[None], size, mode="nearest-exact")[0]
            self._kept[size] = sampled.flatten(1)
        return self._kept[size]


def _moved(s: Tensor, same: Tensor, share: Tensor, inside: Tensor, weight: float) -> Tensor:
    """s (B, heads, pixels, keys) with those of `same` (B or 1, pixels, keys) up and others down;
    pixels of no region stay as they are."""
    same, share = same[:, None], share[:, None]
    up, down = s.amax(-1, keepdim=True) - s, s - s.amin(-1, keepdim=True)
    anywhere = inside.amax(0)[:, None]
    return s + weight * (1 - share) * anywhere * (same * up - (1 - same) * down)
