"""The low-pass of ILVR and its loops against the reference program, and the exact law."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from conformance.case import (
    betas_of,
    kept_of,
    number,
    picked,
    respacing_of,
    table_in,
    within,
)
from conformance.networks import weights
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.noise import Tape
from sfumato.core.process import Process
from sfumato.core.schedule import linear
from sfumato.core.solvers import DDPM, variances
from sfumato.core.spacing import respaced
from sfumato.methods.ilvr import ILVR
from sfumato.methods.threshold import Threshold
from sfumato.models.loaders.openai import load_unet
from sfumato.nn.resize import KERNELS, LowPass, matrix
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
    known = [name for name in (*KERNELS, "box") if name in case["what"]]
    kernel = case.get("kernel", known[0] if known else "cubic")
    for name, want in t.items():
        sizes, _, which = name.partition(".")
        n, factor = (int(part) for part in sizes.split("_"))
        got = matrix(*((n, n // factor) if which == "D" else (n // factor, n)), kernel=kernel)
        assert float((got - want).abs().max()) <= case["tolerance"]["abs"], name


def toy(case: Case, t: Tensors, schedule: Any) -> Callable[[Tensor, Tensor, Cond], Tensor]:
    """The fixtures' network: an exact Gaussian score plus a small convolution."""
    model = case["model"]
    clock = number(model["doc"], r"\(t/{}\)") or 1000

    def network(x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        index = float(time[0])
        level = (round(index) + 1) / schedule.steps
        a, s = schedule.alpha(level), schedule.sigma(level)
        mu = t["w.mu"].view(1, -1, 1, 1)
        exact = s * (x - a * mu) / (a**2 * model["v"] + s**2)
        bias = t["w.conv1_b"] + index / clock * t["w.tvec"]
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
    schedule = betas_of(case["schedule"])
    kept = kept_of(case["schedule"])
    variance = picked(VARIANCES, case["variance"], "variance")
    process = Process(
        Denoiser(network, schedule, learned_range=variance == "learned"),
        tuple(t["x_T"].shape[1:]),
        cond=Cond({"label": t["y"]} if "y" in t else {}),
        n=len(t["x_T"]),
        spacing=respacing_of(case["schedule"]),
        solver=DDPM(variance=variance),
    )
    process = process | Threshold("static" if case.get("clip_denoised", True) else "none")
    stop = stop_of(case["range_t"], kept, schedule)
    if stop >= 1:  # it never acts there; ours refuses to be composed for nothing
        return process, kept
    level_name: Any = level
    return process | ILVR(t["ref"], factor=case["down_N"], stop=stop, level=level_name), kept


def stop_of(range_t: int, kept: list[int], schedule: Any) -> float:
    """The time that a range_t, an index of the respaced process, stands for."""
    if range_t < 0:
        return 0.0
    return 1.0 if range_t >= len(kept) - 1 else (kept[range_t] + 1) / schedule.steps


def tape(case: Case, t: Tensors, steps: int) -> Tape:
    """z[i] and n[j] are by respaced index; ours are by the visit that is arrived at."""
    drawn = {("prior", 0): t["x_T"]}
    for i in range(steps):
        drawn["step", steps - i] = t["z"][i]
        if i > case["range_t"]:
            drawn["ilvr", steps - i] = t["n"][i - case["range_t"] - 1]
    return Tape(drawn)


def check_loop(case: Case, t: Tensors) -> None:
    network = loop_network(case, t)
    assert "out" in t, "this case has no result"
    for level, name in (("reference", "out"), ("matched", "out_level_matched")):
        process, kept = process_of(case, t, network, level)
        loop = process.begin(noise=tape(case, t, len(kept)))
        states = [step.x for step in loop.steps() if step.i >= 0]
        limits = case["tolerance"]
        if name in t:
            within(limits["out_abs"], name, states[-1], t[name])
        if level == "reference":
            for j, i in enumerate(case.get("trace_steps", ())):
                state = states[len(kept) - 1 - i]
                within(limits["trace_abs"], f"after step {i}", state, t["trace"][j])


def loop_network(case: Case, t: Tensors) -> Any:
    """The toy, or the tiny ADM network of the fixture."""
    if case["kind"] == "ilvr-loop":
        return toy(case, t, betas_of(case["schedule"]))
    cfg, channels = case["model"]["cfg"], t["x_T"].shape[1]
    state = weights(t, "model.")
    mult = cfg.get("channel_mult") or picked(MULTIPLIERS, cfg["image_size"], "image_size")
    same = ("num_res_blocks", "num_heads", "num_head_channels", "num_heads_upsample",
            "use_scale_shift_norm", "resblock_updown", "use_new_attention_order")  # fmt: skip
    assert ("label_emb.weight" in state) == ("y" in t), "labels, and none that are given"
    config = UNetConfig(
        model_channels=cfg["num_channels"],
        in_channels=channels,
        out_channels=channels * (2 if cfg.get("learn_sigma") else 1),
        channel_mult=tuple(numbers(mult)),
        attention_resolutions=tuple(
            cfg["image_size"] // int(side) for side in numbers(cfg["attention_resolutions"])
        ),
        num_classes=len(state["label_emb.weight"]) if "y" in t else None,
        **{name: cfg[name] for name in same if name in cfg},
    )
    net = load_unet(state, config)[0]
    if "fwd.out" in t:
        labels = {"label": t["fwd.y"]} if "fwd.y" in t else {}
        out = net(t["fwd.x"], t["fwd.t"].float(), labels)
        within(case["tolerance"]["out_abs"], "forward", out, t["fwd.out"])
    return net


def numbers(value: Any) -> list[float]:
    """A list, or what the reference's command line takes: "1,2"."""
    return [float(part) for part in value.split(",") if part] if isinstance(value, str) else value


MULTIPLIERS = {512: "0.5,1,1,2,2,4,4", 256: "1,1,2,2,4,4", 128: "1,1,2,3,4", 64: "1,2,3,4"}
"""What the reference's "" stands for, by image size."""


def check_closed_forms(case: Case, t: Tensors) -> None:
    """Two pixels: means and deviations of their sum and difference."""
    c = torch.tensor(case["C"], dtype=torch.float64)
    y = torch.tensor(case["y"]).view(1, 1, -1)
    schedule = betas_of(case["schedule"]) if "schedule" in case else table_in(case["what"])
    told = case.get("variance") or (
        "fixed_small" if "fixed-small" in case["what"] else "fixed_large"
    )
    variance = picked(VARIANCES, told, "variance")
    pixels = len(c)
    up, down = torch.ones(pixels).double(), (-1.0) ** torch.arange(pixels).double()
    assert case["rows"]
    for row in case["rows"]:
        level = "reference" if "reference code" in row["reference_level"] else "matched"
        kept = list(range(schedule.steps))
        process = Process(
            Denoiser(Exact(c, torch.zeros(pixels), schedule), schedule), (1, 1, pixels),
            n=pixels + 1, n_steps=schedule.steps, solver=DDPM(variance=variance),
        )  # fmt: skip
        stop = stop_of(row["range_t"], kept, schedule)
        method = held(y, factor=pixels, kernel="box", stop=stop, level=level)
        mean, cov = law(process, method, level)
        moments = {
            "sum_mean": float(up @ mean),
            "sum_std": float(up @ cov @ up) ** 0.5,
            "diff_mean": float(down @ mean),
            "diff_std": float(down @ cov @ down) ** 0.5,
        }
        for name, value in moments.items():
            assert value == pytest.approx(row[name], rel=1e-4, abs=2e-5), (row, name)


def check_closed_forms_cubic(case: Case, t: Tensors) -> None:
    """Maps of mean and deviation on 8x8 with the cubic, and the noiseless run."""
    schedule, y = betas_of(case["schedule"]) if "schedule" in case else linear(), t["y"]
    assert not case.get("clip_denoised"), "what is clamped has no Gaussian law"
    d, spacing = y[0].numel(), respacing_of(case)
    kept = respaced(spacing, schedule.steps)
    exact = Exact(case["v"] * torch.eye(d).double(), torch.full((d,), case["mu"]), schedule)
    variance = picked(VARIANCES, case["variance"], "variance")
    for name in sorted(name.removeprefix("mean_") for name in t if name.startswith("mean_")):
        level: Any = "reference" if name == "code" else "matched"
        stop = 0.0 if name.endswith("end") else stop_of(case["range_t"], kept, schedule)
        process = Process(
            Denoiser(exact, schedule), tuple(y.shape[1:]), n=d + 1,
            spacing=spacing, solver=DDPM(variance=variance),
        )  # fmt: skip
        method = held(y[0], factor=case["down_N"], stop=stop, level=level)
        limit = case["tolerance"]["abs"]
        still = (process if method is None else process | method).sample(noise=Silence())[:1]
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


def held(y: Tensor, **values: Any) -> ILVR | None:
    """ILVR, or None where it would never act, which ours refuses."""
    return None if values["stop"] >= 1 else ILVR(y, **values)


def law(process: Process, method: ILVR | None, level: str) -> tuple[Tensor, Tensor]:
    """Exact mean (d,) and covariance (d, d) of a linear run with ILVR.

    Each step of ours is affine in the state: its matrix is read off the images of 0 and of the unit
    states, without noise; the variances of the two noises are put in by their formulas.
    """
    loop = (process if method is None else process | method).begin(noise=Silence())
    run = loop.run
    schedule, d = run.schedule, run.n - 1
    solver: Any = process.solver
    eye = torch.eye(d, dtype=torch.float64)
    probes = torch.cat([torch.zeros(1, d, dtype=torch.float64), eye]).view(run.n, *process.shape)
    phi = torch.zeros_like(eye)
    if method is not None:
        phi = LowPass(method.factor, method.kernel)(eye.view(d, *process.shape)).view(d, d).T
    mean, cov = torch.zeros(d, dtype=torch.float64), eye.clone()
    for i in range(len(run.times) - 1):
        t, s = run.times[i], run.times[i + 1]
        call = run.call(i, t, s)
        moved, _ = run.solver.step(probes, t, s, loop.steering.begin(call), call, None)
        held = loop.steering.arrive(moved, call).view(run.n, d)
        rows = moved.view(run.n, d)
        step, offset = (rows[1:] - rows[0]).T, held[0]
        mean = (held[1:] - held[0]).T @ mean + offset
        large, small = variances(schedule, t, s)
        added = 0.0 if s == 0 else small if solver.variance == "small" else large
        cov = step @ cov @ step.T + added * eye
        if method is not None and method.stop < t:
            cov = (eye - phi) @ cov @ (eye - phi).T
            cov = cov + schedule.sigma(t if level == "reference" else s) ** 2 * phi @ phi.T
    return mean, cov


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
