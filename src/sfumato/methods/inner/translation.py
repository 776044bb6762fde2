"""What a vision transformer sees of two pictures, and the loss that DiffuseIT makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.core.context import Call
from sfumato.core.guides import Guide
from sfumato.core.lazy import torch
from sfumato.core.schedule import FAINTEST
from sfumato.core.source import Decoder, Seen, Vision
from sfumato.methods.common.contrast import contrast
from sfumato.methods.common.cutouts import Eye
from sfumato.methods.common.sight import sized

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.denoiser import Prediction

TAU = 0.07
Pull = Callable[["Tensor", Seen, Call], "Tensor"]
"""Pixels and what is seen of them -> (B,), smaller where they are nearer to what is wanted."""


@dataclass(frozen=True)
class Terms:
    """Of the terms that need no goal. until: level above which a step leaves the one before; limit:
    mean square beyond the range at which a run begins anew."""

    structure: float
    contrast: float
    leave: float
    until: float
    inside: float
    limit: float


@dataclass(frozen=True, eq=False)
class Translation(Guide):
    """source: what is seen of the picture; pulls: to style and words; decode: states to pixels."""

    weights: Terms
    vision: Vision
    source: Seen
    pulls: Sequence[Pull]
    decode: Decoder

    name = "diffuseit"
    through = "network"
    faintest = FAINTEST

    def logp(self, x: Tensor, pred: Prediction, call: Call) -> Tensor:
        m, share = self.weights, call.sigma / math.hypot(call.alpha, call.sigma)
        held = x / math.hypot(call.alpha, call.sigma)
        pixels = self.decode(share * pred.x0 + (1 - share) * held)
        clean = pixels if share == 1 else self.decode(pred.x0)
        out = mean(clean - clean.clamp(-1, 1))
        if m.limit and (worst := float(out.detach().max())) > m.limit:
            call.restart(worst)
        call.count("vit")
        seen = self.vision(sized(pixels, self.vision.size))
        loss = m.inside * out
        if m.structure:
            gap = alike(seen.keys) - alike(self.source.keys)
            loss = loss + m.structure * gap.square().mean((1, 2))
        if m.contrast:
            keys = self.source.keys.expand_as(seen.keys)
            loss = loss + m.contrast * contrast(seen.keys, keys, TAU).mean(1)
        before = self._before(level_vector(seen.whole), call)
        if m.leave and before is not None and call.t > m.until:
            loss = loss - m.leave * (level_vector(seen.whole) - before).square().mean(1)
        for pull in self.pulls:
            loss = loss + pull(pixels, seen, call)
        return -loss

    def _before(self, whole: Tensor, call: Call) -> Tensor | None:
        """What was seen at the step before; what is seen now is kept for the next one."""
        step, last, now = call.memo.get(self.name, (None, None, None))
        last = last if step == call.i else now
        call.memo[self.name] = (call.i, last, whole.detach())
        before: Tensor | None = last
        return before


def to_picture(vision: Vision, wanted: Tensor, weight: float, colour: float) -> Pull:
    """To another picture, (1, 3, H, W): by the vector of the whole, and by its own pixels."""
    whole = level_vector(vision(sized(wanted, vision.size)).whole)

    def pull(pixels: Tensor, seen: Seen, call: Call) -> Tensor:
        near = (level_vector(seen.whole) - whole).square().mean(1)
        return weight * near + colour * mean(pixels - wanted)

    return pull


def to_vector(eye: Eye, vector: Tensor, weight: float) -> Pull:
    """To a CLIP's vector, (1, E) of any length."""
    wanted = torch.nn.functional.normalize(vector, dim=-1)

    def pull(pixels: Tensor, seen: Seen, call: Call) -> Tensor:
        return -weight * (eye(pixels, call) * wanted).sum(-1).mean(0)

    return pull


def alike(keys: Tensor) -> Tensor:
    """Cosines of every two patches' keys, (B, patches, patches)."""
    rows = torch.nn.functional.normalize(keys, dim=-1)
    return rows @ rows.mT


def level_vector(whole: Tensor) -> Tensor:
    """(B, E) of mean square 1, whatever the transformer's scale."""
    scaled: Tensor = torch.nn.functional.normalize(whole, dim=-1) * whole.shape[-1] ** 0.5
    return scaled


def mean(difference: Tensor) -> Tensor:
    """Mean square of each picture, (B,)."""
    return difference.square().flatten(1).mean(1)
