"""What a network says about x_t: Prediction, Denoiser (parametrisation + time code), Cond.

Knows no solver and no guidance. A Denoiser is a plain value that holds a network; only nn/ defines
Modules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch
from sfumato.core.schedule import Schedule

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.taps import Taps

Kind = Literal["eps", "v", "x0", "flow", "edm", "previous"]


class Network(Protocol):
    """(x (B, C, ...), time (B,) float32, named conditions) -> (B, C or 2 C, ...).

    Nothing else is required. Where it has `config`, `traits` reads what it takes besides; where it
    has `prepare(cond)`, that is called once a run, for what does not change over the steps; where
    it has `sites`, it lets taps in, and takes Taps as a fourth argument.
    """

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor: ...


@dataclass(frozen=True)
class Traits:
    """What is asked of a network's configuration; the defaults are those of one that has none.

    num_classes: of class labels, None: reads none. inpaint: reads the known part of a picture and
    its mask. xf_width: of its own text transformer, 0: none. stride: pixels of a cell, for SDXL's
    size conditioning (None: not conditioned on sizes). distilled: reads the scale of the guidance
    that it was distilled from. reference: reads a whole picture beside the state. scored: reads how
    beautiful the picture is. shown: reads the vector of what a picture shows.
    """

    num_classes: int | None = None
    inpaint: bool = False
    xf_width: int = 0
    stride: int | None = None
    distilled: bool = False
    reference: bool = False
    scored: bool = False
    shown: bool = False


def traits(network: object) -> Traits:
    """What a network says of itself in `config`; what that leaves out is as of a plain network."""
    config = getattr(network, "config", None)
    told: dict[str, Any] = {f.name: getattr(config, f.name, f.default) for f in fields(Traits)}
    return Traits(**told)


class Cond(Mapping[str, "Tensor"]):
    """Named conditioning tensors, first axis batch. Immutable; `Cond()` is no condition."""

    def __init__(self, tensors: Mapping[str, Tensor] | None = None) -> None:
        named = {} if tensors is None else tensors
        if not isinstance(named, Mapping) or not all(getattr(v, "ndim", 0) for v in named.values()):
            raise SfumatoError(
                f"condition: {named!r:.60}: give tensors by name, whose first axis is the batch"
            )
        self._tensors = dict(named)
        if len({len(v) for v in self._tensors.values()}) > 1:
            sizes = ", ".join(f"{k} {len(v)}" for k, v in self._tensors.items())
            raise SfumatoError(f"condition: its tensors differ in their first axis ({sizes})")

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def map(self, change: Callable[[Tensor], Tensor]) -> Cond:
        return Cond({name: change(v) for name, v in self._tensors.items()})

    def rows(self, n: int) -> Cond:
        """One row is shared by all n; otherwise there must be n."""

        def expand(v: Tensor) -> Tensor:
            if len(v) not in (1, n):
                raise SfumatoError(f"condition: {len(v)} rows for {n} pictures; give 1 or {n}")
            return v.expand(n, *v.shape[1:])

        return self.map(expand)

    def shapes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """What must agree for two conditions to share a batch."""
        return tuple(sorted((name, tuple(v.shape[1:])) for name, v in self._tensors.items()))

    @staticmethod
    def cat(conds: Sequence[Cond]) -> Cond:
        if len(conds) == 1:
            return conds[0]
        return Cond({name: torch.cat([c[name] for c in conds]) for name in conds[0]})


@dataclass(frozen=True, eq=False)
class Prediction:
    """Two values, usually tied by x_t = alpha x0 + sigma eps, but never assumed to be.

    x0, eps: like the state. frac: learned-range variance fraction (v + 1) / 2, unclamped
    (arXiv 2102.09672, eq. 15). grad: a score left to a solver that shifts its mean. log_variance:
    of the transition, from a network that learned it directly.
    """

    x0: Tensor
    eps: Tensor
    frac: Tensor | None = None
    grad: Tensor | None = None
    log_variance: Tensor | None = None

    def with_x0(self, x0: Tensor, x: Tensor, alpha: float, sigma: float) -> Prediction:
        """Replace x0 and let eps follow from x_t, for edits of a tied prediction.

        At sigma = 0, where solvers that end with an evaluation ask, any eps fits: it stays.
        """
        if sigma == 0:
            return replace(self, x0=x0)
        return replace(self, x0=x0, eps=(x - alpha * x0) / sigma)

    def cleaned(
        self, change: Callable[[Tensor], Tensor], x: Tensor, alpha: float, sigma: float
    ) -> Prediction:
        """Change x0 of a prediction that is not tied: the x0 that eps stands for is changed alike,
        so that branches that agree stay tied."""
        if sigma == 0:
            return replace(self, x0=change(self.x0))
        other = change((x - sigma * self.eps) / alpha)
        return replace(self, x0=change(self.x0), eps=(x - alpha * other) / sigma)

    def shifted(self, score: Tensor, alpha: float, sigma: float) -> Prediction:
        """Absorb a score g = grad log p: eps - sigma g, x0 + (sigma^2 / alpha) g."""
        return replace(
            self,
            x0=torch.add(self.x0, score, alpha=sigma**2 / alpha),
            eps=torch.add(self.eps, score, alpha=-sigma),
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> Prediction:
        frac = None if self.frac is None else change(self.frac)
        log = None if self.log_variance is None else change(self.log_variance)
        return Prediction(change(self.x0), change(self.eps), frac, log_variance=log)


@dataclass(frozen=True, eq=False)
class Denoiser:
    """(x_t, t, cond) -> Prediction.

    The network's output is read as `kind`: eps; v = alpha eps - sigma x0; x0; the velocity
    eps - x0 of a "flow"; or EDM's F with x0 = c_skip x + c_out F(c_in x) (arXiv 2206.00364, table
    1); "previous" is the mean of the transition to the next time, s. With `learned_range` it has
    twice the channels and the second half is the variance fraction; with `learned_log` it is the
    logarithm of the variance.

    `code` maps t to the number the network reads: by default the table index t T - 1 (for edm
    ln(sigma)/4); indices within 1e-6 of an integer are that integer. The network is evaluated at
    t clamped to [t_min, t_max]; conversions use the true alpha and sigma.
    """

    network: Network = field(repr=False)
    schedule: Schedule
    kind: Kind = "eps"
    learned_range: bool = False
    learned_log: bool = False
    code: Callable[[float], float] | None = None
    t_min: float | None = None
    t_max: float = 1.0
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not callable(self.network):
            raise SfumatoError(f"network {self.network!r:.60}: cannot be called; give a network")
        if not hasattr(self.schedule, "alpha") or not hasattr(self.schedule, "sigma"):
            raise SfumatoError(f"schedule {self.schedule!r:.60}: is none; give one such as named()")
        if self.kind not in get_args(Kind):
            raise SfumatoError(f"kind {self.kind!r:.60}: give one of {', '.join(get_args(Kind))}")
        if self.kind == "edm" and (self.learned_range or self.learned_log):
            raise SfumatoError("kind edm: has no learned variance; leave learned_range out")

    def prepare(self, cond: Cond) -> Cond:
        """Do once what does not change over the steps of a run (text, its keys and values)."""
        prepare = getattr(self.network, "prepare", None)
        return cond if prepare is None else Cond(prepare(cond))

    def time(self, t: float) -> float:
        """The number the network reads at time t."""
        t_min = 1 / self.schedule.steps if self.t_min is None else self.t_min
        t = min(max(t, t_min), self.t_max)
        if self.code is not None:
            return self.code(t)
        if self.kind == "edm":
            return math.log(self.schedule.sigma(t) / self.schedule.alpha(t)) / 4
        index = t * self.schedule.steps - 1
        return float(round(index)) if abs(index - round(index)) < 1e-6 else index

    def __call__(
        self, x: Tensor, t: float, cond: Cond, s: float | None = None, taps: Taps | None = None
    ) -> Prediction:
        """x (B, C, ...) at time t, cond of B rows (raw or prepared) -> Prediction of B rows.

        s: the time that the step goes to, which kind "previous" needs. taps: of this call.
        """
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        time = torch.full((len(x),), self.time(t), dtype=torch.float32, device=x.device)
        edm = self.kind == "edm"
        seen = x / (alpha * math.hypot(sigma / alpha, self.sigma_data)) if edm else x
        network: Any = self.network
        if taps is None:
            out = network(seen, time, cond)
        else:
            seen, cond, inside = taps.begun(seen, time, cond)
            out = taps.ended(network(seen, time, cond, *inside))
        out = out.to(x.dtype)
        if edm:
            return self._edm(x, out, alpha, sigma)
        frac = log = None
        if self.learned_range or self.learned_log:
            out, var = out.chunk(2, dim=1)
            frac, log = ((var + 1) / 2, None) if self.learned_range else (None, var)
        if self.kind == "eps":
            return Prediction((x - sigma * out) / alpha, out, frac, log_variance=log)
        if self.kind == "v":
            return Prediction(
                torch.add(alpha * x, out, alpha=-sigma),
                torch.add(alpha * out, x, alpha=sigma),
                frac,
                log_variance=log,
            )
        if self.kind == "flow":  # x = alpha x0 + sigma (out + x0), whatever alpha + sigma is
            x0 = torch.add(x, out, alpha=-sigma) / (alpha + sigma)
            return Prediction(x0, out + x0, frac, log_variance=log)
        if self.kind == "previous":
            out = self._unfolded(x, out, t, s)
        return Prediction(out, self._eps(x, out, t), frac, log_variance=log)

    def _edm(self, x: Tensor, out: Tensor, alpha: float, sigma: float) -> Prediction:
        """Of F, whose x0 is c_skip x + c_out F."""
        r, data = sigma / alpha, self.sigma_data
        scale = math.hypot(r, data)
        x0 = (data / scale) ** 2 * x / alpha + (r * data / scale) * out
        # (x / alpha - x0) / r, written so that it is finite at r = 0
        eps = (r * x / alpha - data * scale * out) / scale**2
        return Prediction(x0, eps)

    def _unfolded(self, x: Tensor, mean: Tensor, t: float, s: float | None) -> Tensor:
        """x0 of the mean of q(x_s | x_t, x0)."""
        if s is None or s >= t:
            raise SfumatoError(
                "this network predicts the mean of a downward step; it cannot be run without one"
            )
        schedule = self.schedule
        shrink = schedule.alpha(t) / schedule.alpha(s)
        sigma2, sigma2_s = schedule.sigma(t) ** 2, schedule.sigma(s) ** 2
        of_x0 = schedule.alpha(s) * (sigma2 - shrink**2 * sigma2_s) / sigma2
        return torch.add(mean, x, alpha=-shrink * sigma2_s / sigma2) / of_x0

    def _eps(self, x: Tensor, x0: Tensor, t: float) -> Tensor:
        """eps of an x0 prediction; at t = 0, where it is 0/0, that of the clamped time."""
        if self.schedule.sigma(t) == 0:
            t = 1 / self.schedule.steps if self.t_min is None else self.t_min
        return (x - self.schedule.alpha(t) * x0) / self.schedule.sigma(t)
