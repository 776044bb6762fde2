"""Checks of the SDEdit fixtures: our process, the reference's options, its recorded noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from conformance.case import betas_of, in_float32, number, picked
from sfumato.core.denoiser import Denoiser
from sfumato.core.noise import Tape
from sfumato.core.process import Process
from sfumato.core.schedule import VE, Table
from sfumato.core.solvers import DDIM, DDPM
from sfumato.methods.sdedit import SDEdit

Case = Mapping[str, Any]
Tensors = Mapping[str, Tensor]


def convolved(x: Tensor, w: Tensors, shift: Tensor) -> Tensor:
    hidden = torch.tanh(
        F.conv2d(x, w["w.conv1_w"], w["w.conv1_b"], padding=1) + shift[:, None, None]
    )
    return F.conv2d(hidden, w["w.conv2_w"], w["w.conv2_b"], padding=1)


def toy_eps(model: Case, w: Tensors, alpha_bar: Any, clock: Any) -> Any:
    """The fixtures' toy eps network; `time` is what our Denoiser passes, t itself here."""

    def network(x: Tensor, time: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        t = float(time[0].double())
        a2 = alpha_bar(t)
        s = math.sqrt(1 - a2)
        exact = s * (x - math.sqrt(a2) * w["w.mu"][:, None, None]) / (a2 * model["v"] + s * s)
        return exact + model["gain"] * convolved(x, w, clock(t) * w["w.tvec"])

    return network


def tape(e: Tensor, z: Tensor, last_first: bool) -> Tape:
    """e[k] starts pass k; z[k][i] is the noise of arriving at time index i (i = 0 is the end)."""
    passes, steps = z.shape[:2]
    noises = {}
    for k in range(passes):
        first = k * (steps + 1)
        noises["start", first] = e[k]
        for visit in range(1, steps + 1):
            noises["step", first + visit] = z[k][steps - visit]
    return Tape(noises)


def passes(process: Process, noise: Tape, steps: int) -> tuple[list[Tensor], dict[int, Tensor]]:
    """The state at the end of each pass, and every state by visit."""
    states = {step.i + 1: step.x for step in process.steps(noise=noise)}
    ends = [states[k] for k in range(steps, len(states), steps + 1)]
    return ends, states


def close(got: Tensor, wanted: Tensor, tolerance: float) -> None:
    assert got.shape == wanted.shape
    assert float((got - wanted).abs().max()) <= tolerance


def check_ddpm_unet(case: Case, t: Tensors) -> None:
    """The authors' network through the renaming, one call and their loop."""
    from sfumato.core.denoiser import Traits
    from sfumato.models.latents import Unconditional
    from sfumato.models.loaders.networks import ddpm_unet

    cfg = case["model"].get("cfg", {})
    assert cfg.get("resamp_with_conv", True), "resamp_with_conv: ours resamples by convolutions"
    first = cfg.get("ch_mult", [1])[0]
    assert first == 1, (
        f"ch_mult begins with {first}: the stem of ours is as wide as its first level"
    )
    weights = {k.removeprefix("model."): v.float() for k, v in t.items() if k.startswith("model.")}
    network = Unconditional(ddpm_unet(weights, case["model"].get("image_size")), Traits())
    with torch.no_grad():
        eps = network(t["fwd.x"], t["fwd.t"].float(), {})
        close(eps, t["fwd.eps"], case["tolerance"]["out_abs"])
        check_vp(case, t, network)


VARIANCES = {"fixedsmall": "small", "fixedlarge": "large"}


def check_vp(case: Case, t: Tensors, network: Any = None) -> None:
    table = in_float32(betas_of(case["schedule"]))
    clock = number(case["model"].get("doc", ""), r"\(t/{}\)") or 1000
    network = network or toy_eps(
        case["model"], t, lambda index: table.alpha_bar[round(index)], lambda index: index / clock
    )
    steps, count = case["t"], case["K"]
    mask = t.get("mask", torch.zeros_like(t["img01"]))  # what is 1 there is kept
    assert (mask != 1).any(), "a mask that keeps everything: ours refuses to run for nothing"
    method = SDEdit(
        (t["img01"] - 0.5) * 2,
        t0=steps / table.steps,
        repeats=count,
        mask=(mask != 1).float(),
        composite="reference",
        noise="start",
        last_noise=True,
    )
    process = Process(
        Denoiser(network, table),
        tuple(t["img01"].shape),
        n=case["batch"],
        n_steps=steps,
        solver=DDPM(picked(VARIANCES, case["var_type"], "var_type")),
    )
    ends, states = passes(process | method, tape(t["e"], t["z"], True), steps)
    for k in range(count):
        close(ends[k], t["out"][k], case["tolerance"]["out_abs"])
        for j, index in enumerate(case.get("trace_steps", ())):
            visit = k * (steps + 1) + steps - 1 - index
            close(states[visit], t["trace"][k][j], case["tolerance"]["trace_abs"])
    if "out_clean" in t:
        clean = torch.where(mask == 1, (t["img01"] - 0.5) * 2, ends[-1])
        close(clean, t["out_clean"], case["tolerance"]["out_abs"])


def editable(t: Tensors) -> Tensor | None:
    """Omega, 1 where the picture may change; the published algorithms know nothing in between."""
    omega = t.get("omega")
    hard = omega is None or bool(((omega == 0) | (omega == 1)).all())
    assert hard, "a soft Omega: composite 'reference' edits whatever is above 0"
    return omega


def check_vp_paper(case: Case, t: Tensors) -> None:
    steps, t0 = case["N"], case["t0"]
    rise = t0 / steps
    betas = [
        (case["beta_min"] + (case["beta_max"] - case["beta_min"]) * n * rise) * rise
        for n in range(1, steps + 1)
    ]
    table = Table(Table.from_betas(betas).alpha_bar, tuple(n * rise for n in range(1, steps + 1)))
    network = toy_eps(case["model"], t, lambda time: table.alpha(time) ** 2, lambda time: time)
    denoiser = Denoiser(network, table, code=lambda time: time, t_min=rise, t_max=t0)
    ends = masked_ends(case, t, denoiser, t["img"], t0, steps, last_noise=True)
    for k in range(case["K"]):
        close(ends[k], t["out"][k], case["tolerance"]["out_abs"])


def masked_ends(
    case: Case,
    t: Tensors,
    denoiser: Denoiser,
    image: Tensor,
    t0: float,
    steps: int,
    last_noise: bool,
) -> list[Tensor]:
    """Where each pass of the published loop with a mask ends."""
    method = SDEdit(
        image,
        t0=t0,
        repeats=case["K"],
        mask=editable(t),
        composite="reference",
        noise="step",
        last_noise=last_noise,
    )
    process = Process(
        denoiser,
        tuple(image.shape),
        n=case["batch"],
        n_steps=steps,
        solver=DDPM("large", last_noise=last_noise),
    )
    ends, _ = passes(process | method, tape(t["e"], t["z"], True), steps)
    return ends


def check_ve(case: Case, t: Tensors) -> None:
    schedule = VE(case["sigma_min"], case["sigma_max"])
    v, gain = case["model"]["v"], case["model"]["gain"]

    def network(x: Tensor, time: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        sigma = schedule.sigma(float(time[0]))
        toy = convolved(x / math.sqrt(1 + sigma**2), t, math.log(sigma) / 4 * t["w.tvec"])
        return sigma * (x - t["w.mu"][:, None, None]) / (v + sigma**2) + gain * toy

    denoiser = Denoiser(network, schedule, code=lambda time: time, t_min=0.0)
    steps = case["N"]
    for last, key in ((True, "out"), (False, "mean_last_step")):
        ends = masked_ends(case, t, denoiser, t["img01"], case["t0"], steps, last_noise=last)
        upto = case["K"] if last else 1  # the published loop goes on from the noisy state
        for k in range(upto):
            close(ends[k], t[key][k], case["tolerance"]["out_abs"])


def gaussian(table: Any, v: float, mu: float = 0.0) -> Denoiser:
    """Exact eps of N(mu, v) data, in the precision of x."""

    def network(x: Tensor, time: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        t = float(time[0].double())
        a, s = table.alpha(t), table.sigma(t)
        return s * (x - a * mu) / (a * a * v + s * s)

    return Denoiser(network, table, code=lambda t: t, t_min=0.0)


def check_closed_forms(case: Case, t: Tensors) -> None:
    """Deterministic laws exactly, by pushing unit vectors of noise through the linear chain."""
    table = betas_of(case["schedule"])
    for row in case.get("gaussian", ()):
        steps, v = row["t"], row["v"]
        for kind in ("small", "large"):
            coef, std = law(table, v, steps, DDPM(kind), steps)
            assert coef == pytest.approx(row[f"chain_fixed{kind}_coef"], abs=1e-7)
            assert std == pytest.approx(row[f"chain_fixed{kind}_std"], rel=2e-5)
            for name in (name for name in row if name.startswith("sde_coef_K")):
                k = int(name.removeprefix("sde_coef_K"))  # passes, each the same linear map
                whole = std * sum(coef ** (2 * j) for j in range(k)) ** 0.5
                assert coef**k == pytest.approx(row[name], abs=1e-7)
                # the continuous law is that of no table, the small variance's least of all
                assert whole == pytest.approx(row[f"sde_std_K{k}"], rel=30 / table.steps)
        coef, std = law(table, v, steps, DDIM(), steps)
        assert coef == pytest.approx(row["ode_coef"], rel=20 / table.steps)
        assert std == pytest.approx(row["ode_std"], rel=20 / table.steps)
    for row in case.get("ddim_eta0", {}).get("rows", ()):
        indices = [round(i) for i in np.linspace(row["t"] - 1, 0, row["steps"])]
        times = (*((i + 1) / table.steps for i in indices), 0.0)
        coef, std = law(table, row["v"], row["t"], DDIM(), None, times)
        assert coef == pytest.approx(row["coef"], abs=2e-6)
        assert std == pytest.approx(row["std"], abs=2e-6)
    for row in case.get("ve", ()):
        schedule = VE(row["sigma_min"], row["sigma_max"])
        assert schedule.sigma(row["t0"]) == pytest.approx(row["sigma"], rel=1e-6)
        coarse, fine = (
            law(schedule, row["v"], None, DDPM("large"), steps, t0=row["t0"])
            for steps in (200, 400)
        )
        assert fine[0] == pytest.approx(row["coef"], abs=1e-6)
        # without the error of first order; the last step leaves sigma_min without noise
        last = 0.5 * row["sigma_min"] ** 2 / row["v"]
        assert 2 * fine[1] - coarse[1] == pytest.approx(row["std"], rel=0.01 + last)

    if "masked_two_pixels" in case:
        check_masked(case["masked_two_pixels"], table)
    if "mixture_1d" in case:
        check_mixture(case["mixture_1d"], table)


COMPOSITES = {
    "fixed noise, kept pixel at index i (reference code)": True,
    "fixed noise, kept pixel at index i-1, clean at the end": False,
}
"""Whether a composite is the one of the reference."""


def check_masked(case: Case, table: Table) -> None:
    """Two correlated pixels, one kept: the law of the free one under both composites."""
    matrix = torch.tensor(case["C"], dtype=torch.float64)

    def network(x: Tensor, time: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        t = float(time[0].double())
        a, s = table.alpha(t), table.sigma(t)
        spread = a * a * matrix + s * s * torch.eye(2, dtype=torch.float64)
        return s * (x.flatten(1) @ spread.inverse()).reshape(x.shape)  # symmetric

    denoiser = Denoiser(network, table, code=lambda t: t)
    for row in case["rows"]:
        reference = picked(COMPOSITES, row["composite"], "composite")
        method = {
            "t0": row["t"] / table.steps,
            "mask": torch.tensor([0.0, 1.0]).reshape(1, 1, 2),
            "composite": "reference" if reference else "level",
            "noise": "start",
            "last_noise": reference,
        }
        solver = DDPM(row["var"].removeprefix("fixed"))
        response = impulses(
            denoiser, (1, 1, 2), torch.tensor(case["guide"]), row["t"], solver, method
        )
        kept, free = response.flatten(1).T
        for name, pixel in (("kept", kept), ("free", free)):
            # at t0 = 1 ours starts from pure noise, the table from the noised guide
            full = row["t"] == table.steps and not reference
            near = 1.2 * table.alpha_bar[-1] if full else 2e-7
            assert float(pixel[0]) == pytest.approx(row[f"{name}_mean"], abs=near)
            std = float(pixel[1:].square().sum().sqrt())
            assert std == pytest.approx(row[f"{name}_std"], abs=5e-5)


def check_mixture(case: Case, table: Table, draws: int = 4096) -> None:
    """Probability of the + mode, SDE by sampling and ODE by its quantile map."""
    m, s0 = case["m"], case["s0"]

    def network(x: Tensor, time: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        t = float(time[0].double())
        a, s = table.alpha(t), table.sigma(t)
        spread = a * a * s0 * s0 + s * s
        plus = torch.sigmoid(2 * a * m * x / spread)
        x0 = x * a * s0 * s0 / spread + (2 * plus - 1) * m * s * s / spread
        return (x - a * x0) / s

    denoiser = Denoiser(network, table, code=lambda t: t)
    for row in case["rows"]:
        guide = torch.full((1, 1, draws), float(row["g"]), dtype=torch.float64)
        for solver, key, steps in (
            (DDPM("small"), "p_plus", row["t"]),
            (DDIM(), "p_plus_ode", row["t"]),
        ):
            process = Process(denoiser, (1, 1, draws), n_steps=steps, solver=solver)
            method = SDEdit(guide, t0=row["t"] / table.steps, composite="reference")
            x = (process | method).sample(seed=1)
            p = row[key]
            share = float((x > 0).double().mean())
            assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / draws) + 2e-3  # + discretisation
            if key == "p_plus":
                assert abs(float(x.mean()) - row["mean"]) < 4 * row["std"] / draws**0.5 + 5e-3
                assert abs(float(x.std()) - row["std"]) < 4 * row["std"] / (2 * draws) ** 0.5 + 1e-2


def impulses(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    guide: Tensor,
    steps: int,
    solver: Any,
    method: Mapping[str, Any],
) -> Tensor:
    """Response of a linear chain: row 0 to the guide, then one row for each draw of each pixel."""
    pixels = guide.numel()
    rows = 1 + pixels * (steps + 1)
    guides = torch.zeros(rows, *shape, dtype=torch.float64)
    guides[0] = guide.reshape(shape)
    noise = {}
    for visit in range(steps + 1):
        unit = torch.zeros(rows, pixels, dtype=torch.float64)
        unit[1 + pixels * visit : 1 + pixels * (visit + 1)] = torch.eye(pixels, dtype=torch.float64)
        noise["start" if visit == 0 else "step", visit] = unit.reshape(rows, *shape)
    noise["prior", 0] = noise["start", 0]
    process = Process(denoiser, shape, n=rows, n_steps=steps, solver=solver)
    *_, last = (process | SDEdit(guides, **method)).steps(noise=Tape(noise))
    return last.x


def law(
    schedule: Any,
    v: float,
    index: int | None,
    solver: Any,
    steps: int | None,
    times: tuple[float, ...] | None = None,
    t0: float | None = None,
) -> tuple[float, float]:
    """(coefficient of the guide, standard deviation) of SDEdit on N(0, v) data, exactly.

    The chain is linear in the guide and in every draw, so a batch of unit impulses gives all
    coefficients in one run: row 0 the guide, row j the j-th draw.
    """
    level = t0 if index is None else index / schedule.steps
    draws = (len(times) - 1 if times else steps) + 1  # type: ignore[operator]
    guide = torch.zeros(draws + 1, 1, 1, 1, dtype=torch.float64)
    guide[0] = 1
    noise = {}
    for visit in range(draws):
        unit = torch.zeros_like(guide)
        unit[visit + 1] = 1
        noise["start" if visit == 0 else "step", visit] = unit
    process = Process(
        gaussian(schedule, v), (1, 1, 1), n=draws + 1, n_steps=steps, spacing=times, solver=solver
    )
    # without a mask "reference" changes but the start at t0 = 1, which is of noise alone in ours
    method = SDEdit(guide, t0=level, composite="reference")
    *_, last = (process | method).steps(noise=Tape(noise))
    response = last.x.flatten()
    return float(response[0]), float(response[1:].square().sum().sqrt())


KINDS = {
    "sdedit-vp": check_vp,
    "sdedit-vp-ddpm-unet": check_ddpm_unet,
    "sdedit-vp-paper": check_vp_paper,
    "sdedit-ve": check_ve,
    "closed-forms-sdedit": check_closed_forms,
}
