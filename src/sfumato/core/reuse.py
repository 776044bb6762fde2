"""Reuse: what a run takes from an earlier step instead of asking its networks for it again.

The difference that guidance leads along hardly changes from one step to the next, and neither do a
network's deep maps. Both are approximations, off unless a process says otherwise. Which step asks
what is known before the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sfumato.core.context import Call
from sfumato.core.denoiser import Denoiser, Prediction
from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch
from sfumato.core.ranges import Range, whole
from sfumato.core.taps import Tap, has, inside

if TYPE_CHECKING:
    from torch import Tensor

EVERY = Range(1, 100)


@dataclass(frozen=True)
class Reuse:
    """guidance: aways are asked at every so manieth transition; deep: and the deep maps of networks
    that can do without them (`reusing`) are made at every so manieth. 1: at all."""

    guidance: int = 1
    deep: int = 1

    def __post_init__(self) -> None:
        for name in ("guidance", "deep"):
            object.__setattr__(self, name, whole(getattr(self, name), f"reuse: {name}", EVERY))

    @property
    def acts(self) -> bool:
        return self.guidance > 1 or self.deep > 1


ASK_ALL = Reuse()


@dataclass(eq=False)
class Memory:
    """What one run keeps for its next steps.

    Of each branch the transitions at which it was last asked, and at which its deep maps were made;
    by how much an away differed from the positive beside it; the deep maps.
    """

    reuse: Reuse
    asked: dict[tuple[str, str], int] = field(default_factory=dict)
    deepened: dict[str, int] = field(default_factory=dict)
    differences: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    maps: dict[str, Tensor] = field(default_factory=dict)

    def keeps_guidance(self, away: str, positive: str, call: Call) -> bool:
        """Whether an away is what it was beside that positive, and need not be asked."""
        key = (away, positive)
        if _fresh(self.asked.get(key), call, self.reuse.guidance):
            return True
        self.asked[key] = call.i
        return False

    def keeps_deep(self, denoiser: Denoiser, names: Sequence[str], call: Call) -> bool:
        """Whether a network's call can do with the deep maps of an earlier one."""
        if not self.layered(denoiser):
            return False
        if all(_fresh(self.deepened.get(name), call, self.reuse.deep) for name in names):
            return True
        self.deepened |= dict.fromkeys(names, call.i)
        return False

    def layered(self, denoiser: Denoiser) -> bool:
        """Whether the denoiser's deep maps are kept at all."""
        return self.reuse.deep > 1 and getattr(denoiser.network, "reusing", None) is not None

    def note(self, positive: str, away: str, parts: Mapping[str, Prediction], call: Call,
             kind: str) -> None:  # fmt: skip
        """Keep by how much an away differs, in terms of what the network says."""
        one, other = parts[positive], parts[away]
        difference = one.eps - other.eps
        if kind not in ("eps", "previous"):
            difference = (difference - (one.x0 - other.x0)) / (call.alpha + call.sigma)
        self.differences[away, positive] = difference.detach()

    def away(self, positive: str, away: str, pred: Prediction, call: Call,
             kind: str) -> Prediction:  # fmt: skip
        """The away's prediction beside that of the positive now."""
        difference, alpha, sigma = self.differences[away, positive], call.alpha, call.sigma
        if kind in ("eps", "previous"):
            return Prediction(
                torch.add(pred.x0, difference, alpha=sigma / alpha), pred.eps - difference
            )
        return Prediction(
            torch.add(pred.x0, difference, alpha=sigma),
            torch.add(pred.eps, difference, alpha=-alpha),
        )

    def denoiser(self, denoiser: Denoiser, rows: Mapping[str, slice], kept: bool) -> Denoiser:
        """The denoiser for one call, of whose deep maps these branches' are taken or noted."""
        return replace(denoiser, network=Layered(denoiser.network, self, dict(rows), kept))


@dataclass(eq=False)
class Layered:
    """A network in one call, in pieces or whole: with the maps that are kept, or keeping its own.

    rows: of each branch; begun: how many rows have been asked; made: their maps.
    """

    network: Any
    memory: Memory
    rows: Mapping[str, slice]
    kept: bool
    begun: int = 0
    made: list[Tensor] = field(default_factory=list)

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
        maps, start = self.memory.maps, self.begun
        deep = torch.cat([maps[name] for name in self.rows]) if self.kept else None
        self.begun += len(x)
        if deep is not None:
            deep = deep[start : self.begun]
        out: Tensor
        out, noted = self.network.reusing(x, time, cond, deep)
        if deep is None:
            self.made.append(noted.detach())
            if self.begun == max(own.stop for own in self.rows.values()):
                every = torch.cat(self.made)
                maps |= {name: every[own] for name, own in self.rows.items()}
        return out


def check_reuse(
    reuse: Reuse, taps: Iterable[Tap], guided: bool, networks: Iterable[object], transitions: int
) -> None:
    """Refuse what acts inside networks whose maps are an earlier step's, and what saves nothing.

    transitions: those that ask a network; a run of none is let through, since it has no cost.
    """
    if not reuse.acts:
        return
    if transitions == 1:
        raise SfumatoError("fast: saves nothing where one step is walked; leave it out")
    for tap in taps:
        if inside(tap) or has(tap, "enter"):
            raise SfumatoError(
                f"fast: {tap.name} acts inside the network at every step, and fast leaves parts of "
                "steps out; leave one of the two out"
            )
    layered = any(getattr(network, "reusing", None) is not None for network in networks)
    if not (guided and reuse.guidance > 1) and not (layered and reuse.deep > 1):
        raise SfumatoError(
            "fast: saves nothing here: nothing guides (cfg), or the network has no deep maps that "
            "it could do without; leave it out"
        )


def _fresh(last: int | None, call: Call, every: int) -> bool:
    """Whether what was made at a transition serves at this moment."""
    if every == 1 or last is None or call.i < last:
        return False
    return call.eval > 0 if call.i == last else call.i - last < every
