"""Times that a scheduler of diffusers visits, by what its file says; nothing of diffusers is run.

Three families differ in where their times stand: those that subtract a stride (DDIM, DDPM, PNDM),
those of k-diffusion, whose `linspace` lies between the table's entries, and the multistep ones of
DPM-Solver's kind, which divide the table by one more than their steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import Schedule, ratio
from sfumato.core.spacing import Times
from sfumato.models.files.edm_schedulers import EdmScheduler
from sfumato.models.files.schedulers import CONSISTENCY, Scheduler

STRIDED = (
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
)
MULTISTEP = (
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "SASolverScheduler",
    "UniPCMultistepScheduler",
)
CLIPPED = (
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "SASolverScheduler",
)
"""Those that leave out the faint end of a table, by lambda_min_clipped."""

ENDED = ("DEISMultistepScheduler", "SASolverScheduler")
"""Those that end at the table's first entry, whatever their file says."""

FINAL = (
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler",
    "UniPCMultistepScheduler",
)
"""Those that read final_sigmas_type."""

EVEN_INDICES = ("DDIM", "DDPM", "PNDM", "EulerAncestral")
"""How the names of those begin that read no use_karras_sigmas and its like."""


def times(
    config: Scheduler | EdmScheduler, schedule: Schedule, n: int, strength: float = 1.0
) -> Times:
    """Falling times of n steps, of which image to image takes the last int(n * strength).

    Table index k is the time (k + 1) / T. Where theirs ends at the table's first entry, so does
    this; a transition of no length, with which some of theirs end, is left out, and so is the index
    -1 that `trailing` has by a rounding error at some n. PNDM's list holds its second time twice,
    and theirs is cut before that is undone: below full strength it begins one step higher.
    """
    if isinstance(config, EdmScheduler):
        low = 1 / schedule.steps  # of a ladder whose levels are the file's own
        ladder = [1 - (1 - low) * k / max(n - 1, 1) for k in range(n)]
        return (*ladder[_checked(n - min(int(n * strength), n), n, strength) :], 0.0)
    if config.kind == CONSISTENCY:
        return _consistency_times(config, schedule, n, strength)
    states = _rule_times(config, schedule, n) or _index_times(config, schedule, n)
    first = n - min(int(n * strength), n)
    if config.kind == "PNDMScheduler" and config.skip_prk_steps and first > 1:
        first -= 1
    first = _checked(first, n, strength)
    last = 1 / schedule.steps if _ends_at_first_entry(config) else 0.0
    falling = [*states[first:], last]
    if len(falling) > 2 and abs(falling[-2] - falling[-1]) < 1e-9:
        falling.pop()
    if falling[0] > 1 + 1e-9 or any(s >= t for t, s in itertools.pairwise(falling)):
        raise SfumatoError(
            f"steps {n}: {config.kind} cannot place as many in a table of {schedule.steps} with "
            f"{_spacing(config)} and steps_offset {config.steps_offset}; give fewer"
        )
    return tuple(falling)


def _checked(first: int, n: int, strength: float) -> int:
    """Steps that are left out of n, if some are kept."""
    if first >= n:
        raise SfumatoError(
            f"t0 {strength:g}: of {n} steps that keeps none with spacing model, where it is the "
            f"share of steps; give at least {math.ceil(1e4 / n) / 1e4:g}, or more steps"
        )
    return first


