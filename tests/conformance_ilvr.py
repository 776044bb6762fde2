"""The low-pass of ILVR and its loops against the reference program, and the exact law."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from conformance_networks import part
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.noise import Tape
from sfumato.core.process import Process
from sfumato.core.run import Loop
from sfumato.core.schedule import linear
from sfumato.core.solvers import DDPM
from sfumato.core.spacing import respaced
from sfumato.methods.ilvr import ILVR
from sfumato.methods.threshold import Threshold
from sfumato.models.openai import load_unet
from sfumato.nn.resize import LowPass, matrix
from sfumato.nn.unet import UNetConfig

Case = Mapping[str, Any]
Tensors = Mapping[str, Tensor]


def check_resizer(case: Case, t: Tensors) -> None:
    for sub in case["cases"]:
        k, x = sub["index"], t[f"{sub['index']}.x"]
        phi = LowPass(sub["N"], case["kernel"])
        for name, got in (("down", phi.down(x)), ("phi", phi(x))):
            gap = float((got - t[f"{k}.{name}"]).abs().max())
            assert gap <= case["tolerance"]["abs"], f"{k}.{name}: differs by {gap:.1e}"


def check_matrices(case: Case, t: Tensors) -> None:
    for name, want in t.items():
        sizes, _, which = name.partition(".")
        n, factor = (int(part) for part in sizes.split("_"))
        made = matrix(n, n // factor) if which == "D" else matrix(n // factor, n)
        assert float((made - want).abs().max()) <= case["tolerance"]["abs"], name


def toy(case: Case, t: Tensors, schedule: Any) -> Callable[[Tensor, Tensor, Cond], Tensor]:
    """The fixtures' network: an exact Gaussian score plus a small convolution."""
    model = case["model"]

    def network(x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        index = float(time[0])
        level = (round(index) + 1) / schedule.steps
        a, s = schedule.alpha(level), schedule.sigma(level)
        mu = t["w.mu"].view(1, -1, 1, 1)
        exact = s * (x - a * mu) / (a**2 * model["v"] + s**2)
        bias = t["w.conv1_b"] + index / 1000 * t["w.tvec"]
        hidden = torch.tanh(F.conv2d(x, t["w.conv1_w"], bias, padding=1))
        eps = exact + model["gain"] * F.conv2d(hidden, t["w.conv2_w"], t["w.conv2_b"], padding=1)
        if not model["learn_sigma"]:
            return eps
        frac = torch.tanh(F.conv2d(hidden, t["w.conv3_w"], t["w.conv3_b"], padding=1))
        return torch.cat([eps, frac], dim=1)

    return network


VARIANCES = {"fixed_large": "large", "fixed_small": "small", "learned_range": "learned"}


def process_of(case: Case, t: Tensors, network: Any, level: str) -> tuple[Process, list[int]]:
    """The case's loop with ILVR at the given level."""
    schedule = linear(case["schedule"]["T"])
    spacing = case["schedule"]["timestep_respacing"]
    kept = respaced(spacing, schedule.steps)
    assert kept == case["schedule"]["timestep_map"]
    stop = 0.0 if case["range_t"] < 0 else (kept[case["range_t"]] + 1) / schedule.steps
    variance: Any = VARIANCES[case["variance"]]
    process = Process(
        Denoiser(network, schedule, learned_range=variance == "learned"),
        tuple(t["x_T"].shape[1:]),
        n=len(t["x_T"]),
        spacing=spacing,
        solver=DDPM(variance=variance),
    )
    process = process | Threshold("static" if case["clip_denoised"] else "none")
    level_name: Any = level
    return process | ILVR(t["ref"], factor=case["down_N"], stop=stop, level=level_name), kept


def tape(case: Case, t: Tensors, steps: int) -> Tape:
    """z[i] and n[j] are by respaced index; ours are by the visit that is arrived at."""
    drawn = {("prior", 0): t["x_T"]}
    for i in range(steps):
        drawn["step", steps - i] = t["z"][i]
        if i > case["range_t"] and i - case["range_t"] - 1 < len(t.get("n", ())):
            drawn["ilvr", steps - i] = t["n"][i - case["range_t"] - 1]
    return Tape(drawn)


def check_loop(case: Case, t: Tensors) -> None:
    network = loop_network(case, t)
    for level, name in (("reference", "out"), ("matched", "out_level_matched")):
        process, kept = process_of(case, t, network, level)
        run = process.begin(noise=tape(case, t, len(kept)))
        states = [step.x for step in Loop(run).steps(None) if step.i >= 0]
        limits = case["tolerance"]
        if name in t:
            gap = float((states[-1] - t[name]).abs().max())
            assert gap <= limits["out_abs"], f"{name}: differs by {gap:.1e}"
        if level == "reference":
            for j, i in enumerate(case["trace_steps"]):
                gap = float((states[len(kept) - 1 - i] - t["trace"][j]).abs().max())
                assert gap <= limits["trace_abs"], f"after step {i}: differs by {gap:.1e}"


def loop_network(case: Case, t: Tensors) -> Any:
    """The toy, or the tiny ADM network of the fixture."""
    if case["kind"] == "ilvr-loop":
        return toy(case, t, linear(case["schedule"]["T"]))
    given = case["model"]["cfg"]
    config = UNetConfig(
        model_channels=given["num_channels"],
        out_channels=6 if given["learn_sigma"] else 3,
        num_res_blocks=given["num_res_blocks"],
        channel_mult=tuple(int(part) for part in given["channel_mult"].split(",")),
        attention_resolutions=tuple(
            given["image_size"] // int(side) for side in given["attention_resolutions"].split(",")
        ),
        num_head_channels=given["num_head_channels"],
        use_scale_shift_norm=given["use_scale_shift_norm"],
        resblock_updown=given["resblock_updown"],
    )
    weights = {name: value.float() for name, value in part(t, "model.").items()}
    return load_unet(weights, config)[0]


def check_closed_forms(case: Case, t: Tensors) -> None:
    """Two pixels: means and deviations of their sum and difference."""
    c = torch.tensor(case["C"], dtype=torch.float64)
    y = torch.tensor(case["y"]).view(1, 1, 2)
    up, down = torch.tensor([1.0, 1.0]).double(), torch.tensor([1.0, -1.0]).double()
    rows = [row for row in case["rows"] if row["range_t"] in (-1, 0, 100, 300)]
    assert len(rows) > 4
    for row in rows:
        level = "reference" if "reference code" in row["reference_level"] else "matched"
        stop = 0.0 if row["range_t"] < 0 else (row["range_t"] + 1) / 1000
        process = Process(
            Denoiser(Exact(c, torch.zeros(2), linear()), linear()), (1, 1, 2), n=3, n_steps=1000,
            solver=DDPM(variance="large"),
        )  # fmt: skip
        method = ILVR(y, factor=2, kernel="box", stop=stop, level=level)  # type: ignore[arg-type]
        mean, cov = law(process | method, method, level)
        found = {
            "sum_mean": float(up @ mean),
            "sum_std": float(up @ cov @ up) ** 0.5,
            "diff_mean": float(down @ mean),
            "diff_std": float(down @ cov @ down) ** 0.5,
        }
        for name, value in found.items():
            assert value == pytest.approx(row[name], rel=1e-4, abs=2e-5), (row, name)


def check_closed_forms_cubic(case: Case, t: Tensors) -> None:
    """Maps of mean and deviation on 8x8 with the cubic, and the noiseless run."""
    schedule, y = linear(), t["y"]
    d = y[0].numel()
    kept = respaced(case["timestep_respacing"], 1000)
    exact = Exact(case["v"] * torch.eye(d).double(), torch.full((d,), case["mu"]), schedule)
    for name in ("code", "level_matched", "level_matched_to_end"):
        level: Any = "reference" if name == "code" else "matched"
        stop = 0.0 if name.endswith("end") else (kept[case["range_t"]] + 1) / 1000
        process = Process(
            Denoiser(exact, schedule), tuple(y.shape[1:]), n=d + 1,
            spacing=case["timestep_respacing"], solver=DDPM(variance="large"),
        )  # fmt: skip
        method = ILVR(y[0], factor=case["down_N"], stop=stop, level=level)
        process = process | method
        limit = case["tolerance"]["abs"]
        still = process.sample(noise=Silence())[:1]
        assert float((still - t[f"mean_{name}"]).abs().max()) <= limit, f"{name}: noiseless run"
        mean, cov = law(process, method, level)
        wanted = t[f"mean_{name}"].flatten().double(), t[f"std_{name}"].flatten().double()
        assert float((mean - wanted[0]).abs().max()) <= limit, f"{name}: mean"
        deviation = cov.diagonal().clamp_min(0).sqrt()
        assert float((deviation - wanted[1]).abs().max()) <= limit, f"{name}: deviation"


class Exact:
    """eps of Gaussian data N(mu, C), states flattened, worked out in double precision."""

    def __init__(self, covariance: Tensor, mean: Tensor, schedule: Any) -> None:
        self.c, self.mean, self.schedule = covariance, mean.double(), schedule

    def __call__(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        level = (round(float(time[0])) + 1) / self.schedule.steps
        a, s = self.schedule.alpha(level), self.schedule.sigma(level)
        flat = x.flatten(1).double()
        v = a**2 * self.c + s**2 * torch.eye(len(self.c), dtype=flat.dtype)
        eps = s * torch.linalg.solve(v, (flat - a * self.mean).T).T
        return eps.view_as(x).to(x.dtype)


def law(process: Process, method: ILVR, level: str) -> tuple[Tensor, Tensor]:
    """Exact mean (d,) and covariance (d, d) of a linear run with ILVR.

    Each step of ours is affine in the state: its matrix is read off the images of 0 and of the unit
    states, without noise; the variances of the two noises are put in by their formulas.
    """
    run = process.begin(noise=Silence())
    schedule, loop, d = run.schedule, Loop(run), run.n - 1
    eye = torch.eye(d, dtype=torch.float64)
    probes = torch.cat([torch.zeros(1, d, dtype=torch.float64), eye]).view(run.n, *process.shape)
    low = LowPass(method.factor, method.kernel)
    phi = low(eye.view(d, *process.shape)).view(d, d).T
    mean, cov = torch.zeros(d, dtype=torch.float64), eye.clone()
    for i in range(len(run.times) - 1):
        t, s = run.times[i], run.times[i + 1]
        call = run.begin(i, t, s, 0)
        moved, _ = run.solver.step(probes, t, s, loop.denoiser(call), call, None)
        held = loop.arrive(moved, call).view(run.n, d)
        rows = moved.view(run.n, d)
        step, offset = (rows[1:] - rows[0]).T, held[0]
        mean = (held[1:] - held[0]).T @ mean + offset
        cov = step @ cov @ step.T + schedule_noise(schedule, t, s) * eye
        if method.stop < t:
            cov = (eye - phi) @ cov @ (eye - phi).T
            cov = cov + schedule.sigma(t if level == "reference" else s) ** 2 * phi @ phi.T
    return mean, cov


def schedule_noise(schedule: Any, t: float, s: float) -> float:
    """Fixed-large variance of a step, 0 at the last."""
    if s == 0:
        return 0.0
    return float(
        schedule.sigma(t) ** 2 - (schedule.alpha(t) / schedule.alpha(s) * schedule.sigma(s)) ** 2
    )


class Silence:
    """A noise source of zeros, in double precision."""

    def draw(self, purpose: str, visit: int, evaluation: int, like: Tensor) -> Tensor:
        return torch.zeros_like(like)


KINDS: dict[str, Callable[[Case, Tensors], None]] = {
    "resizer": check_resizer,
    "resizer-matrices": check_matrices,
    "ilvr-loop": check_loop,
    "ilvr-loop-unet": check_loop,
    "closed-forms-ilvr": check_closed_forms,
    "closed-forms-ilvr-cubic": check_closed_forms_cubic,
}
