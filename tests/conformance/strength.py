"""Which steps image to image runs in diffusers at a strength, and at which level it begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from torch import Tensor

from conformance.case import number, picked
from sfumato import documents
from sfumato.compat.pndm import listed
from sfumato.core.errors import SfumatoError
from sfumato.core.plan import calls_along
from sfumato.core.schedule import ratio
from sfumato.core.solvers import solver
from sfumato.models.files.schedulers import Scheduler
from sfumato.models.loaders.noise_tables import noise_table
from sfumato.models.timesteps import index_code, times

Case = Mapping[str, Any]
SOLVERS = {
    "DDIMScheduler": "ddim", "DPMSolverMultistepScheduler": "dpmpp-2m",
    "EulerDiscreteScheduler": "euler", "HeunDiscreteScheduler": "heun", "PNDMScheduler": "plms",
}  # fmt: skip


def check_strength(case: Case, t: Mapping[str, Tensor]) -> None:
    near = number(case["tolerance"], r"levels {} relative")
    assert near is not None, f"tolerance {case['tolerance']!r}: no relative one of levels"
    rows = [dict(zip(case["columns"], row, strict=True)) for row in case["rows"]]
    assert rows
    for row in rows:
        scheduler = picked(case["schedulers"], row["scheduler"], "scheduler")
        data = {**case["base"], **scheduler, "_class_name": scheduler["cls"]}
        data.pop("cls")
        agree(row, documents.parse_data(Scheduler, data, row["scheduler"]), near)


def agree(row: Mapping[str, Any], config: Scheduler, near: float) -> None:
    """Start level, first and last index that the network is asked, and network calls."""
    n, strength = row["num_inference_steps"], row["strength"]
    where = f"{row['scheduler']}, {n} steps, strength {strength:g}"
    schedule = noise_table(config)
    if row["model_calls"] == 0:
        with pytest.raises(SfumatoError, match="keeps none"):
            times(config, schedule, n, strength)
        return
    path = times(config, schedule, n, strength)
    chosen = solver(picked(SOLVERS, config.kind, "scheduler class"))
    level = row["noise"] / row["signal"]
    assert ratio(schedule, path[0]) == pytest.approx(level, rel=near), where
    assert min(int(n * strength), n) == row["reported_steps"], where
    if config.kind == "PNDMScheduler" and strength < 1:
        # theirs evaluates one step late there (docs/models.md), which compat imitates
        *entries, _ = listed(config, schedule, n, strength)
        assert len(entries) == row["model_calls"], where
        assert ratio(schedule, entries[0]) == pytest.approx(level, rel=near), where
        ends = [entries[0] * schedule.steps - 1, entries[-1] * schedule.steps - 1]
        assert ends[0] == pytest.approx(row["first_timestep"], abs=1e-3), where
        assert ends[1] == pytest.approx(row["last_timestep"], abs=1e-3), where
        return
    read = index_code(config, schedule.steps) or (lambda at: at * schedule.steps - 1)
    asked = [read(at) for at in path[: row["reported_steps"]]]
    assert asked[0] == pytest.approx(row["first_timestep"], rel=near, abs=1e-3), where
    assert asked[-1] == pytest.approx(row["last_timestep"], rel=near, abs=1e-3), where
    assert calls_along(chosen, path, schedule) == row["model_calls"], where


KINDS: dict[str, Callable[[Case, Mapping[str, Tensor]], None]] = {"strength-table": check_strength}
