"""Every solver by its id, and how one is made from what users write and recipes record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass, replace
from functools import partial
from inspect import signature
from typing import Any, cast

from sfumato.core.errors import SfumatoError
from sfumato.core.idle import IdleError
from sfumato.core.solvers.ancestral import DDIM, DDPM
from sfumato.core.solvers.base import Denoise, Solver, transfer, variances
from sfumato.core.solvers.consistency import LCM
from sfumato.core.solvers.dpm import DPMpp2M
from sfumato.core.solvers.multistep import PLMS
from sfumato.core.solvers.runge_kutta import EDM, RungeKutta

__all__ = [
    "ALIASES",
    "DDIM",
    "DDPM",
    "EDM",
    "INSTEAD",
    "LCM",
    "PLMS",
    "SOLVERS",
    "DPMpp2M",
    "Denoise",
    "RungeKutta",
    "Solver",
    "acting",
    "options_of",
    "solver",
    "solver_data",
    "transfer",
    "variances",
]


def _ode() -> DPMpp2M:
    """dpmpp-2m: its id says that eta is 0, so it has no option."""
    return DPMpp2M()


SOLVERS: dict[str, Callable[..., Any]] = {
    "ddpm": DDPM,
    "ddim": DDIM,
    "euler-a": partial(DDIM, eta=1.0),  # ancestral Euler is DDIM with eta 1, written in sigma/alpha
    "heun": RungeKutta,
    "edm": EDM,
    "dpmpp-2m": _ode,
    "dpmpp-2m-sde": partial(DPMpp2M, eta=1.0),
    "plms": PLMS,
    "plms-prk": partial(PLMS, start="prk"),
    "plms2": partial(PLMS, order=2, start="pie"),
    "iplms": partial(PLMS, start="euler"),
    "pie": partial(RungeKutta, full=True),
    "prk": partial(RungeKutta, stages=4, full=True),
    "lcm": LCM,
}
"""Every solver by its id."""

INSTEAD = {
    "unipc": "dpmpp-2m", "deis": "iplms", "lms": "iplms", "tcd": "ddim with eta",
    "dpm": "dpmpp-2m", "ddpm-ancestral": "ddpm",
}  # fmt: skip
"""What is nearest to solvers of other programs that are not here."""

PROTOCOL = ("id", "order", "stochastic", "needs", "mean_shift", "evaluated", "step", "jumped")
"""What every solver has (base.Solver)."""

ALIASES = {"euler": "ddim"}  # Euler's method in x/alpha over sigma/alpha is DDIM without noise


def solver(value: str | Mapping[str, Any] | Solver[Any]) -> Solver[Any]:
    """A solver from its id, from {"solver": id, option: value}, or itself."""
    if not isinstance(value, str | Mapping):
        if not callable(getattr(value, "step", None)) or isinstance(value, type):
            raise SfumatoError(f"solver {value!r:.60}: is none; give one of {', '.join(SOLVERS)}")
        if missing := [name for name in PROTOCOL if not hasattr(value, name)]:
            raise SfumatoError(
                f"solver {type(value).__name__}: lacks {', '.join(missing)}; a solver has "
                f"{', '.join(PROTOCOL)}"
            )
        return value
    options = {} if isinstance(value, str) else dict(value)
    word = value if isinstance(value, str) else options.pop("solver", None)
    name = ALIASES.get(str(word), str(word))
    if not isinstance(word, str) or name not in SOLVERS:
        near = INSTEAD.get(str(word))
        hint = "" if near is None else f"take {near}; "
        raise SfumatoError(f"solver {word!r:.60}: unknown; {hint}known are {', '.join(SOLVERS)}")
    make: Any = SOLVERS[name]
    known = options_of(name)
    if wrong := [key for key in options if key not in known]:
        has = ", ".join(known) or "none"
        raise SfumatoError(f"solver {name}: no option {wrong[0]!r:.60}; its options: {has}")
    chosen: Solver[Any] = make(**options)
    return chosen


def without_noise(value: str | Mapping[str, Any] | Solver[Any] | None) -> Solver[Any] | None:
    """The same solver with eta 0, where it has one; another is itself."""
    chosen: Any = None if value is None else solver(value)
    return cast("Solver[Any]", replace(chosen, eta=0.0) if getattr(chosen, "eta", 0) else chosen)


def acting(value: Mapping[str, Any]) -> dict[str, Any]:
    """Of a solver's id and options, without those that do nothing beside the others."""
    left = dict(value)
    while True:
        try:
            solver(left)
        except IdleError as error:
            if error.field == "start":  # which an id may say alone
                left["solver"] = "iplms"
                left.pop("start", None)
            else:
                del left[error.field]
        else:
            return left


def options_of(name: str) -> list[str]:
    """What the maker of a solver of this id takes."""
    return list(signature(SOLVERS[name]).parameters)


def solver_data(value: Solver[Any]) -> str | dict[str, Any]:
    """What a recipe records: the id, or an object when there are options.

    Of a solver that is not ours: the fields where it is a dataclass, else the id alone.
    """
    if value.id in SOLVERS:
        options = {name: getattr(value, name) for name in options_of(value.id)}
    else:
        options = asdict(value) if is_dataclass(value) and not isinstance(value, type) else {}
    return {"solver": value.id, **options} if options else value.id
