"""The loss of a denoiser: what is asked of it, at which noise levels, with which weights.

Hybrid loss for a learned variance: MSE plus the variational bound on the variance channels with the
mean held fixed (arXiv 2102.09672, eq. 16). No data, no optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Annotated

import torch
from torch import Tensor

from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.idle import Needs
from sfumato.core.schedule import Schedule
from sfumato.core.solvers import variances
from sfumato.train.timesteps import TIMES, Stratified, TimeSampler
from sfumato.train.values import Chosen, NotNegative, Share, part
from sfumato.train.weighting import WEIGHTINGS, MinSNR, Norm, Target, Weighting, weights

DENOISER = Needs("reads.denoiser")


@dataclass(frozen=True)
class Loss:
    """total: what is minimised, the mean of `rows` (B,), which are weighted and have their graph.

    mse (B,): on the target, unweighted, absolute where the norm is; vb (B,) in bits.
    """

    rows: Tensor
    times: list[float]
    mse: Tensor
    vb: Tensor | None = None

    @property
    def total(self) -> Tensor:
        return self.rows.mean()


@part
class Objective:
    """times: the levels of a batch; weighting: relative to eps-MSE; norm of the error.

    l1_until: above this level the error is squared, whatever the norm. Little noise leaves little
    to choose from, and there the absolute error keeps flat areas flat, where a square forgives
    grain; much noise leaves several pictures, of which only the square's mean is what samples need.
    vb: weight of the bound, in units in which 1 is the sum over all steps of the table divided by
    1000 (the "rescaled" hybrid loss), for a denoiser with learned_range.
    """

    times: Annotated[TimeSampler, Chosen(TIMES)] = field(default_factory=Stratified)
    weighting: Annotated[Weighting, Chosen(WEIGHTINGS), DENOISER] = field(default_factory=MinSNR)
    norm: Annotated[Norm, DENOISER] = "l2"
    l1_until: Annotated[Share, DENOISER, Needs("norm=l1")] = 1.0
    vb: Annotated[NotNegative, DENOISER] = 0.0

    def loss(self, denoiser: Denoiser, x0: Tensor, cond: Cond, noise: Tensor, rng: Random) -> Loss:
        """x0 and noise (B, C, ...), cond of B rows."""
        drawn = self.times(len(x0), denoiser.schedule, rng)
        times = [t for t, _ in drawn]
        return self.at(denoiser, x0, cond, noise, times, [w for _, w in drawn])

    def at(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        cond: Cond,
        noise: Tensor,
        times: Sequence[float],
        importance: Sequence[float] | None = None,
    ) -> Loss:
        """The loss at given times, one for each row."""
        check_bound(self, denoiser)
        schedule = denoiser.schedule
        asked = Target(denoiser.kind, denoiser.sigma_data)
        x, target = pose(denoiser, x0, noise, times)
        time = torch.tensor([denoiser.time(t) for t in times], device=x0.device)
        out = denoiser.network(x_in(denoiser, x, times), time, cond)
        var = None
        if denoiser.learned_range:
            out, var = out.chunk(2, dim=1)
        error = out - target
        mse = error.square().flatten(1).mean(1)
        if self.norm == "l1":
            low = torch.tensor([t <= self.l1_until for t in times], device=x0.device)
            mse = torch.where(low, error.abs().flatten(1).mean(1), mse)
        weight = weights(self.weighting, asked, schedule, times)
        if importance is not None:
            weight = [w * i for w, i in zip(weight, importance, strict=True)]
        rows = column(weight, mse) * mse
        if var is None or not self.vb:
            return Loss(rows, list(times), mse.detach())
        mean_x0 = clean(denoiser, x, out.detach(), times)
        bound = variational_bound(schedule, x0, x, mean_x0, (var + 1) / 2, times)
        rows = rows + self.vb * schedule.steps / 1000 * bound
        return Loss(rows, list(times), mse.detach(), bound.detach())


def check_bound(objective: Objective, denoiser: Denoiser) -> None:
    """Refuse the weight of a bound on a variance that the network does not learn."""
    if objective.vb and not denoiser.learned_range:
        raise SfumatoError(
            "objective.vb: weighs a learned variance, and this model has none; leave it out"
        )


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """One float for each row, shaped to broadcast over `like`."""
    rows = torch.tensor(values, dtype=torch.float64).to(like.device, torch.float32)
    return rows.view(-1, *[1] * (like.ndim - 1))


def check_trainable(denoiser: Denoiser) -> None:
    """Refuse a network that predicts the mean of a step: what it means depends on the step taken,
    and no loss here says which."""
    if denoiser.kind == "previous":
        raise SfumatoError(
            'train: the network predicts the mean of a step (kind "previous"); such a model can be '
            "sampled, not trained; take one that predicts eps, v or x0"
        )


def pose(
    denoiser: Denoiser, x0: Tensor, noise: Tensor, times: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """x_t, and what the network is asked for."""
    check_trainable(denoiser)
    schedule = denoiser.schedule
    alpha = column([schedule.alpha(t) for t in times], x0)
    sigma = column([schedule.sigma(t) for t in times], x0)
    x = alpha * x0 + sigma * noise
    if denoiser.kind == "eps":
        return x, noise
    if denoiser.kind == "v":
        return x, alpha * noise - sigma * x0
    if denoiser.kind == "x0":
        return x, x0
    skip, out, _ = _edm(denoiser, times, x0)
    return x, (x0 - skip * (x / alpha)) / out


def x_in(denoiser: Denoiser, x: Tensor, times: Sequence[float]) -> Tensor:
    """What the network reads: x_t, for EDM scaled to unit variance."""
    if denoiser.kind != "edm":
        return x
    alpha = column([denoiser.schedule.alpha(t) for t in times], x)
    return x / alpha * _edm(denoiser, times, x)[2]


def _edm(denoiser: Denoiser, times: Sequence[float], like: Tensor) -> tuple[Tensor, ...]:
    """c_skip, c_out, c_in of arXiv 2206.00364, table 1."""
    schedule, data = denoiser.schedule, denoiser.sigma_data
    ratios = [schedule.sigma(t) / schedule.alpha(t) for t in times]
    scales = [math.hypot(r, data) for r in ratios]
    return (
        column([(data / s) ** 2 for s in scales], like),
        column([r * data / s for r, s in zip(ratios, scales, strict=True)], like),
        column([1 / s for s in scales], like),
    )


def clean(denoiser: Denoiser, x: Tensor, out: Tensor, times: Sequence[float]) -> Tensor:
    """x0 of the network's output."""
    check_trainable(denoiser)
    schedule = denoiser.schedule
    alpha = column([schedule.alpha(t) for t in times], x)
    sigma = column([schedule.sigma(t) for t in times], x)
    if denoiser.kind == "eps":
        return (x - sigma * out) / alpha
    if denoiser.kind == "v":
        return alpha * x - sigma * out
    if denoiser.kind == "x0":
        return out
    skip, scale, _ = _edm(denoiser, times, x)
    return skip * (x / alpha) + scale * out


