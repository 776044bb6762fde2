"""A shift of the bottleneck in one branch alone (arXiv 2210.10960)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sfumato.core.context import Call
from sfumato.core.errors import SfumatoError
from sfumato.core.taps import Site, Tap

if TYPE_CHECKING:
    from torch import Tensor

EDITED = "edited"
"""The branch that sees the shift."""


@dataclass(eq=False)
class Shifted(Tap):
    """h + strength times the sum of shifts f(h, t), in the middle of the edited branch."""

    shifts: Sequence[Any]
    strength: float = 1.0
    on: Any = (EDITED,)
    name: str = "asyrp"

    def at(self, site: Site) -> bool:
        return site.kind == "middle"

    def feature(self, h: Tensor, site: Site, call: Call) -> Tensor:
        for shift in self.shifts:
            if shift.channels != h.shape[1]:
                raise SfumatoError(
                    f"asyrp: a shift of {shift.channels} channels, this network's bottleneck has "
                    f"{h.shape[1]}; it belongs to another model"
                )
            change = shift(h, call.t)
            if change.shape[-2:] not in (h.shape[-2:], (1, 1)):
                raise SfumatoError(
                    f"asyrp: a shift of {change.shape[-1]}x{change.shape[-2]}, the bottleneck is "
                    f"{h.shape[-1]}x{h.shape[-2]}; it belongs to another size"
                )
            h = h + self.strength * change.to(h.dtype)
        return h
