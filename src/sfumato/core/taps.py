"""Taps: what reads or writes inside a network. Site names a place, Tap acts there.

Taps is what acts in one network call. No tap and no network lives here.

A tap never sees a batch of several branches: each hook is called once for every branch that it is
on, with that branch's rows alone, which are the pictures in their order (`call.branch`,
`call.pictures`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.denoiser import Network
    from sfumato.core.mixture import Branch
    from sfumato.core.process import Process

Kind = Literal["self", "cross", "joint", "down", "middle", "skip", "up"]
Fused = Callable[..., "Tensor"]

ATTENTIONS: frozenset[Kind] = frozenset({"self", "cross", "joint"})
HOOKS: Mapping[str, frozenset[Kind]] = {
    "feature": frozenset({"down", "middle", "skip", "up"}),
    "scores": ATTENTIONS,
    "probs": ATTENTIONS,
    "attended": ATTENTIONS,
}
"""The hooks that act at places inside the network, and the kinds of places."""


@dataclass(frozen=True)
class Site:
    """A place in a network where taps act; the same words for every family of networks.

    kind: of an attention, what pixels attend to: pixels ("self"), text ("cross"), or both under one
    softmax ("joint", the text's keys first); of a map, what a block of the way "down" gives, the
    "middle", what the way up reads of a block down ("skip"), what the next block up reads ("up", so
    enlarged where a level ends). index: among the places of its kind, in the order in which they
    run; a skip has the index of the block down that it comes from, whose first, 0, is the stem.
    name: the network's own, for messages. size: (height, width) of the map, (0, 0) where nothing is
    being read. text: how many keys are text.
    """

    kind: Kind
    index: int
    name: str
    size: tuple[int, int] = (0, 0)
    text: int = 0

    def here(self, size: Sequence[int], text: int = 0) -> Site:
        """The same place in one call: size (..., height, width)."""
        here = (int(size[-2]), int(size[-1]))
        return Site(self.kind, self.index, self.name, here, text)


class TapBinder(Protocol):
    """A method that acts inside the network: bound, it becomes the Tap of one run."""

    def bind_tap(self, run: Run) -> Tap: ...


class Tap:
    """Override what is needed of the hooks; `process | tap` adds it.

    on: names of branches, or the words "positives" and "aways"; None for all. couples: a picture
    reads what belongs to another, so that a branch's rows must stay in one call. texts: what it
    will encode, so that all texts of a run get one length. rank, name, key: taps act by rank,
    equals by name, those of one name by key, whatever the order of typing; messages say the name.
    """

    on: tuple[str, ...] | None = None
    couples: bool = False
    texts: tuple[str, ...] = ()
    rank: int = 0
    name: str = "tap"
    key: str = ""

    def __call__(self, process: Process) -> Process:
        return process.add(taps=(self,))

    def bind_tap(self, run: Run) -> Tap:
        """The tap of this run, before conditions and guides are bound; one that needs nothing of
        it is itself."""
        return self

    def on_branch(self, name: str, away: bool) -> bool:
        """Whether it acts on a branch."""
        word = "aways" if away else "positives"
        return self.on is None or name in self.on or word in self.on

    def active(self, call: Call) -> bool:
        return True

    def at(self, site: Site) -> bool:
        """Whether it acts there; attention maps are only made where a tap reads them."""
        return True

    def parameters(self) -> Iterable[Tensor]:
        """What a caller may differentiate the run by."""
        return ()

    def condition(self, cond: Cond, branch: Branch, run: Run) -> Cond:
        """Change a branch's condition before it is prepared; it has B rows or one."""
        return cond

    def prepared(self, cond: Cond, call: Call) -> Cond:
        """Change a branch's prepared condition at every call, keeping its names and shapes: a
        vector of the whole prompt, the null text of a step (arXiv 2211.09794)."""
        return cond

    def reads(self, x: Tensor, call: Call) -> Tensor:
        """The state as the network reads it, shaped like x (B, C, ...)."""
        return x

    def says(self, out: Tensor, call: Call) -> Tensor:
        """What the network says, (B, C or 2 C, ...), before it is read as eps, v or x0."""
        return out

    def enter(self, x: Tensor, time: Tensor, cond: Cond, call: Call) -> Tap:
        """The tap that acts in this call, from what the network reads; here a second network runs
        (ControlNet). Once for each branch."""
        return self

    def feature(self, h: Tensor, site: Site, call: Call) -> Tensor:
        """Change a map (B, C, h, w)."""
        return h

    def scores(self, s: Tensor, site: Site, call: Call) -> Tensor:
        """Change q k^T / sqrt(d), (B, heads, pixels, keys) float32, before the softmax."""
        return s

    def probs(self, p: Tensor, site: Site, call: Call) -> Tensor:
        """Change the same after the softmax."""
        return p

    def attended(self, o: Tensor, q: Tensor, site: Site, call: Call) -> Tensor:
        """Change what an attention gives to the queries q, both (B, heads, pixels, d)."""
        return o


def has(tap: Tap, hook: str) -> bool:
    """Whether the tap has its own version of a hook."""
    return getattr(type(tap), hook) is not getattr(Tap, hook)


def inside(tap: Tap) -> bool:
    """Whether the tap itself acts at places inside the network."""
    return any(has(tap, hook) for hook in HOOKS)


def check_sites(tap: Tap, network: Network) -> None:
    """Refuse a network that lets nothing act inside it, or has none of the tap's places."""
    if not (inside(tap) or has(tap, "enter")):
        return
    sites = sites_of(network, tap)
    kinds = {kind for hook in HOOKS if has(tap, hook) for kind in HOOKS[hook]}
    if inside(tap) and not any(site.kind in kinds and tap.at(site) for site in sites):
        there = ", ".join(dict.fromkeys(site.kind for site in sites))
        raise SfumatoError(
            f"{tap.name}: acts at none of the places inside this network, which has {there}"
        )


def sites_of(network: Network, tap: Tap) -> tuple[Site, ...]:
    """The places inside a network; those that let taps in have them as `sites`."""
    sites: tuple[Site, ...] | None = getattr(network, "sites", None)
    if sites is None:
        named = getattr(network, "__name__", type(network).__name__)
        raise SfumatoError(f"{tap.name}: the network {named} lets nothing act inside it")
    return sites


@dataclass(frozen=True, eq=False)
class Entry:
    """A tap in one network call: its rows there, and the moment as it sees it."""

    tap: Tap
    rows: slice
    call: Call


@dataclass(frozen=True, eq=False)
class Taps:
    """What acts in one network call; networks give it their maps and attentions."""

    entries: tuple[Entry, ...]

    @staticmethod
    def of(
        taps: Iterable[tuple[Tap, frozenset[str]]], rows: Mapping[str, slice], call: Call
    ) -> Taps | None:
        """taps: each with the branches it is on; rows: of each branch in the call. None where no
        tap acts: nothing then differs from a network without taps."""
        entries = [
            Entry(tap, part, replace(call, branch=branch))
            for tap, names in taps
            if tap.active(call)
            for branch, part in rows.items()
            if branch in names
        ]
        return Taps(tuple(entries)) if entries else None

    def piece(self, start: int, stop: int) -> Taps | None:
        """Of a call that is made in pieces: what concerns the rows from start to stop."""
        entries = []
        for entry in self.entries:
            rows = entry.rows
            low, high = max(rows.start, start), min(rows.stop, stop)
            if low < high:
                call = replace(entry.call, pictures=slice(low - rows.start, high - rows.start))
                entries.append(Entry(entry.tap, slice(low - start, high - start), call))
        return Taps(tuple(entries)) if entries else None

    @property
    def couples(self) -> bool:
        """Whether the rows must stay in one call."""
        return any(entry.tap.couples for entry in self.entries)

    def run(self, network: Network, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        """The network's output, with the taps at its boundary and inside it."""
        x, cond, acting = self.begun(x, time, cond)
        letting: Any = network
        return self.ended(letting(x, time, cond, *acting))

    def begun(self, x: Tensor, time: Tensor, cond: Cond) -> tuple[Tensor, Cond, tuple[Taps, ...]]:
        """State and condition as the taps let the network read them, and the call's fourth
        argument, which there is where some act inside."""
        x = self._through("reads", x)
        taps, cond = self.entered(x, time, cond)
        acting = any(inside(entry.tap) for entry in taps.entries)
        return x, cond, (taps,) if acting else ()

    def ended(self, out: Tensor) -> Tensor:
        """The network's output, after the taps that change it."""
        return self._through("says", out)

    def entered(self, x: Tensor, time: Tensor, cond: Cond) -> tuple[Taps, Cond]:
        """The taps that act in this call, and the condition as they change it."""
        for entry in self.entries:
            if has(entry.tap, "prepared"):
                own = entry.tap.prepared(_part(cond, entry.rows), entry.call)
                cond = Cond({name: _put(v, [(entry.rows, own[name])]) for name, v in cond.items()})
        entries = []
        for entry in self.entries:
            tap, rows = entry.tap, entry.rows
            if has(tap, "enter"):
                tap = tap.enter(x[rows], time[rows], _part(cond, rows), entry.call)
            entries.append(replace(entry, tap=tap))
        return Taps(tuple(entries)), cond

    def feature(self, h: Tensor, site: Site) -> Tensor:
        """A map (B, C, h, w) after the taps that act on it."""
        return self._through("feature", h, site.here(h.shape))

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        site: Site,
        fused: Fused,
        mask: Tensor | None = None,
        scale: float | None = None,
    ) -> Tensor:
        """Attention over (B, heads, T, d), written out only where a tap reads its maps.

        fused: (q, k, v) -> out, the network's own kernel, which already knows mask and scale. mask:
        what is added to the scores, or where they count; scale: of the scores, None: d^-1/2.
        """
        if self._act("scores", site) or self._act("probs", site):
            s = (q.float() * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.float().mT
            s = self._through("scores", s, site)
            if mask is not None:
                s = s.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else s + mask
            out: Tensor = self._through("probs", s.softmax(-1), site).to(v.dtype) @ v
        else:
            out = fused(q, k, v)
        return self._through("attended", out, site, q)

    def _act(self, hook: str, site: Site) -> bool:
        return any(has(entry.tap, hook) and entry.tap.at(site) for entry in self.entries)

    def _through(self, hook: str, value: Tensor, site: Site | None = None, *also: Tensor) -> Tensor:
        """The value after every tap's hook, each on its own rows. also: what the hook reads too."""
        changed: list[tuple[slice, Tensor]] = []  # of other rows each, so that they are joined once
        for entry in self.entries:
            tap, rows = entry.tap, entry.rows
            if not has(tap, hook) or (site is not None and not tap.at(site)):
                continue
            if any(rows.start < other.stop and other.start < rows.stop for other, _ in changed):
                value, changed = _put(value, changed), []
            where = () if site is None else (site,)
            change: Any = getattr(tap, hook)
            read = value[rows]
            own = change(read, *(v[rows] for v in also), *where, entry.call)
            if own is not read:
                changed.append((rows, own))
        return _put(value, changed)


def _part(cond: Cond, rows: slice) -> Cond:
    return cond.map(lambda v: v[rows])


def _put(value: Tensor, changed: Sequence[tuple[slice, Tensor]]) -> Tensor:
    """The value with other rows at some places, of which no two overlap."""
    parts, begun = [], 0
    for rows, own in sorted(changed, key=lambda one: one[0].start):
        if rows.stop - rows.start == len(value):
            return own
        parts += [value[begun : rows.start], own.to(value.dtype)]
        begun = rows.stop
    if not parts:
        return value
    parts.append(value[begun:])
    return torch.cat([part for part in parts if len(part)])  # an empty one loses the layout


def ordered(taps: Iterable[Tap]) -> list[Tap]:
    """In the order in which they act."""
    return sorted(taps, key=lambda tap: (tap.rank, tap.name, tap.key))
