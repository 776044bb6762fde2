"""Solvers: one transition t -> s each, given a `denoise` that already holds guidance and edits.

Coefficients are written in alpha, sigma of any schedule, so variance preserving and exploding are
one formula. With v = sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2:
mean of q(x_s | x_t, x_0) = (alpha_t/alpha_s)(sigma_s^2/sigma_t^2) x_t + (alpha_s v/sigma_t^2) x_0,
its variance is v sigma_s^2/sigma_t^2 ("small"); v itself is the "large" one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from sfumato.core.denoiser import Prediction
from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch
from sfumato.core.pseudo import EDM, PLMS, RungeKutta, first
from sfumato.core.ranges import Range, fit
from sfumato.core.schedule import Schedule

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.guides import Call

Variance = Literal["auto", "small", "large", "learned"]
Denoise = Callable[["Tensor", float], Prediction]


class Solver(Protocol):
    """step(x, t, s, denoise, call, carry) -> (state at s, carry for the next step)."""

    id: ClassVar[str]
    needs: ClassVar[frozenset[str]]  # what it reads of a Prediction
    mean_shift: ClassVar[bool]  # takes a guidance score as Sigma g on its mean, not in x0 and eps
    eps_history: ClassVar[
        bool
    ]  # carries eps of earlier states; dropped when a guide moved the state

    @property
    def stochastic(self) -> bool: ...

    def evaluated(
        self, t: float, s: float, known: int, n: int, schedule: Schedule
    ) -> tuple[tuple[float, ...], int]:
        """Times at which `step` calls denoise, and the `known` of the next transition.

        known: length of the history, 0 where a pass begins; n: transitions of the whole run.
        """
        ...

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, carry: Any
    ) -> tuple[Tensor, Any]: ...


def variances(schedule: Schedule, t: float, s: float) -> tuple[float, float]:
    """(large, small) variance of the transition t -> s < t."""
    sigma_t, sigma_s = schedule.sigma(t), schedule.sigma(s)
    large = sigma_t**2 - (schedule.alpha(t) / schedule.alpha(s) * sigma_s) ** 2
    return large, large * (sigma_s / sigma_t) ** 2


def once(
    self: Any, t: float, s: float, known: int, n: int, schedule: Schedule
) -> tuple[tuple[float, ...], int]:
    """`evaluated` of solvers with one evaluation, at t."""
    return (t,), 0


@dataclass(frozen=True)
class DDPM:
    """Ancestral sampling (arXiv 2006.11239, algorithm 2; learned range arXiv 2102.09672, eq. 15).

    variance: "small" and "large" as above; "learned" interpolates their logs by the network's
    fraction; "auto" is learned where the network has it, else large. No noise is added at the last
    transition unless `last_noise` (the published SDEdit loops do).
    """

    id: ClassVar[str] = "ddpm"
    needs: ClassVar[frozenset[str]] = frozenset({"x0"})
    mean_shift: ClassVar[bool] = True
    eps_history: ClassVar[bool] = False
    variance: Variance = "auto"
    last_noise: bool = False

    def __post_init__(self) -> None:
        fit(self, "solver ddpm")

    @property
    def stochastic(self) -> bool:
        return True

    evaluated = once

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, carry: Any
    ) -> tuple[Tensor, None]:
        schedule = call.schedule
        pred = denoise(x, t)
        large, _ = variances(schedule, t, s)
        sigma2 = schedule.sigma(t) ** 2
        keep = schedule.alpha(t) / schedule.alpha(s) * schedule.sigma(s) ** 2 / sigma2
        mean = torch.add(keep * x, pred.x0, alpha=schedule.alpha(s) * large / sigma2)
        noisy = s > 0 or self.last_noise
        if not noisy and pred.grad is None:
            return mean, None
        variance = self._variance(pred, t, s, call)
        if pred.grad is not None:
            mean = mean + self._steering(variance, s, call) * pred.grad
        if noisy:
            std = math.sqrt(variance) if isinstance(variance, float) else variance.sqrt()
            mean = mean + std * call.noise("step", x)
        return mean, None

    def _steering(self, variance: Tensor | float, s: float, call: Call) -> Tensor | float:
        """What a score is multiplied by: the variance, except at the last transition.

        There the large one would be many times what the transition can still change; the published
        tables put the small one of the pair before in its place.
        """
        if s > 0 or not isinstance(variance, float) or self.variance == "small":
            return variance
        return self._small_before(call) or variance

    def _variance(self, pred: Prediction, t: float, s: float, call: Call) -> Tensor | float:
        large, small = variances(call.schedule, t, s)
        kind = self.variance
        if kind in ("auto", "learned") and pred.log_variance is not None:
            return pred.log_variance.exp()
        if kind == "auto":
            kind = "large" if pred.frac is None else "learned"
        if kind == "large":
            return large
        if kind == "small":
            return small
        if pred.frac is None:
            raise SfumatoError("solver ddpm: variance 'learned', but this network learned none")
        if small == 0:
            small = self._small_before(call) or large
        log = torch.lerp(
            torch.full_like(pred.frac, math.log(small)),
            torch.full_like(pred.frac, math.log(large)),
            pred.frac,
        )
        return log.exp()

    @staticmethod
    def _small_before(call: Call) -> float | None:
        """The small variance of the pair before this one in the same pass."""
        if call.i == 0 or call.times[call.i - 1] <= call.times[call.i]:
            return None
        return variances(call.schedule, call.times[call.i - 1], call.times[call.i])[1]


@dataclass(frozen=True)
class DDIM:
    """x_s = alpha_s x0 + sqrt(sigma_s^2 - std^2) eps + std z, std^2 = eta^2 small variance.

    Source: arXiv 2010.02502, eq. 12 and 16. eta 0 is deterministic and runs upwards too.
    """

    id: ClassVar[str] = "ddim"
    needs: ClassVar[frozenset[str]] = frozenset({"x0", "eps"})
    mean_shift: ClassVar[bool] = False
    eps_history: ClassVar[bool] = False
    eta: Annotated[float, Range(ge=0, le=1)] = 0.0

    def __post_init__(self) -> None:
        fit(self, "solver ddim")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    evaluated = once

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, carry: Any
    ) -> tuple[Tensor, None]:
        schedule = call.schedule
        pred = denoise(x, t)
        std2 = self.eta**2 * variances(schedule, t, s)[1] if self.eta else 0.0
        along = math.sqrt(max(schedule.sigma(s) ** 2 - std2, 0.0))
        x = torch.add(schedule.alpha(s) * pred.x0, pred.eps, alpha=along)
        if std2 > 0:
            x = torch.add(x, call.noise("step", x), alpha=math.sqrt(std2))
        return x, None


@dataclass(frozen=True)
class DPMpp2M:
    """DPM-Solver++(2M): second order, one evaluation, x0 history (arXiv 2211.01095, algorithm 2).

    x_s = (sigma_s/sigma_t) x + (alpha_s - alpha_t sigma_s/sigma_t) D with
    D = x0 + h/(2 h_before) (x0 - x0_before), h = difference of log(alpha/sigma). The first step of
    a pass and a step to sigma = 0 are first order.
    """

    id: ClassVar[str] = "dpmpp-2m"
    needs: ClassVar[frozenset[str]] = frozenset({"x0"})
    mean_shift: ClassVar[bool] = False
    eps_history: ClassVar[bool] = False

    @property
    def stochastic(self) -> bool:
        return False

    evaluated = once

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, carry: Any
    ) -> tuple[Tensor, tuple[Tensor, float] | None]:
        schedule = call.schedule
        pred = denoise(x, t)
        alpha_t, sigma_t = schedule.alpha(t), schedule.sigma(t)
        alpha_s, sigma_s = schedule.alpha(s), schedule.sigma(s)
        if sigma_t == 0:  # leaving 0 upwards: log(alpha/sigma) is infinite, first order in eps
            return first(pred, s, schedule), None
        if sigma_s == 0:
            return alpha_s * pred.x0, None
        lam_t, lam_s = math.log(alpha_t / sigma_t), math.log(alpha_s / sigma_s)
        target = pred.x0
        if carry is not None:
            before, lam_before = carry
            weight = (lam_s - lam_t) / (2 * (lam_t - lam_before))
            target = torch.add(target, target - before, alpha=weight)
        shrink = sigma_s / sigma_t
        x = torch.add(shrink * x, target, alpha=alpha_s - alpha_t * shrink)
        return x, (pred.x0, lam_t)


@dataclass(frozen=True)
class DPMpp2MSDE:
    """DPM-Solver++(2M) for the reverse SDE, midpoint form (arXiv 2211.01095, appendix).

    x_s = (sigma_s/sigma_t) e^(-eta h) x + alpha_s (1 - e^(-(1 + eta) h)) (D + h/(2 h_before)
    (D - D_before)) + sigma_s sqrt(1 - e^(-2 eta h)) z, h as in dpmpp-2m. eta 0 is dpmpp-2m.
    """

    id: ClassVar[str] = "dpmpp-2m-sde"
    needs: ClassVar[frozenset[str]] = frozenset({"x0"})
    mean_shift: ClassVar[bool] = False
    eps_history: ClassVar[bool] = False
    eta: Annotated[float, Range(ge=0, le=10)] = 1.0

    def __post_init__(self) -> None:
        fit(self, "solver dpmpp-2m-sde")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    evaluated = once

    def step(
        self, x: Tensor, t: float, s: float, denoise: Denoise, call: Call, carry: Any
    ) -> tuple[Tensor, tuple[Tensor, float] | None]:
        schedule = call.schedule
        pred = denoise(x, t)
        alpha_s, sigma_s = schedule.alpha(s), schedule.sigma(s)
        if schedule.sigma(t) == 0:  # leaving 0 upwards, as dpmpp-2m does
            return first(pred, s, schedule), None
        if sigma_s == 0:
            return alpha_s * pred.x0, None
        lam_t = math.log(schedule.alpha(t) / schedule.sigma(t))
        h = math.log(alpha_s / sigma_s) - lam_t
        target = pred.x0
        if carry is not None:
            before, lam_before = carry
            weight = h / (2 * (lam_t - lam_before))
            target = torch.add(target, target - before, alpha=weight)
        shrink = sigma_s / schedule.sigma(t) * math.exp(-self.eta * h)
        x = torch.add(shrink * x, target, alpha=-alpha_s * math.expm1(-(1 + self.eta) * h))
        if self.eta > 0:
            spread = sigma_s * math.sqrt(-math.expm1(-2 * self.eta * h))
            x = torch.add(x, call.noise("step", x), alpha=spread)
        return x, (pred.x0, lam_t)


SOLVERS: dict[str, Callable[..., Any]] = {
    "ddpm": DDPM,
    "ddim": DDIM,
    "euler-a": partial(DDIM, eta=1.0),  # ancestral Euler is DDIM with eta 1, written in sigma/alpha
    "heun": RungeKutta,
    "edm": EDM,
    "dpmpp-2m": DPMpp2M,
    "dpmpp-2m-sde": DPMpp2MSDE,
    "plms": PLMS,
    "plms-prk": partial(PLMS, start="prk"),
    "plms2": partial(PLMS, order=2, start="pie"),
    "iplms": partial(PLMS, start="euler"),
    "pie": partial(RungeKutta, full=True),
    "prk": partial(RungeKutta, stages=4, full=True),
}
"""Every solver by its id."""

INSTEAD = {
    "unipc": "dpmpp-2m", "deis": "iplms", "lms": "iplms", "tcd": "ddim with eta", "lcm": "ddim",
    "dpm": "dpmpp-2m", "ddpm-ancestral": "ddpm",
}  # fmt: skip
"""What is nearest to solvers of other programs that are not here."""

ALIASES = {"euler": "ddim"}  # Euler's method in x/alpha over sigma/alpha is DDIM without noise


def solver(value: str | Mapping[str, Any] | Solver) -> Solver:
    """A solver from its id, from {"solver": id, option: value}, or itself."""
    if not isinstance(value, str | Mapping):
        if not callable(getattr(value, "step", None)) or isinstance(value, type):
            raise SfumatoError(f"solver {value!r:.60}: is none; give one of {', '.join(SOLVERS)}")
        return value
    options = {} if isinstance(value, str) else dict(value)
    given = value if isinstance(value, str) else options.pop("solver", None)
    name = ALIASES.get(str(given), str(given))
    if not isinstance(given, str) or name not in SOLVERS:
        near = INSTEAD.get(str(given))
        hint = "" if near is None else f"take {near}; "
        raise SfumatoError(f"solver {given!r:.60}: unknown; {hint}known are {', '.join(SOLVERS)}")
    make: Any = SOLVERS[name]
    known = [f.name for f in fields(getattr(make, "func", make))]
    if wrong := [key for key in options if key not in known]:
        has = ", ".join(known) or "none"
        raise SfumatoError(f"solver {name}: no option {wrong[0]!r:.60}; its options: {has}")
    made: Solver = make(**options)
    return made


def solver_data(value: Solver) -> str | dict[str, Any]:
    """What a recipe records: the id, or an object when there are options."""
    options = asdict(value)  # type: ignore[call-overload]
    return {"solver": value.id, **options} if options else value.id
