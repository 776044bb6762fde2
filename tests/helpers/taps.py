"""Taps that look, and networks to look into."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sfumato.core.context import Call
from sfumato.core.denoiser import Cond
from sfumato.core.noise import Seeded
from sfumato.core.schedule import linear
from sfumato.core.taps import Entry, Site, Tap, Taps


class Look(Tap):
    """Notes every map (and attention where `kinds` has its hooks) and changes nothing."""

    name = "look"

    def __init__(self) -> None:
        self.seen: list[tuple[str, Site, Tensor]] = []

    def note(self, hook: str, site: Site, value: Tensor) -> Tensor:
        self.seen.append((hook, site, value))
        return value

    def feature(self, h: Tensor, site: Site, call: Call) -> Tensor:
        return self.note("feature", site, h)

    def of(self, hook: str, kind: str = "") -> list[tuple[Site, Tensor]]:
        return [(s, v) for h, s, v in self.seen if h == hook and kind in ("", s.kind)]


class LookDeep(Look):
    """At attentions too, which are then written out."""

    def scores(self, s: Tensor, site: Site, call: Call) -> Tensor:
        return self.note("scores", site, s)

    def probs(self, p: Tensor, site: Site, call: Call) -> Tensor:
        return self.note("probs", site, p)

    def attended(self, o: Tensor, q: Tensor, site: Site, call: Call) -> Tensor:
        return self.note("attended", site, o)


class LookBeside(Look):
    """At what attentions give, which stay fused."""

    def attended(self, o: Tensor, q: Tensor, site: Site, call: Call) -> Tensor:
        return self.note("attended", site, o)


def moment(t: float = 0.5) -> Call:
    return Call(t, t, 0, (t, 0.0), linear(), 0, Seeded(0), {})


def taps(tap: Tap | Iterable[Tap], rows: int) -> Taps:
    """On all rows of one call."""
    every = [tap] if isinstance(tap, Tap) else list(tap)
    call = replace(moment(), branch="positive")
    return Taps(tuple(Entry(one, slice(0, rows), call) for one in every))


def run(net: Any, x: Tensor, time: Tensor, cond: Any, tap: Tap | None = None) -> Tensor:
    """The network's output, with a tap or bare."""
    with torch.no_grad():
        out: Tensor = (
            net(x, time, cond) if tap is None else taps(tap, len(x)).run(net, x, time, Cond(cond))
        )
    return out
