"""Defaults: what a model's card and its scheduler's file say, put into what a process left open."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sfumato.core.process import Process
from sfumato.core.solvers import DDPM, solver
from sfumato.core.spacing import MODEL, NAMES
from sfumato.methods import Method, from_data
from sfumato.models.card import Defaults
from sfumato.models.files.schedulers import Scheduler
from sfumato.models.timesteps import index_code

if TYPE_CHECKING:
    from sfumato.models.model import Model


def fill(process: Process, defaults: Defaults) -> Process:
    """The card's steps, solver, spacing and methods, where the process left them open."""
    steps, spacing = process.n_steps, process.spacing
    fixed = spacing is not None and (not isinstance(spacing, str) or spacing not in NAMES)
    process = replace(
        process,
        n_steps=steps if steps is not None or fixed else defaults.steps,
        spacing=spacing if spacing is not None else defaults.spacing,
        solver=process.solver if process.solver is not None else defaults.solver,
    )
    slots = {getattr(m, "slot", None) for m in (*process.methods, *process.within)}
    for data in defaults.methods:
        method: Method = from_data(data)
        if method.slot not in slots:
            process = process | method
    return process


def fill_from_scheduler(model: Model, filled: Process) -> Process:
    """How the scheduler's file says to sample: indices of the spacing "model", ddpm's variance."""
    scheduler = model.scheduler
    if not isinstance(scheduler, Scheduler):
        return filled
    if filled.spacing == MODEL:
        code = index_code(scheduler, model.denoiser.schedule.steps)
        if code is not None:
            filled = replace(filled, denoiser=replace(filled.denoiser, code=code))
    resolved = None if filled.solver is None else solver(filled.solver)
    variance = scheduler.variance
    if (
        isinstance(resolved, DDPM)
        and resolved.variance == "auto"
        and variance is not None
        and not model.denoiser.learned_range
    ):
        return replace(filled, solver=replace(resolved, variance=variance))
    return filled