LN2 = math.log(2)


def variational_bound(
    schedule: Schedule,
    x0: Tensor,
    x: Tensor,
    mean_x0: Tensor,
    frac: Tensor | float,
    times: Sequence[float],
) -> Tensor:
    """One step's term of the bound, (B,) in bits per dimension (arXiv 2102.09672).

    KL of q(x_s | x_t, x0) against the model's transition with mean from mean_x0, where s is one
    table step below t; at the first step the negative log-likelihood of x0 in 8-bit bins. frac
    interpolates the logarithms of the small and the large variance (0: small, 1: large).
    """
    steps = schedule.steps
    before = [max(t - 1 / steps, 0.0) for t in times]
    first = [t * steps < 1.5 for t in times]
    before = [0.0 if f else s for f, s in zip(first, before, strict=True)]
    pairs = list(zip(times, before, strict=True))
    of_x, of_x0, small, large = zip(*(_transition(schedule, t, s) for t, s in pairs), strict=True)
    column_x, column_x0 = column(of_x, x), column(of_x0, x)
    log_small, log_large = column(small, x), column(large, x)
    true_mean = column_x * x + column_x0 * x0
    mean = column_x * x + column_x0 * mean_x0
    log_variance = frac * log_large + (1 - frac) * log_small
    kl = 0.5 * (
        log_variance
        - log_small
        - 1
        + (log_small - log_variance).exp()
        + (true_mean - mean).square() * (-log_variance).exp()
    )
    nll = -discretised_log_likelihood(x0, mean, 0.5 * log_variance)
    both = torch.where(column([float(f) for f in first], x) > 0, nll, kl)
    return both.flatten(1).mean(1) / LN2


def _transition(schedule: Schedule, t: float, s: float) -> tuple[float, float, float, float]:
    """Factors of x_t and x0 in the posterior mean; logarithms of the small and large variance.

    The small variance of the first step, which is 0, is that of the second.
    """
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    alpha_s, sigma_s = schedule.alpha(s), schedule.sigma(s)
    large, small = variances(schedule, t, s)
    if s == 0:
        _, small = variances(schedule, 2 / schedule.steps, 1 / schedule.steps)
    of_x = (alpha / alpha_s) * (sigma_s / sigma) ** 2
    of_x0 = alpha_s * large / sigma**2
    return of_x, of_x0, math.log(small), math.log(large)


def discretised_log_likelihood(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log p(x) of a Gaussian over 8-bit bins of [-1, 1], the outermost reaching to infinity.

    The distribution function is its tanh approximation, as in the reference.
    """
    centred = x - mean
    inverse = (-log_std).exp()
    above = _cdf(inverse * (centred + 1 / 255))
    below = _cdf(inverse * (centred - 1 / 255))
    middle = (above - below).clamp_min(1e-12).log()
    low, high = above.clamp_min(1e-12).log(), (1 - below).clamp_min(1e-12).log()
    return torch.where(x < -0.999, low, torch.where(x > 0.999, high, middle))


def _cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
