"""Noise tables: of a scheduler's file, and those that single files hold beside their weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import Table, linear, scaled_linear, squared_cosine
from sfumato.models.files.schedulers import Scheduler

log = logging.getLogger("sfumato")

BETAS, BARS = "betas", "alphas_cumprod"
LEAST, MOST = 2, 100_000
CLOSE = 1e-3
"""Relative, of tables that are one: they were summed up in float32 or float64."""
TINIEST = 1e-6
MIN_ALPHA_BAR = 2.0**-24  # alpha_bar of a table that ends in pure noise, where a division needs one


def noise_table(config: Scheduler) -> Table:
    """The noise table that a scheduler's configuration describes."""
    steps, low, high = config.num_train_timesteps, config.beta_start, config.beta_end
    if config.trained_betas is not None:
        table = Table.from_betas(config.trained_betas)
    elif config.beta_schedule == "linear":
        table = linear(steps, low, high)
    elif config.beta_schedule == "scaled_linear":
        table = scaled_linear(steps, low, high)
    else:
        table = squared_cosine(steps)
    return _zero_terminal_snr(table) if config.rescale_betas_zero_snr else table


def _zero_terminal_snr(table: Table) -> Table:
    """The table moved and scaled so that it ends in pure noise (arXiv 2305.08891, algorithm 1)."""
    roots = [math.sqrt(a) for a in table.alpha_bar]
    first, last = roots[0], roots[-1]
    moved = [((root - last) * first / (first - last)) ** 2 for root in roots]
    return Table((*moved[:-1], min(MIN_ALPHA_BAR, moved[-2] / 2)))


def own_table(path: Path, weights: Mapping[str, Tensor], scheduler: Scheduler) -> Table | None:
    """The noise table that the file holds, where it is not its family's.

    Betas, since they keep their digits in half precision; else alphas_cumprod.
    """
    tensors = {name: weights[name] for name in (BETAS, BARS) if name in weights}
    if not tensors:
        return None
    tables = {name: _alpha_bar(path, name, value) for name, value in tensors.items()}
    widest = max(torch.finfo(value.dtype).eps for value in tensors.values())
    tolerance = max(CLOSE, 4 * widest)
    rounding = 0 if BARS not in tensors else 2 * torch.finfo(tensors[BARS].dtype).eps
    if len(tables) == 2 and not _agree(tables[BETAS], tables[BARS], tolerance, rounding):
        raise SfumatoError(
            f"{path.name}: {BETAS} and {BARS} are of two noise tables; it is damaged"
        )
    alpha_bar = next(iter(tables.values()))
    plain = scheduler.model_copy(update={"rescale_betas_zero_snr": False})
    rounding = 0 if BETAS in tensors else rounding
    family = [noise_table(config).alpha_bar for config in (scheduler, plain)]
    if any(_agree(alpha_bar, table, tolerance, rounding) for table in family):
        return None
    if rounding > CLOSE:
        raise SfumatoError(f"{path.name}: {BARS} has not the digits of a noise table of its own")
    try:
        own = Table(alpha_bar)
    except SfumatoError:
        raise SfumatoError(
            f"{path.name}: {next(iter(tensors))} is no noise table, which falls from below 1 and "
            "stays above 0"
        ) from None
    log.info("%s: has a noise table of its own, %s", path.name, own)
    return own


def _alpha_bar(path: Path, name: str, value: Tensor) -> tuple[float, ...]:
    """alpha_bar of a tensor of betas, or of alphas_cumprod."""
    if value.ndim != 1 or not value.is_floating_point() or not LEAST <= len(value) <= MOST:
        raise SfumatoError(
            f"{path.name}: {name} is {value.dtype} {tuple(value.shape)}; a noise table is "
            f"{LEAST} to {MOST:,} floats"
        )
    bars = (1 - value.double()).cumprod(0) if name == BETAS else value.double()
    return (*map(float, bars[:-1]), max(float(bars[-1]), MIN_ALPHA_BAR))


def _agree(
    first: Sequence[float], second: Sequence[float], tolerance: float, rounding: float
) -> bool:
    """Whether two tables of alpha_bar agree, in alpha_bar and in 1 - alpha_bar; rounding: what the
    format of the numbers does to alpha_bar."""
    return len(first) == len(second) and all(
        abs(a - b) <= tolerance * min(b, 1 - b) + rounding * b + TINIEST
        for a, b in zip(first, second, strict=True)
    )
