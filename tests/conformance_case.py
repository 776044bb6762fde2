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
    found = re.search(pattern.replace("{}", f"({NUMBER})"), text)
    return None if found is None else float(found[1])


def total_of(case: Case) -> int:
    """Length of a case's table before its respacing."""
    for name in ("total_steps", "diffusion_steps", "T"):
        if name in case:
            return int(case[name])
    if not case.get("respacing") and "num_timesteps" in case:
        return int(case["num_timesteps"])
    return TOTAL


def kept_of(case: Case) -> list[int]:
    """Indices that a case's respacing keeps, and the count that the case tells of them."""
    kept = respaced(case["respacing"], total_of(case))
    assert len(kept) == case.get("num_timesteps", len(kept)), "steps that a respacing keeps"
    return kept


def table_of(case: Case) -> Table:
    """The table of a case whose schedule has a name."""
    return named(case["schedule"], total_of(case))


def betas_of(given: Case) -> Table:
    """The table of a schedule that gives its kind, length and maybe ends."""
    kind, steps = given.get("kind", "linear betas"), int(given["T"])
    if "beta_start" not in given:
        return named(kind.removesuffix(" betas"), steps)
    ends = given["beta_start"], given["beta_end"]
    power = 2 if kind.startswith(("scaled", "quad")) else 1
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


def limit_of(tolerance: Any, name: str, otherwise: str = "others") -> float:
    """A case's tolerance for one of its outputs: one number for all, or by name."""
    if not isinstance(tolerance, Mapping):
        return float(tolerance)
    return float(tolerance[name] if name in tolerance else tolerance[otherwise])


def within(tolerance: Any, name: str, got: Tensor, want: Tensor) -> None:
    """Asserts the largest difference."""
    assert got.shape == want.shape, f"{name}: shape {tuple(got.shape)}, not {tuple(want.shape)}"
    gap = float((got - want).abs().max())
    assert gap <= tolerance, f"{name}: differs by {gap:.2e}, tolerance {tolerance:.0e}"
