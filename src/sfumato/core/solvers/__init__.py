"""Every solver by its id, and how one is made from what users write and recipes record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from functools import partial
from typing import Any

from sfumato.core.errors import SfumatoError
from sfumato.core.solvers.ancestral import DDIM, DDPM
from sfumato.core.solvers.base import Denoise, Solver, transfer, variances
from sfumato.core.solvers.dpm import DPMpp2M
from sfumato.core.solvers.multistep import PLMS
from sfumato.core.solvers.runge_kutta import EDM, RungeKutta

__all__ = [
    "ALIASES",
    "DDIM",
    "DDPM",
    "EDM",
    "INSTEAD",
    "PLMS",
    "SOLVERS",
    "DPMpp2M",
    "Denoise",
    "RungeKutta",
    "Solver",
    "options_of",
    "solver",
    "solver_data",
    "transfer",
    "variances",
]

SOLVERS: dict[str, Callable[..., Any]] = {
    "ddpm": DDPM,
    "ddim": DDIM,
    "euler-a": partial(DDIM, eta=1.0),  # ancestral Euler is DDIM with eta 1, written in sigma/alpha
    "heun": RungeKutta,
    "edm": EDM,
    "dpmpp-2m": DPMpp2M,
    "dpmpp-2m-sde": partial(DPMpp2M, eta=1.0),
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


def solver(value: str | Mapping[str, Any] | Solver[Any]) -> Solver[Any]:
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
    known = options_of(name)
    if wrong := [key for key in options if key not in known]:
        has = ", ".join(known) or "none"
        raise SfumatoError(f"solver {name}: no option {wrong[0]!r:.60}; its options: {has}")
    made: Solver[Any] = make(**options)
    return made


def options_of(name: str) -> list[str]:
    """Fields that a solver of this id takes; that of dpmpp-2m says that its eta is 0."""
    make: Any = SOLVERS[name]
    return [] if name == "dpmpp-2m" else [f.name for f in fields(getattr(make, "func", make))]


def solver_data(value: Solver[Any]) -> str | dict[str, Any]:
    """What a recipe records: the id, or an object when there are options."""
    if value.id == "dpmpp-2m":  # which says that eta is 0
        return value.id
    options = asdict(value)  # type: ignore[call-overload]
    return {"solver": value.id, **options} if options else value.id