def _consistency_times(config: Scheduler, schedule: Schedule, n: int, strength: float) -> Times:
    """n of the times that a latent consistency model was distilled at, below the strength."""
    steps, original = schedule.steps, config.original_inference_steps
    kept = int(original * strength)
    if kept < n:
        raise SfumatoError(
            f"steps {n}: this model was distilled at {original} times, of which {kept} lie below "
            f"t0 {strength:g}; give fewer"
        )
    stride = steps // original
    return (*((kept - k * kept // n) * stride / steps for k in range(n)), 0.0)


def index_code(config: Scheduler, steps: int) -> Callable[[float], float] | None:
    """What the network is asked at time t where that is not the time's own index.

    Multistep schedulers keep whole indices beside the levels that a rule gives: the nearest one of
    Karras's and Lu's, the one below of others.
    """
    if config.kind not in MULTISTEP or not _follows_rule(config):
        return None
    lu = config.use_lu_lambdas and not config.use_karras_sigmas
    nearest = config.use_karras_sigmas or lu
    if config.kind == "DPMSolverMultistepScheduler":
        nearest = nearest and config.beta_schedule != "squaredcos_cap_v2"

    def code(t: float) -> float:
        index = t * steps - 1
        return float(round(index) if nearest else math.floor(index + 1e-4))

    return code


def _follows_rule(config: Scheduler) -> bool:
    """Whether the file asks for levels by a rule, of a class that reads it."""
    if config.kind.startswith(EVEN_INDICES):
        return False
    lu = config.use_lu_lambdas and config.kind == "DPMSolverMultistepScheduler"
    return bool(config.use_karras_sigmas or config.use_exponential_sigmas or lu)


def _spacing(config: Scheduler) -> str:
    """timestep_spacing, where it is absent its class's own."""
    if config.kind == "DPMSolverSinglestepScheduler":  # reads none
        return "linspace"
    default = "leading" if config.kind in STRIDED else "linspace"
    return config.timestep_spacing or default


def _ends_at_first_entry(config: Scheduler) -> bool:
    """Whether the last state still has the noise of the table's first entry."""
    if config.kind.startswith("DDIM"):
        return config.set_alpha_to_one is False
    if config.kind == "PNDMScheduler":
        return not config.set_alpha_to_one
    if config.kind in ENDED:
        return True
    return config.kind in FINAL and config.final_sigmas_type == "sigma_min"


def _index_times(config: Scheduler, schedule: Schedule, n: int) -> list[float]:
    """Times of the table's indices that timestep_spacing names, falling."""
    steps, spacing = schedule.steps, _spacing(config)
    end = steps - _clipped_count(config, schedule)
    multistep = config.kind in MULTISTEP
    if spacing == "trailing":
        entries = np.round(np.arange(end, 0, -steps / n)) - 1
        entries = entries[entries >= 0]
    elif spacing == "leading":
        stride = end // (n + 1) if multistep else steps // n
        entries = (np.arange(n + multistep) * stride)[::-1] + config.steps_offset
    else:
        entries = np.linspace(0, end - 1, n + multistep)[::-1]
        if config.kind in STRIDED or multistep:
            entries = entries.round()
    return [(float(k) + 1) / steps for k in entries[:n]]


def _clipped_count(config: Scheduler, schedule: Schedule) -> int:
    """Entries at the faint end whose log(alpha/sigma) is below lambda_min_clipped."""
    if config.kind not in CLIPPED or config.lambda_min_clipped is None:
        return 0
    entries = range(1, schedule.steps + 1)
    least = config.lambda_min_clipped
    return sum(-math.log(ratio(schedule, k / schedule.steps)) < least for k in entries)


def _rule_times(config: Scheduler, schedule: Schedule, n: int) -> list[float]:
    """Times of the levels sigma/alpha where the file asks for some by a rule, else none."""
    if config.kind.startswith(EVEN_INDICES):
        return []
    if config.interpolation_type == "log_linear" or config.use_beta_sigmas:
        name = "use_beta_sigmas" if config.use_beta_sigmas else "interpolation_type log_linear"
        raise SfumatoError(
            f"spacing model: {name} of the scheduler's file is not followed; take spacing karras "
            "or logsnr, or give times"
        )
    if not _follows_rule(config):
        return []
    steps = schedule.steps
    high, low = ratio(schedule, 1.0), ratio(schedule, 1 / steps)
    if config.kind not in MULTISTEP:  # theirs goes by the ends of what it placed before
        placed = _index_times(config, schedule, n)
        high, low = (ratio(schedule, placed[k]) for k in (0, -1))
    if config.kind == "EulerDiscreteScheduler":
        high, low = config.sigma_max or high, config.sigma_min or low
    if high > ratio(schedule, 1.0) * (1 + 1e-6):
        raise SfumatoError(
            f"spacing model: sigma_max {high:g} of the scheduler's file lies beyond its table, "
            f"which ends at {ratio(schedule, 1.0):g}; give times"
        )
    ramp: Any = np.linspace(0, 1, n)
    if config.use_karras_sigmas:
        levels = (high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    else:
        levels = np.exp(math.log(high) + ramp * (math.log(low) - math.log(high)))
    return [schedule.at(float(level)) for level in levels]
