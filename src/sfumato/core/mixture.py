"""The mixture of predictions: Branch, and the batched evaluation of all branches of a run.

e_pos = sum_b w_b e_b over positives (x0 and eps apart, by role), then
e = e_pos + sum_k (s_k - 1)(e_pos - e_k) over aways; classifier-free guidance is one away. Where one
positive leads, aways are of that one: e = e_pos + sum_k (s_k - 1) w_lead (e_lead - e_k).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

from sfumato.core.context import Call
from sfumato.core.denoiser import Cond, Denoiser, Prediction
from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.lazy import torch
from sfumato.core.reuse import ASK_ALL, Memory, Reuse
from sfumato.core.schedule import Schedule, ratio
from sfumato.core.source import Source
from sfumato.core.taps import Tap, Taps, check_sites

if TYPE_CHECKING:
    from torch import Tensor

Weight = float | Callable[[float], float]
Role = Literal["both", "x0", "eps"]


@dataclass(frozen=True, eq=False)
class Branch:
    """One term of the mixture.

    cond: a Cond, a prompt, a function of Call, or None for the process's own prompt (its negative
    prompt on an away). weight: w of a positive, s of an away; may depend on t. denoiser: None for
    the process's own. source: whose `encode` reads its prompt, None for the process's. role: which
    of x0 and eps it feeds; may depend on t. leads: a positive whose own guidance the aways are,
    beside others.
    """

    name: str
    cond: Cond | str | Callable[[Call], Cond] | None = None
    weight: Weight = 1.0
    denoiser: Denoiser | None = None
    role: Role | Callable[[float], Role] = "both"
    source: Source | None = None
    leads: bool = False

    def at(self, t: float) -> float:
        return self.weight(t) if callable(self.weight) else self.weight

    def feeds(self, t: float) -> Role:
        """Its role at time t."""
        return self.role(t) if callable(self.role) else self.role


def distinct(branches: Sequence[Branch]) -> None:
    """Refuse two branches of one name: guides and edits find a prediction by it."""
    if odd := [branch for branch in branches if not isinstance(branch, Branch)]:
        raise SfumatoError(f"positives = {odd[0]!r:.60}: is no Branch")
    names = ["mixture", *(branch.name for branch in branches)]
    for k, name in enumerate(names):
        if name in names[:k]:
            raise SfumatoError(
                f"branch {quoted(name)}: there already is one of that name; rename it"
            )


def one_mixture(there: Sequence[Branch], more: Sequence[Branch]) -> None:
    """Refuse a second method that says what the prediction is mixed of."""
    if there and more:
        names = ", ".join(branch.name for branch in there)
        raise SfumatoError(
            f"positives: the process already mixes {names}; leave one of the two methods out"
        )


@dataclass(frozen=True, eq=False)
class Term:
    """A branch bound to a run: its denoiser is known and a fixed condition is prepared."""

    branch: Branch
    denoiser: Denoiser
    cond: Cond | Callable[[Call], Cond]
    away: bool

    def active(self, t: float) -> bool:
        return self.branch.at(t) != (1.0 if self.away else 0.0)


class Mixture:
    """The branches of one run, one batched call for each (network, shapes of the condition)."""

    def __init__(
        self,
        terms: Sequence[Term],
        schedule: Schedule,
        n: int,
        rows_max: int | None = None,
        taps: Sequence[Tap] = (),
        reuse: Reuse = ASK_ALL,
    ) -> None:
        self.terms = tuple(terms)
        self.memory = Memory(reuse)
        self.taps = [(tap, _branches(tap, self.terms)) for tap in taps]
        self.schedule = schedule
        self.n = n
        self.rows_max = rows_max
        self.calls = 0
        self.lead = next((t.branch for t in terms if t.branch.leads and not t.away), None)
        self._grouped: dict[tuple[str, ...], Cond] = {}

    def parts(self, x: Tensor, t: float, call: Call) -> dict[str, Prediction]:
        """Every active branch's prediction, by name."""
        n, predictions = len(x), {}
        groups, fresh = self.groups(t, call)
        for group in groups:
            denoiser = group[0].denoiser
            matched, at, to = self._matched(denoiser, x, t, call.s)
            rows = torch.cat([matched] * len(group)) if len(group) > 1 else matched
            cond = self._cond(group, fresh)
            owns = {term.branch.name: slice(k * n, (k + 1) * n) for k, term in enumerate(group)}
            taps = Taps.of(self.taps, owns, call) if self.taps else None
            if self.memory.layered(denoiser):
                kept = self.memory.keeps_deep(denoiser, tuple(owns), call)
                denoiser = self.memory.denoiser(denoiser, owns, kept)
                call.count("shallow", int(kept))
            self.calls += 1  # in pieces or not
            most = self.rows_max
            if most is None or len(rows) <= most or (taps is not None and taps.couples):
                pred = denoiser(rows, at, cond, to, taps)
            else:
                pieces = []
                for k in range(0, len(rows), most):
                    cut = slice(k, k + most)
                    some = cond.map(itemgetter(cut))
                    acting = None if taps is None else taps.piece(k, k + most)
                    pieces.append(denoiser(rows[cut], at, some, to, acting))
                pred = _joined(pieces)
            for name, own in owns.items():
                predictions[name] = (
                    pred if len(group) == 1 else pred.map(lambda v, own=own: v[own])  # type: ignore[misc]
                )
        if self.memory.reuse.guidance > 1:
            self._beside(predictions, t, call)
        return predictions

    def _beside(self, predictions: dict[str, Prediction], t: float, call: Call) -> None:
        """Keep how aways that were asked differ, and add those that were not."""
        positive = self._positive(t)
        for term in self.terms:
            if term.away and self.acts(term, t):
                name, kind = term.branch.name, term.denoiser.kind
                if name in predictions:
                    self.memory.note(positive, name, predictions, call, kind)
                else:
                    pred = predictions[positive]
                    predictions[name] = self.memory.away(positive, name, pred, call, kind)
                    call.count("guidance kept")

    def _positive(self, t: float) -> str:
        """The branch that aways are told by: the one that leads, else the first that acts."""
        if self.lead is not None:
            return self.lead.name
        return next(b.branch.name for b in self.terms if not b.away and b.active(t))

    def groups(self, t: float, call: Call) -> tuple[list[list[Term]], dict[str, Cond]]:
        """Active terms by the network call that they share, and what callable conditions gave."""
        active = [
            term for term in self.terms if self.acts(term, t) and not self._kept(term, t, call)
        ]
        fresh = {
            term.branch.name: term.denoiser.prepare(term.cond(call)).rows(self.n)
            for term in active
            if callable(term.cond)
        }
        groups: dict[Any, list[Term]] = {}
        for term in active:
            cond = fresh.get(term.branch.name, term.cond)
            assert isinstance(cond, Cond)
            groups.setdefault((id(term.denoiser), cond.shapes()), []).append(term)
        return list(groups.values()), fresh

    def _kept(self, term: Term, t: float, call: Call) -> bool:
        """Whether a term is an away that is taken from an earlier step."""
        if not term.away or self.memory.reuse.guidance == 1:
            return False
        return self.memory.keeps_guidance(term.branch.name, self._positive(t), call)

    def check(self, t: float) -> None:
        """Refuse a moment at which no positive branch says what x0 or eps is."""
        positives = [term.branch for term in self.terms if not term.away]
        for value, other in (("x0", "eps"), ("eps", "x0")):
            feeds = [branch for branch in positives if branch.feeds(t) != other]
            if not any(branch.at(t) for branch in feeds):
                names = ", ".join(branch.name for branch in feeds) or "none"
                raise SfumatoError(
                    f"branches: no positive one gives {value} at t = {t:.4g} (of {names}); their "
                    "weights must not all be 0 there"
                )

    def acts(self, term: Term, t: float) -> bool:
        """Whether a term counts at t; aways of a leading branch only where that one does."""
        guided = self.lead is None or self.lead.at(t) != 0
        return term.active(t) and (guided or not term.away)

    def mix(self, parts: dict[str, Prediction], t: float) -> Prediction:
        """The mixture rule of this module's docstring; the variance is the first positive's."""
        positives = [term.branch for term in self.terms if not term.away and term.active(t)]
        x0 = _weighted([(b.at(t), parts[b.name].x0) for b in positives if b.feeds(t) != "eps"])
        eps = _weighted([(b.at(t), parts[b.name].eps) for b in positives if b.feeds(t) != "x0"])
        mixed_x0, mixed_eps = x0, eps
        share = 1.0 if self.lead is None else self.lead.at(t)
        if self.lead is not None and share:
            x0, eps = parts[self.lead.name].x0, parts[self.lead.name].eps
        for term in self.terms:
            if term.away and self.acts(term, t):
                part, push = parts[term.branch.name], share * (term.branch.at(t) - 1)
                mixed_x0 = torch.add(mixed_x0, x0 - part.x0, alpha=push)
                mixed_eps = torch.add(mixed_eps, eps - part.eps, alpha=push)
        first = parts[positives[0].name]
        return Prediction(mixed_x0, mixed_eps, first.frac, log_variance=first.log_variance)

    @cached_property
    def trainable(self) -> bool:
        """Whether a network or a fixed condition wants a gradient of its own."""
        for term in self.terms:
            parameters = getattr(term.denoiser.network, "parameters", None)
            tensors = [] if parameters is None else list(parameters())
            if isinstance(term.cond, Cond):
                tensors += term.cond.values()
            if any(tensor.requires_grad for tensor in tensors):
                return True
        return any(tensor.requires_grad for tap, _ in self.taps for tensor in tap.parameters())

    @property
    def tied(self) -> bool:
        """Whether x_t = alpha x0 + sigma eps holds for the mixture (no branch split by role)."""
        return all(term.branch.role == "both" for term in self.terms)

    def tied_at(self, t: float) -> bool:
        """Whether it holds at time t."""
        return self.tied or all(
            term.branch.feeds(t) == "both" for term in self.terms if self.acts(term, t)
        )

    def _cond(self, group: list[Term], fresh: dict[str, Cond]) -> Cond:
        """The group's rows one after the other; built once unless a condition is a function."""
        names = tuple(term.branch.name for term in group)
        if names in self._grouped:
            return self._grouped[names]
        conds = [fresh.get(name, term.cond) for name, term in zip(names, group, strict=True)]
        rows = Cond.cat([cond for cond in conds if isinstance(cond, Cond)])
        if fresh.keys().isdisjoint(names):
            self._grouped[names] = rows
        return rows

    def _matched(
        self, denoiser: Denoiser, x: Tensor, t: float, s: float
    ) -> tuple[Tensor, float, float]:
        """State and times as a denoiser of another schedule has them, at equal sigma/alpha."""
        own, other = self.schedule, denoiser.schedule
        if other is own:
            return x, t, s
        at = other.at(ratio(own, t))
        return x * (other.alpha(at) / own.alpha(t)), at, other.at(ratio(own, s))


def _branches(tap: Tap, terms: Sequence[Term]) -> frozenset[str]:
    """The branches that a tap is on; refuses names and networks that it could not act on."""
    names = [term.branch.name for term in terms]
    for name in tap.on or ():
        if name not in (*names, "positives", "aways"):
            known = ", ".join(names)
            raise SfumatoError(f"{tap.name}: no branch {name!r}; there are {known}")
    on = [term for term in terms if tap.on_branch(term.branch.name, term.away)]
    for term in on:
        check_sites(tap, term.denoiser.network)
    return frozenset(term.branch.name for term in on)


def _joined(pieces: Sequence[Prediction]) -> Prediction:
    """One evaluation that was made in several calls."""
    return Prediction(
        torch.cat([p.x0 for p in pieces]),
        torch.cat([p.eps for p in pieces]),
        _cat([p.frac for p in pieces]),
        log_variance=_cat([p.log_variance for p in pieces]),
    )


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    """All of them one after the other, or None where there are none."""
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None


def _weighted(parts: list[tuple[float, Tensor]]) -> Tensor:
    (weight, total), *rest = parts
    if weight != 1:
        total = weight * total
    for weight, value in rest:
        total = torch.add(total, value, alpha=weight)
    return total
