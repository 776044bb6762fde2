"""Planes that tell states or bottlenecks apart, and the pushes across them (arXiv 2302.08357)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sfumato.core.context import Call
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.taps import Site, Tap
from sfumato.methods.common.weights import opened

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Plane:
    """normal (C, h, w) of length 1; distance: v.normal + offset, afterwards."""

    normal: Tensor
    offset: float
    distance: float

    def pushed(self, v: Tensor, what: str) -> Tensor:
        """v (B, C, h, w) at that distance."""
        if v.shape[1:] != self.normal.shape:
            raise SfumatoError(
                f"boundary_diffusion: its plane is of a {what} of {tuple(self.normal.shape)}, this "
                f"run's is {tuple(v.shape[1:])}; it belongs to another model or size"
            )
        normal = self.normal.to(v)
        now = (v * normal).flatten(1).sum(1) + self.offset
        return v + (self.distance - now).view(-1, 1, 1, 1) * normal


def plane_of(tensors: Mapping[str, Tensor], space: str, distance: float, where: str) -> Plane:
    """Of a file: SPACE.normal, SPACE.offset, and SPACE.spread, in which distances are given."""
    normal = tensors.get(f"{space}.normal")
    offset, spread = (tensors.get(f"{space}.{name}") for name in ("offset", "spread"))
    numbers = [v for v in (offset, spread) if v is not None and _is_number(v)]
    if normal is None or normal.ndim != 3 or not normal.is_floating_point() or len(numbers) < 2:
        raise SfumatoError(f"{where}: holds no plane of {space}; tuner boundary makes such a file")
    offset, spread = numbers
    normal = normal.float()
    length = float(normal.norm())
    if not length:
        raise SfumatoError(f"{where}: the normal of {space} has no length; make it anew")
    return Plane(normal / length, float(offset) / length, distance * float(spread))


def _is_number(value: Tensor) -> bool:
    return value.numel() == 1 and not value.is_complex()


def planes_level(name: str) -> float:
    """The level at which a file's planes were found."""
    level = opened(name)[0].get("t")
    if level is None or not _is_number(level) or not 0 < float(level) <= 1:
        raise SfumatoError(f"{name}: does not say its level; give t_m")
    return float(level)


@dataclass(frozen=True, eq=False)
class PushedState(Guide):
    """Moves the state on arrival at one of the run's times, visit."""

    plane: Plane
    visit: int

    name = "boundary_diffusion"

    def active(self, call: Call) -> bool:
        return call.visit == self.visit

    def arrive(self, x: Tensor, t: float, call: Call) -> Tensor:
        return self.plane.pushed(x, "state")


@dataclass(eq=False)
class PushedBottleneck(Tap):
    """Moves the bottleneck in the step from that time; lag: later ones come a step late."""

    plane: Plane | None
    visit: int
    lag: bool = False
    on: Any = ("positives",)
    name: str = "boundary_diffusion"

    def active(self, call: Call) -> bool:
        return call.i == self.visit or (self.lag and call.i > self.visit)

    def at(self, site: Site) -> bool:
        return site.kind == "middle"

    def feature(self, h: Tensor, site: Site, call: Call) -> Tensor:
        if call.i == self.visit and self.plane is not None:
            h = self.plane.pushed(h, "bottleneck")
        if not self.lag:
            return h
        key = (self.name, call.branch, call.pictures.start, call.eval)
        before, call.memo[key] = call.memo.get(key), h
        return h if before is None or call.i == self.visit else before.to(h.dtype)
