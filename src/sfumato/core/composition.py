"""What a process can say of the methods it holds: their names, what was given, what they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from sfumato.core.errors import SfumatoError
from sfumato.core.solvers import SOLVERS, Solver, solver

if TYPE_CHECKING:
    from sfumato.core.process import Process


def check_needs(method: Any, chosen: str | Mapping[str, Any] | Solver[Any] | None) -> None:
    """A method whose `needs` the solver does not read would do nothing, or half of what it says."""
    needs: frozenset[str] = getattr(method, "needs", frozenset())
    if not needs or chosen is None:
        return
    reader = solver(chosen)
    if missing := sorted(needs - reader.needs):
        able = [name for name in SOLVERS if needs <= solver(name).needs]
        raise SfumatoError(
            f"{name_of(method)}: changes {' and '.join(missing)} apart, which solver {reader.id} "
            f"does not read; take one of {', '.join(able)}"
        )


def with_methods_own(process: Process) -> Process:
    """The process with the solver and the methods that its methods bring, in empty slots.

    Where several bring one, the start's wins, whose way back may need it, else the first by name.
    """
    composed = (*process.methods, *process.within)
    for method in sorted(composed, key=lambda m: (getattr(m, "slot", "") != "start", name_of(m))):
        own: str | Mapping[str, Any] | None = getattr(method, "solver", None)
        if process.solver is None and own is not None:
            process = replace(process, solver=own)
        for other in getattr(method, "defaults", ()):
            there = (*process.methods, *process.within)
            if getattr(other, "slot", None) not in {getattr(m, "slot", None) for m in there}:
                process = process | other
    return process


def brief(method: Any, always: Sequence[str] = ()) -> str:
    """A method in a few words: its name, and the fields that were given or are asked for."""
    told = []
    for field in fields(method) if is_dataclass(method) else ():
        value = getattr(method, field.name)
        if value is None or (value == field.default and field.name not in always):
            continue
        text = getattr(value, "name", value)  # of a picture, its file's
        if isinstance(value, tuple):
            text = " ".join(map(str, value))
        elif isinstance(value, float):
            text = f"{value:g}"
        told.append(field.name if value is True else f"{field.name} {text!s:.60}")
    return f"{name_of(method)} ({', '.join(told)})" if told else name_of(method)


def changed(method: Any, values: Mapping[str, Any]) -> Any:
    """A method with other values, in its own way where it has one."""
    own = getattr(method, "changed", None)
    return replace(method, **values) if own is None else own(**values)


def name_of(method: Any) -> str:
    """What errors and `without` call a method: its id, or its class's name."""
    return str(
        getattr(method, "id", None) or getattr(method, "name", None) or type(method).__name__
    )
