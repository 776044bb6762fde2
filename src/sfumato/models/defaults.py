"""Defaults: what a model's card and its scheduler's file say, put into what a process left open."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sfumato.core.process import Process
from sfumato.core.solvers import DDPM, solver
from sfumato.core.spacing import MODEL, NAMES, Own
from sfumato.methods import Method, from_data
from sfumato.models.card import Defaults
from sfumato.models.files.schedulers import Scheduler
from sfumato.models.framing import planned_frame
from sfumato.models.shifts import Shifted
from sfumato.models.timesteps import index_code, times

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


def grid_of(model: Model, process: Process) -> Own | None:
    """Times of the spacings "model" and "shifted", as the scheduler's file says; else none."""
    scheduler = model.scheduler
    if isinstance(scheduler, Shifted):
        rule = scheduler.times if process.spacing == MODEL else scheduler.below
        return partial(rule, planned_frame(model, process, process.place)[1])
    if scheduler is None or process.spacing != MODEL:
        return None
    return partial(times, scheduler, model.denoiser.schedule)


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
