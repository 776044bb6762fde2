"""What other programs call solvers and spacings, and what is nearest to those that are not here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sfumato.core.solvers import ALIASES, INSTEAD, SOLVERS
from sfumato.core.spacing import RULES

SPACINGS: Mapping[str, str | None] = {
    "automatic": None,
    "ddim": None,
    "ddimuniform": None,
    "exponential": "logsnr",
    "karras": "karras",
    "linear": None,
    "normal": None,
    "simple": None,
    "sgmuniform": None,
    "uniform": None,
}
"""None: the even times that are taken here by themselves."""

AUTOMATIC: Mapping[str, str] = {"dpmpp2m": "karras", "dpmpp2msde": "exponential"}
"""What A1111 takes for samplers where the schedule is automatic."""

NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")


def is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None


def letters(name: str) -> str:
    """The name's letters and figures in small ones."""
    plain = name.lower().replace("++", "pp").removesuffix("_gpu")
    return re.sub(r"[^a-z0-9]", "", plain)


SAMPLERS: Mapping[str, str] = {
    **{letters(name): name for name in SOLVERS},
    **{letters(name): own for name, own in ALIASES.items()},
    "eulerancestral": "euler-a",
    "pndm": "plms",
}
"""By their letters and figures alone; "++" is pp."""


def meant(sampler: str, schedule: str | None = None) -> tuple[str | None, str | None, list[str]]:
    """Solver, spacing, and lines of what has no equal here."""
    lines: list[str] = []
    behind = re.fullmatch(r"(.+?)[ _](karras|exponential|k)", sampler, re.IGNORECASE)
    if behind and not schedule:  # as older programs write it
        sampler, schedule = behind[1], "karras" if behind[2].lower() == "k" else behind[2]
    solver = SAMPLERS.get(letters(sampler))
    if solver is None:
        word = letters(sampler)
        near = next((near for name, near in INSTEAD.items() if word.startswith(name)), None)
        hint = "" if near is None else f", the nearest is {near}"
        lines.append(f"sampler {sampler:.60} is not here{hint}; the model's own is taken")
    return solver, _spacing(sampler, schedule, lines), lines


def _spacing(sampler: str, schedule: str | None, lines: list[str]) -> str | None:
    if not schedule:
        return None
    word = letters(schedule)
    word = AUTOMATIC.get(letters(sampler), word) if word == "automatic" else word
    if word in SPACINGS:
        return SPACINGS[word]
    if schedule in RULES:
        return schedule
    lines.append(f"schedule {schedule:.60} is not here; the model's own times are taken")
    return None
