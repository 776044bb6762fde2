"""Steering: the prediction of one moment, with mixture, gradients and edits in their order.

Branches; guides on a branch correct it; mixture; edits by rank; one gradient of the guides on the
mixture, taken on the unedited one; edits that come after it. The order of typing plays no part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sfumato.core.context import Call
from sfumato.core.denoiser import Prediction
from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.guides import Guide, overrides
from sfumato.core.lazy import torch
from sfumato.core.mixture import Mixture

if TYPE_CHECKING:
    from torch import Tensor


class Steering:
    """What a solver calls as `denoise`: (x (B, ...), t) -> Prediction.

    mean_shift: a score on the mixture is left to the solver. scores: (B,) log-probability of each
    guide, pred: the last prediction, both of the transition that `begin` began.
    """

    def __init__(self, mixture: Mixture, guides: Sequence[Guide], mean_shift: bool) -> None:
        self.mixture = mixture
        self.mean_shift = mean_shift
        self.guides = tuple(_checked(guide, mixture) for guide in guides)
        edits = [g for g in self.guides if overrides(g, "edit")]
        edits.sort(key=lambda g: g.edit_rank)  # stable: equals keep list order
        self.edits = [g for g in edits if not g.after]
        self.after = [g for g in edits if g.after]
        self.arrivals = [g for g in self.guides if overrides(g, "arrive")]
        self.arrivals.sort(key=lambda g: g.arrive_rank)
        self.scorers = [g for g in self.guides if overrides(g, "logp")]
        self.weighers = [g for g in self.guides if overrides(g, "weigh")]
        self.scores: dict[str, Tensor] = {}
        self.pred: Prediction | None = None
        self._moment: Call | None = None
        self._evaluations = 0
        self._kept = False  # whether a caller differentiates through the steps

    def begin(self, call: Call) -> Steering:
        """Itself, for the evaluations of a transition."""
        self._moment, self._evaluations = call, 0
        self.pred, self.scores = None, {}
        return self

    def arrive(self, x: Tensor, call: Call) -> Tensor:
        """The state on reaching call.s, after the guides that change it."""
        for guide in self.arrivals:
            if guide.active(call):
                x = guide.arrive(x, call.s, call)
        return x

    def __call__(self, x: Tensor, t: float) -> Prediction:
        assert self._moment is not None
        tied = self.mixture.tied_at(t)
        parts: dict[str, Prediction] = {}
        call = replace(self._moment, t=t, eval=self._evaluations, tied=tied, parts=parts)
        self._evaluations += 1
        alpha, sigma = call.alpha, call.sigma
        scorers = self._scoring(call, alpha)
        self._kept = torch.is_grad_enabled() and (x.requires_grad or self.mixture.trainable)
        leaf = x if x.requires_grad or not scorers else x.detach().requires_grad_()
        through = any(g.through == "network" for g in scorers)
        with torch.enable_grad() if through else nullcontext():
            parts |= self.mixture.parts(leaf if through else x, t, call)
            for name, part in parts.items():
                if own := [g for g in scorers if g.on == name]:
                    parts[name] = part.shifted(self._score(own, leaf, part, call), alpha, sigma)
            mixed = self.mixture.mix(parts, t)
        pred = mixed
        if leaf is not x and not self._kept:
            pred = mixed.map(lambda v: v.detach())
        for guide in self.edits:
            if guide.active(call):
                pred = guide.edit(pred, x, call)
        if on_mixture := [g for g in scorers if g.on == "mixture"]:
            score = self._score(on_mixture, leaf, mixed, call)
            absorbed = pred.shifted(score, alpha, sigma) if not self.mean_shift else None
            pred = absorbed or replace(pred, grad=score)
        for guide in self.after:
            if guide.active(call):
                pred = guide.edit(pred, x, call)
        self.pred = pred
        return pred

    def idle(self, negative: str) -> Iterator[str]:
        """What was given and acts at no time of the run, a line each."""
        reads = [t.branch for t in self.mixture.terms if t.away and t.branch.cond is None]
        if negative and not any(branch.weight != 1.0 for branch in reads):
            yield "negative: does nothing, since nothing guides; give cfg a scale other than 1"
        for guide in self.weighers if not self.scorers else ():
            yield f"{guide.name}: does nothing, since no gradient guides; add what has one"

    def _scoring(self, call: Call, alpha: float) -> list[Guide]:
        """The guides whose log-probability counts at this moment."""
        terms = self.mixture.terms
        there = {"mixture", *(term.branch.name for term in terms if term.active(call.t))}
        return [
            g
            for g in self.scorers
            if g.on in there
            and g.active(call)
            and (alpha >= g.faintest or (self.mean_shift and g.on == "mixture"))
        ]

    def _score(self, guides: Sequence[Guide], x: Tensor, pred: Prediction, call: Call) -> Tensor:
        """Gradient in x of the sum of the guides' log-probabilities, shaped like x."""
        if self._kept:
            return self._differentiable(guides, x, pred, call)
        bare = pred.map(lambda v: v.detach())
        with torch.enable_grad():
            total: Any = 0.0
            for guide in guides:
                prediction = pred if guide.through == "network" else bare
                logp = guide.logp(x, prediction, call)
                self.scores[guide.name] = logp.detach()
                total = total + logp.sum()
            (score,) = torch.autograd.grad(total, x, retain_graph=True)
        return self._weighed(score, bare, call)

    def _differentiable(
        self, guides: Sequence[Guide], x: Tensor, pred: Prediction, call: Call
    ) -> Tensor:
        """The same score as a function of x, for a caller who differentiates through the steps.

        Guides through "prediction" hold the prediction constant in their own gradient, never in the
        caller's, so theirs is taken in an offset of x.
        """
        offset = torch.zeros_like(x, requires_grad=True)
        moved, near = x + offset, replace(call, held=x)
        same = pred.map(lambda v: v)  # its own views of losses
        score = torch.zeros_like(x)
        for guide in guides:
            whole = guide.through == "network"
            prediction, wanted = (pred, x) if whole else (same, offset)
            logp = guide.logp(x if whole else moved, prediction, near)
            self.scores[guide.name] = logp.detach()
            (part,) = torch.autograd.grad(logp.sum(), wanted, create_graph=True)
            score = score + part
        return self._weighed(score, pred, call)

    def _weighed(self, score: Tensor, pred: Prediction, call: Call) -> Tensor:
        call.count("backward")
        for weigher in self.weighers:
            if weigher.active(call):
                score = weigher.weigh(score, pred, call)
        return score


def _checked(guide: Guide, mixture: Mixture) -> Guide:
    if overrides(guide, "logp") and guide.through not in ("prediction", "network"):
        raise SfumatoError(
            f"guide {guide.name}: has logp, so `through` must say prediction or network"
        )
    names = [term.branch.name for term in mixture.terms]
    if guide.on != "mixture" and guide.on not in names:
        known = ", ".join(["mixture", *names])
        raise SfumatoError(f"guide {guide.name}: no branch {quoted(guide.on)}; there are {known}")
    return guide
