"""What a run records of itself: the recipe of what was asked for and of what ran."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

import sfumato
from sfumato.core.context import Run
from sfumato.core.process import Process
from sfumato.core.ranges import SEEDS, whole
from sfumato.core.schedule import ratio
from sfumato.core.solvers import solver, solver_data
from sfumato.methods import to_data
from sfumato.recipe import Recipe
from sfumato.recipe.places import called

if TYPE_CHECKING:
    from sfumato.models.model import Model


def process_recipe(model: Model, process: Process, seed: int = 0) -> Recipe:
    """The recipe of a process that has not run: all that was asked for, defaults filled in."""
    process = process.resolved()
    assert process.solver is not None
    adapters: Any = model.adapters
    return Recipe(
        model=called(model.name),
        adapters=adapters,
        prompt=process.prompt,
        negative=process.negative,
        label=process.label,
        stages=process.stages,
        seed=whole(seed, "seed", SEEDS),
        n=process.n,
        steps=process.n_steps,
        solver=solver_data(solver(process.solver)),
        spacing=process.spacing,
        size=process.size,
        methods=tuple(to_data(method) for method in process.methods),
    )


def run_recipe(model: Model, run: Run, calls: list[int]) -> Recipe:
    """What was asked for and what ran."""
    decoding = getattr(run.space, "decoding", torch.float32)
    tile = getattr(run.space, "tile", None)
    figures: Any = {  # in the order in which a reader gives them back
        "dtype": model.choice.dtype,
        **({} if decoding == torch.float32 else {"decoder": str(decoding).removeprefix("torch.")}),
        **({} if tile is None else {"tile": tile}),
        "device": model.choice.device,
        "batch": run.n,
        "index": 0,
        "calls": calls,
        "evaluations": run.counts,
        "work_size": list(run.frame.work) if run.frame else list(run.shape[:0:-1]),
        "size": list(run.frame.target) if run.frame else None,
        "start": start_level(run),
        "threads": torch.get_num_threads(),
        **run.report,
    }
    if run.answers:
        figures["answers"] = run.answers
    return replace(
        process_recipe(model, run.process, run.seed),
        run=figures,
        versions={
            "sfumato": sfumato.__version__,
            "torch": torch.__version__,
            "weights": f"sha256 {model.weights}",
        },
    )


def start_level(run: Run) -> dict[str, float]:
    """The start level in all three units: t0, ratio = sigma/alpha, alpha_bar = alpha^2."""
    if run.level == 0:
        return {"t0": 0.0, "ratio": 0.0, "alpha_bar": 1.0}
    return {
        "t0": run.level,
        "ratio": ratio(run.schedule, run.level),
        "alpha_bar": run.schedule.alpha(run.level) ** 2,
    }
