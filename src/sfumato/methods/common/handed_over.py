"""Two networks that take turns: one above a time index, another below it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.core.denoiser import Network, Traits, traits

if TYPE_CHECKING:
    from torch import Tensor

LATER = "later "
"""How the names of the second network's conditions begin."""


@dataclass(frozen=True, eq=False)
class HandedOver:
    """first at indices from `cutoff` up, then second, which reads conditions of its own. Lets no
    taps in: the two have different places."""

    first: Network
    second: Network
    cutoff: float

    @property
    def config(self) -> Traits:
        return traits(self.first)

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
        later = {name.removeprefix(LATER): v for name, v in cond.items() if name.startswith(LATER)}
        if later and float(time[0]) < self.cutoff:
            return self.second(x, time, later)
        return self.first(x, time, {k: v for k, v in cond.items() if not k.startswith(LATER)})
