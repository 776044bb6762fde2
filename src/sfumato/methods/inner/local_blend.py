"""Where pixels look at words: attention to their columns, gathered over a run, and its mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.core.context import Call
from sfumato.core.guides import Guide
from sfumato.core.lazy import torch
from sfumato.core.taps import Site

if TYPE_CHECKING:
    from torch import Tensor


def look(name: str, probs: Tensor, columns: Tensor, site: Site, call: Call) -> None:
    """Add the attention to columns (B, K), of probs (B, heads, pixels, keys), to a run's maps."""
    maps: Tensor = (probs[..., : site.text].mean(1) @ columns[..., None]).squeeze(-1)
    kept = call.memo.setdefault(name, {})
    kept[site.size] = kept.get(site.size, 0) + maps.view(len(maps), *site.size)


@dataclass(frozen=True)
class LocalBlend(Guide):
    """x <- x_0 + m (x - x_0), m where words are looked at in the first picture or in each one.

    share: of the most that any pixel looks at them. name: whose maps they are.
    """

    share: float
    name: str = "blend"

    def arrive(self, x: Tensor, t: float, call: Call) -> Tensor:
        if not (maps := call.memo.get(self.name)):
            return x
        pooled = torch.nn.functional.max_pool2d(maps[max(maps)][:, None], 3, 1, 1)
        large = torch.nn.functional.interpolate(pooled, x.shape[-2:], mode="bilinear")
        mask = large > self.share * large.amax((-2, -1), keepdim=True)
        return torch.where(mask | mask[:1], x, x[:1])
