"""Checks of GLIDE's schedules and of its guided loop: tables, respacings, a whole trajectory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from conformance.case import TOTAL, limit_of, number, respacing_of, table_of, within
from conformance.networks import network_of
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.noise import Tape
from sfumato.core.process import Process
from sfumato.core.schedule import Table, named
from sfumato.core.solvers import DDIM, variances
from sfumato.core.spacing import respaced
from sfumato.methods.cfg import CFG
from sfumato.methods.threshold import Threshold
from sfumato.nn.blocks import timestep_embedding

Case = Mapping[str, Any]
Tensors = Mapping[str, Tensor]


def check_schedules(case: Case, t: Tensors) -> None:
    told = " ".join(case["call"])
    total = int(number(told, r"space_timesteps\({}") or TOTAL)
    spaced_of = int(number(told, r"over T = {}") or total)
    near = case["tolerance"]["float64 fields"]
    limits = {
        "rel": number(near, r"relative {}") or 1e-9,
        "abs": number(near, r"absolute {}") or 1e-15,
    }
    for text, kept in case.get("respaced", {}).items():
        assert respaced(text, total) == kept, text
    for key, kept in case.get("respaced_other_T", {}).items():
        text, _, steps = key.partition("@")
        assert respaced(text, int(steps)) == kept, key
    rejected = [text for text, _ in case.get("errors", ())]
    for text in (*rejected, *case.get("rejected_by_reference", ())):
        with pytest.raises(SfumatoError):
            respaced(text, total)
    seen = set()
    for key in t:
        _, name, *rest = key.split(".")
        if name == "spaced" and (rest[0], rest[1]) not in seen:
            seen.add((rest[0], rest[1]))
            prefix = f"out.spaced.{rest[0]}.{rest[1]}"
            kept = respaced(rest[1], spaced_of)
            assert t[f"{prefix}.timestep_map"].tolist() == kept
            table_fields(named(rest[0], spaced_of), kept, t, prefix, limits)
        elif len(rest) == 2 and rest[0].startswith("T") and (name, rest[0]) not in seen:
            seen.add((name, rest[0]))
            steps = int(rest[0][1:])
            prefix = f"out.{name}.{rest[0]}"
            table_fields(named(name, steps), list(range(steps)), t, prefix, limits)
    assert seen or not any(".betas" in key for key in t)
    # float32 exp differs by an ulp between processors, which the largest timestep multiplies
    ulps = number(case["tolerance"]["timestep_embedding"], "absolute {}") or 2e-4
    for kind in ("int", "float"):
        for key in (k for k in t if k.startswith(f"out.timestep_embedding.{kind}.dim")):
            embedding = timestep_embedding(t[f"in.timesteps_{kind}"], int(key.rpartition("dim")[2]))
            assert float((embedding - t[key]).abs().max()) <= ulps


def table_fields(
    table: Table, kept: list[int], t: Tensors, prefix: str, limits: Mapping[str, float]
) -> None:
    """The reference's tables out of our schedule and transition formulas."""
    times = [0.0, *((k + 1) / table.steps for k in kept)]
    pairs = list(zip(times[1:], times, strict=False))
    large, small = zip(*(variances(table, a, b) for a, b in pairs), strict=True)
    mean_x0 = [
        table.alpha(b) * v / table.sigma(a) ** 2 for (a, b), v in zip(pairs, large, strict=True)
    ]
    mean_x = [
        table.alpha(a) / table.alpha(b) * table.sigma(b) ** 2 / table.sigma(a) ** 2
        for a, b in pairs
    ]
    clipped = (small[1] if len(small) > 1 else large[0], *small[1:])
    wanted = {
        "alphas_cumprod": [table.alpha(a) ** 2 for a, _ in pairs],
        "alphas_cumprod_next": [*(table.alpha(a) ** 2 for a, _ in pairs[1:]), 0.0],
        "alphas_cumprod_prev": [table.alpha(b) ** 2 for _, b in pairs],
        "betas": list(large),
        "posterior_variance": list(small),
        "posterior_log_variance_clipped": torch.tensor(clipped, dtype=torch.float64).log().tolist(),
        "posterior_mean_coef1": mean_x0,
        "posterior_mean_coef2": mean_x,
    }
    wanted |= {
        "sqrt_alphas_cumprod": [table.alpha(a) for a, _ in pairs],
        "sqrt_one_minus_alphas_cumprod": [table.sigma(a) for a, _ in pairs],
        "log_one_minus_alphas_cumprod": [2 * math.log(table.sigma(a)) for a, _ in pairs],
        "sqrt_recip_alphas_cumprod": [1 / table.alpha(a) for a, _ in pairs],
        "sqrt_recipm1_alphas_cumprod": [table.sigma(a) / table.alpha(a) for a, _ in pairs],
    }
    told = {name.removeprefix(f"{prefix}.") for name in t if name.startswith(f"{prefix}.")}
    assert told <= {*wanted, "timestep_map"}, f"{prefix}: not known to this check: {told}"
    for name, values in wanted.items():
        if name in told:
            assert values == pytest.approx(t[f"{prefix}.{name}"].tolist(), **limits), name


def words(t: Tensors, rows: slice) -> Cond:
    """Rows of a case's tokens, and their mask where it has one."""
    tensors = {name: t.get(f"in.{name}") for name in ("tokens", "mask")}
    return Cond({name: value[rows] for name, value in tensors.items() if value is not None})


def tape(start: Tensor, steps: Tensor | None = None) -> Tape:
    """The reference's draws: x_T, then one for each transition."""
    drawn = {("prior", 0): start}
    if steps is not None:
        drawn |= {("step", k + 1): noise[: len(start)] for k, noise in enumerate(steps)}
    return Tape(drawn)


def check_loop_ddim_cfg(case: Case, t: Tensors) -> None:
    half = len(t["in.tokens"]) // 2
    start = t["in.noise"][:half]
    process = Process(
        Denoiser(
            network_of(case, t), table_of(case), "eps",
            learned_range=case["config"]["out_channels"] == 2 * start.shape[1],
        ),
        tuple(start.shape[1:]),
        cond=words(t, slice(0, half)),
        null=words(t, slice(half, None)),
        n=half,
        spacing=respacing_of(case),
        solver=DDIM(case.get("eta") or 0.0),
    )  # fmt: skip
    process = (
        process
        | CFG(case["guidance_scale"])
        | Threshold("static" if case.get("clip_denoised", True) else "none")
    )
    tolerance = case["tolerance_max_abs"]
    noise = tape(start, t.get("in.step_noise"))
    loop = process.begin(noise=noise)
    run, mixture = loop.run, loop.steering.mixture
    call = run.call(0, run.times[0], run.times[1])
    mixed = mixture.mix(mixture.parts(start, run.times[0], call), run.times[0])
    first = mixed.eps
    if mixed.frac is not None:
        first = torch.cat([mixed.eps, 2 * mixed.frac - 1], dim=1)
    name = "out.guided_first"
    within(limit_of(tolerance, name), name, first, t[name][:half])
    states = [step.x for step in loop.steps() if step.i >= 0]
    for name, got in (("out.trajectory", torch.stack(states)), ("out.sample", states[-1])):
        within(limit_of(tolerance, name), name, got, t[name])


KINDS = {"schedules": check_schedules, "glide-loop-ddim-cfg": check_loop_ddim_cfg}
