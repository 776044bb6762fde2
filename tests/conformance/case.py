"""What a case says outside its tensors: schedules, respacings, and numbers in its prose.

Some of the reference programs' cases tell a number only in a sentence ("U(shape, 5001)", "1000
steps, linear betas 1e-4..0.02"); it is read there, so that no check holds a number of one case.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from sfumato.core.schedule import Table, named
from sfumato.core.spacing import respaced

Case = Mapping[str, Any]
NUMBER = r"-?\d*\.?\d+(?:[eE][-+]?\d+)?"
TOTAL = 1000  # steps of a table whose length no case of its kind tells


def number(text: str, pattern: str) -> float | None:
    """The number at the group of a pattern (its {} stands for any number), None without a match."""
    match = re.search(pattern.replace("{}", f"({NUMBER})"), text)
    return None if match is None else float(match[1])


def length_of(case: Case) -> int | None:
    """What a case calls the length of its table, None where it does not say."""
    lengths = [int(case[name]) for name in LENGTHS if case.get(name) is not None]
    return lengths[0] if lengths else None


LENGTHS = ("total_steps", "diffusion_steps", "T", "num_train_timesteps")


def total_of(case: Case) -> int:
    """Length of a case's table before its respacing."""
    if (told := length_of(case)) is not None:
        return told
    if not respacing_of(case) and "num_timesteps" in case:
        return int(case["num_timesteps"])
    return TOTAL


def respacing_of(case: Case) -> str:
    """A case's respacing as text: the reference takes a list of counts too, and none for all."""
    respacing = case.get("respacing", case.get("timestep_respacing"))
    if respacing is None:
        return ""
    return ",".join(map(str, respacing)) if isinstance(respacing, list) else str(respacing)


def kept_of(case: Case) -> list[int]:
    """Indices that a case's respacing keeps, and what the case tells of them."""
    kept = respaced(respacing_of(case), total_of(case))
    assert len(kept) == case.get("num_timesteps", len(kept)), "steps that a respacing keeps"
    assert kept == case.get("timestep_map", kept), "which steps a respacing keeps"
    return kept


def table_of(case: Case) -> Table:
    """The table of a case: its schedule has a name, or is given by its ends."""
    schedule = case.get("schedule", case.get("noise_schedule"))
    if isinstance(schedule, Mapping):
        return betas_of({"T": total_of(case), **schedule})
    assert schedule, "this case names no schedule"
    return named(schedule, total_of(case))


def betas_of(schedule: Case) -> Table:
    """The table of a schedule that gives its kind, length and maybe ends."""
    kind = schedule.get("kind", "linear").removesuffix(" betas")
    steps = length_of(schedule) or TOTAL
    if schedule.get("beta_start") is None:
        return named(kind, steps)
    ends = schedule["beta_start"], schedule["beta_end"]
    power = {"linear": 1, "scaled_linear": 2, "scaled linear": 2, "quad": 2}.get(kind)
    assert power, f"betas from {ends[0]} to {ends[1]} of kind {kind!r} are not known to this check"
    betas = np.linspace(*(end ** (1 / power) for end in ends), steps) ** power
    return Table.from_betas(betas.tolist())


def in_float32(table: Table) -> Table:
    """The same with its betas rounded to float32, as programs that keep tensors of them have."""
    bars = (1.0, *table.alpha_bar)
    betas = [1 - b / a for a, b in itertools.pairwise(bars)]
    return Table.from_betas(np.asarray(betas).astype(np.float32).astype(float).tolist())


def table_in(text: str) -> Table:
    """The table of a sentence such as "1000 steps, linear betas 1e-4..0.02"."""
    steps = number(text, r"{} steps")
    ends = re.search(rf"(\w+) betas ({NUMBER})\.\.({NUMBER})", text)
    if steps is None or ends is None:
        return named("linear")
    told = {"beta_start": float(ends[2]), "beta_end": float(ends[3])}
    return betas_of({"kind": f"{ends[1]} betas", "T": steps, **told})


def limit_of(tolerance: Any, *names: str) -> float:
    """A case's tolerance for one of its outputs: one number for all, or by the first name known."""
    if not isinstance(tolerance, Mapping):
        return float(tolerance)
    known = [name for name in (*names, "others") if name in tolerance]
    assert known, f"no tolerance for {names[0]} among {', '.join(tolerance)}"
    return float(tolerance[known[0]])


def picked(known: Mapping[str, Any], name: str, what: str) -> Any:
    """What a case's word stands for; a word that is not known fails in one line."""
    assert name in known, f"{what} {name!r} is not known to this check; it knows {', '.join(known)}"
    return known[name]


def within(tolerance: Any, name: str, got: Tensor, want: Tensor) -> None:
    """Asserts the largest difference."""
    assert got.shape == want.shape, f"{name}: shape {tuple(got.shape)}, not {tuple(want.shape)}"
    gap = float((got - want).abs().max())
    assert gap <= tolerance, f"{name}: differs by {gap:.2e}, tolerance {tolerance:.0e}"
