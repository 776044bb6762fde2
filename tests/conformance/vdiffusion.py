"""v-diffusion's networks; its times, steps, free diffusion and sampling, all through Process."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from conformance.case import number
from sfumato.core.context import Call
from sfumato.core.denoiser import Cond, Denoiser, Prediction
from sfumato.core.guides import Guide
from sfumato.core.noise import Tape
from sfumato.core.process import Process
from sfumato.core.schedule import Cosine, ratio
from sfumato.core.solvers import transfer
from sfumato.core.spacing import COSINE_TO, DDPM_FROM, materialise
from sfumato.models.loaders import vdiffusion
from sfumato.nn.vdiffusion import VDiffusion

Case = Mapping[str, Any]
Tensors = Mapping[str, Tensor]

SOLVERS: dict[str, Any] = {
    "ddim": "ddim",
    **{
        name: {"solver": ours, "faintest": 0}  # the published programs begin at any level
        for name, ours in (
            ("pie", "pie"), ("prk", "prk"), ("plms", "plms-prk"), ("plms2", "plms2"),
            ("iplms", "iplms"),
        )
    },
}  # fmt: skip
GIVEN = r"toy\..+|x0|x_step|old_eps\d+|steps|steps_mt|ddpm\.(noises|x_init)|guide\.target"
"""Names of what the reference was given."""
OF_COMBINED = r"step\d+\.(prk|pie)\.pred"
"""What it tells of a step and ours does not keep: x0 of the combined eps."""
COSINE = Cosine()


def check_schedules(case: Case, t: Tensors) -> None:
    tolerance = case["tolerance"]

    def agree(name: str, made: list[float], rtol: float = tolerance["rtol"]) -> None:
        got = torch.tensor(made, dtype=torch.float64)
        gap = float((got - t[name].double()).abs().max())
        close = torch.allclose(got, t[name].double(), atol=tolerance["atol"], rtol=rtol)
        assert close, f"{name}: differs by {gap:.1e}"

    params = case["params"]
    wikiart = vdiffusion.PRESETS["wikiart_256"]
    for name, ours in (
        ("ddpm_crossover", DDPM_FROM), ("cosine_crossover", COSINE_TO),
        ("wikiart_min_t", wikiart.t_min), ("wikiart_max_t", wikiart.t_max),
    ):  # fmt: skip
        assert params.get(name, ours) == pytest.approx(ours, abs=1e-8), name
    near_ends = number(tolerance.get("note", ""), r"rtol {}") or 1e-3
    for name in t:
        rule, _, n = name.rpartition("_")
        if rule == "t" and n.isdigit():
            agree(name, list(materialise("uniform", int(n), 1.0, COSINE)[::-1]))
        elif n.isdigit():
            times = materialise(f"v-{rule}", int(n), 1.0, COSINE)[:-1]
            # their u = 0 is time 0 of "spliced", and a time just above it of the others
            agree_from = t[name][1:].flip(0)
            assert torch.allclose(
                torch.tensor(times, dtype=torch.float64), agree_from.double(),
                atol=tolerance["atol"], rtol=tolerance["rtol"],
            ), name  # fmt: skip
    assert all(f"t_{n}" in t for n in params["N"])
    times = t[params["alpha_etc_of"]].tolist()
    agree("alpha", [COSINE.alpha(u) for u in times])
    agree("sigma", [COSINE.sigma(u) for u in times])
    agree("t_back", [COSINE.at(ratio(COSINE, u)) for u in times])
    name, _, cut = params["log_snr_inner_of"].partition("[")
    begin, _, end = cut.rstrip("]").partition(":")
    inner = t[name].tolist()[int(begin or 0) : int(end) if end else None]
    log_snr = [-2 * torch.tensor(ratio(COSINE, u), dtype=torch.float64).log() for u in inner]
    agree("log_snr_inner", [float(v) for v in log_snr], rtol=near_ends)
    back = [COSINE.at(float((-v / 2).exp())) for v in t["log_snr_inner"].double()]
    agree("alpha_from_snr", [COSINE.alpha(u) for u in back])
    agree("sigma_from_snr", [COSINE.sigma(u) for u in back])


class Match(Guide):
    """logp = -scale mean((x0 - target)^2) of each picture."""

    name = "match"
    through = "network"

    def __init__(self, target: Tensor, scale: float) -> None:
        self.target, self.scale = target, scale

    def logp(self, x: Tensor, pred: Prediction, call: Call) -> Tensor:
        return -self.scale * (pred.x0 - self.target).square().flatten(1).mean(1)


class Check:
    """The toy and the exact Gaussian network of a case."""

    def __init__(self, case: Case, t: Tensors) -> None:
        self.t, self.case = t, case
        self.steps = t["steps"].double().tolist()
        spread = number(case["gauss_model"], r"\bs ?= ?{}")
        assert spread, f"no spread of the data in {case['gauss_model']!r}"
        self.spread = spread
        self.known = sum(name.startswith("old_eps") for name in t)
        self.seen: set[str] = set()

    def toy(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        t = self.t
        clock = t["toy.ct"][None, :, None, None] * time[:, None, None, None]
        hidden = torch.tanh(F.conv2d(x, t["toy.K1"], padding=1) + clock)
        return F.conv2d(hidden, t["toy.K2"], padding=1) + t["toy.d"][None, :, None, None] * x

    def gauss(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        a, s, v = COSINE.alpha(float(time[0])), COSINE.sigma(float(time[0])), self.spread**2
        return a * s * (1 - v) / (a * a * v + s * s) * x

    def process(self, network: Callable[..., Tensor], solver: Any, times: Any) -> Process:
        denoiser = Denoiser(network, COSINE, "v", code=float, t_min=0.0)
        n, *shape = self.t["x0"].shape
        return Process(denoiser, tuple(shape), n=n, solver=solver, spacing=tuple(times))

    def close(self, name: str, got: Tensor, kind: str) -> None:
        want = self.t[name]
        gap = float((got - want).norm() / want.norm())
        assert gap <= self.case["tolerance"][f"rel_l2_{kind}"], f"{name}: off by {gap:.1e}"
        self.seen.add(name)

    def complete(self) -> None:
        """Every answer of the case was compared."""
        left = [
            name
            for name in set(self.t) - self.seen
            if not re.fullmatch(f"{GIVEN}|{OF_COMBINED}", name)
        ]
        assert not left, f"not compared: {', '.join(sorted(left))}"

    def single(self, j: int, t1: float, t2: float) -> None:
        old = [self.t[f"old_eps{k}"] for k in reversed(range(self.known))]  # the newest first
        x = self.t["x_step"]
        loop = self.process(self.toy, "ddim", (t1, t2)).begin(noise=Tape({}))
        run = loop.run
        pred = loop.steering.begin(run.call(0, t1, t2))(x, t1)
        self.close(f"step{j}.eps", pred.eps, "single_step")
        moved = transfer(x, pred.eps, t1, t2, COSINE)
        self.close(f"step{j}.transfer.x", moved, "single_step")
        ways = {
            "transfer": None, "prk": 0, "pie": 0, "plms": 3, "plms2": 1,
            **{f"iplms{k}": k for k in range(self.known + 1)},
        }  # fmt: skip
        for name, known in ways.items():
            if known is None or f"step{j}.{name}.x" not in self.t:
                self.told(f"step{j}.{name}", pred.eps, pred.x0)
                continue
            told = name.rstrip("0123") if name.startswith("iplms") else name
            made, _ = self.moved(SOLVERS[told], t1, t2, tuple(old[:known]))
            self.close(f"step{j}.{name}.x", made, "single_step")
            eps, x0 = pred.eps, pred.x0
            if name in ("prk", "pie"):  # the multistep methods that begin so keep the combined eps
                starting = {"prk": "plms", "pie": "plms2"}[name]
                eps = self.moved(SOLVERS[starting], t1, t2, ())[1][0]
                x0 = None
            self.told(f"step{j}.{name}", eps, x0)

    def moved(
        self, solver: Any, t1: float, t2: float, old: tuple[Tensor, ...]
    ) -> tuple[Tensor, Any]:
        """One step of a solver, and what it carries on."""
        loop = self.process(self.toy, solver, (t1, t2)).begin(noise=Tape({}))
        run = loop.run
        call = run.call(0, t1, t2)
        return run.solver.step(
            self.t["x_step"], t1, t2, loop.steering.begin(call), call, old or None
        )

    def told(self, name: str, eps: Tensor, x0: Tensor | None) -> None:
        """The eps and the prediction that the reference returns with a step."""
        for what, value in (("eps", eps), ("pred", x0)):
            if value is not None and f"{name}.{what}" in self.t:
                self.close(f"{name}.{what}", value, "single_step")

    def leg(self, network: Any, solver: Any, x: Tensor, times: list[float]) -> Tensor:
        """From x down the times, given rising and without 0, to 0."""
        process = self.process(network, solver, (*reversed(times), 0.0))
        return list(process.steps(x))[-1].x

    def up(self, network: Any, solver: Any, times: list[float]) -> Tensor:
        """Free diffusion of x0 along rising times that begin at 0."""
        process = self.process(network, solver, times[::-1])
        return process.invert(self.t["x0"])[-1]

    def loops(self, tag: str, network: Any, times: list[float]) -> None:
        there = {name.split(".")[1] for name in self.t if re.fullmatch(rf"{tag}\.\w+\.xT", name)}
        assert there <= set(SOLVERS), f"{tag}: no solver of ours for all of {sorted(there)}"
        for name, solver in ((name, SOLVERS[name]) for name in sorted(there)):
            top = self.up(network, solver, times)
            self.close(f"{tag}.{name}.xT", top, "trajectory")
            down = self.leg(network, solver, self.t[f"{tag}.{name}.xT"], times[1:])
            self.close(f"{tag}.{name}.out", down, "trajectory")

    def exact(self) -> None:
        """The case's exact answer is that of its own spread."""
        v, top = self.spread**2, self.steps[-1]
        scale = (COSINE.alpha(top) ** 2 * v + COSINE.sigma(top) ** 2) ** 0.5 / self.spread
        self.close("gauss.exact_xT", self.t["x0"] * scale, "single_step")

    def paper(self) -> None:
        """Up to T1, unguided down to T, then sampling from there."""
        if "paper.out" not in self.t:
            return
        place = self.case["params"]["paper_index_T"]
        top = self.up(self.toy, SOLVERS["iplms"], self.steps)
        self.close("paper.xT1", top, "trajectory")
        back = self.process(self.toy, SOLVERS["iplms"], self.steps[: place - 1 : -1])
        middle = list(back.steps(top))[-1].x
        self.close("paper.hat_xT", middle, "trajectory")
        out = self.leg(self.toy, SOLVERS["iplms"], middle, self.steps[1 : place + 1])
        self.close("paper.out", out, "trajectory")

    def ancestral(self) -> None:
        if "ddpm.out" not in self.t:
            return
        noises = self.t["ddpm.noises"]
        tape = Tape({("step", k + 1): z for k, z in enumerate(noises)})
        times = (*self.steps[:0:-1], 0.0)
        process = self.process(self.toy, {"solver": "ddim", "eta": 1.0}, times)
        out = list(process.steps(self.t["ddpm.x_init"], noise=tape))[-1].x
        self.close("ddpm.out", out, "trajectory")

    def guided(self) -> None:
        params = self.case["params"]
        if "guide.target" not in self.t:
            return
        guide = Match(self.t["guide.target"], params["guide_scale"])
        for j, time in enumerate(params["guide_times"]):
            plain = self.process(self.toy, "ddim", (time, 0.0))
            for name, process in (
                (f"guide.v{j}_unguided", plain),
                (f"guide.v{j}", replace(plain, guides=(guide,))),
            ):
                loop = process.begin(noise=Tape({}))
                run = loop.run
                pred = loop.steering.begin(run.call(0, time, 0.0))(self.t["x_step"], time)
                v = COSINE.alpha(time) * pred.eps - COSINE.sigma(time) * pred.x0
                self.close(name, v, "single_step")
        times = (*self.t["steps_mt"].double().tolist()[:0:-1], 0.0)
        for name, solver in (
            ("iplms", SOLVERS["iplms"]),
            ("ddim", "ddim"),
            ("cond_sample", "ddim"),
        ):
            process = replace(self.process(self.toy, solver, times), guides=(guide,))
            out = list(process.steps(self.t["x_step"]))[-1].x
            self.close(f"guide.{name}_out", out, "trajectory")


def check_sampling(case: Case, t: Tensors) -> None:
    check = Check(case, t)
    for j, (t1, t2) in enumerate(case["params"]["step_pairs_t1_t2"]):
        check.single(j, t1, t2)
    with torch.no_grad():
        check.loops("full", check.toy, check.steps)
        if "steps_mt" in t:
            check.loops("mt", check.toy, t["steps_mt"].double().tolist())
        check.loops("gauss", check.gauss, check.steps)
        check.exact()
        check.paper()
        check.ancestral()
    check.guided()
    check.complete()


def filled(shape: tuple[int, ...], key: int) -> Tensor:
    """U(shape, key): the case's splitmix64 numbers in (-1, 1), float64."""

    def word(value: int) -> np.uint64:
        return np.uint64(value % 2**64)

    place = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = place * word(0x9E3779B97F4A7C15) + word(key * 0xD1B54A32D192ED03)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> word(shift))) * word(factor)
        z ^= z >> word(31)
    return torch.from_numpy((z >> word(11)).astype(np.float64) * 2.0**-52 - 1).view(shape)


def gaussian_like(shape: tuple[int, ...], key: int) -> Tensor:
    return sum((filled(shape, 3 * key + k) for k in range(3)), torch.zeros(shape)).float()


def formula_input(text: str, **names: int) -> Tensor:
    """G(shape, key) of a sentence; the key may be a sum of numbers and of `names`."""
    found = re.search(r"G\(\(([\d, ]+)\), *([^)]+)\)", text)
    assert found, f"no G(shape, key) in {text!r}"
    shape = tuple(int(side) for side in found[1].split(","))
    key = sum(names[word] if word in names else int(word) for word in re.split(r" *\+ *", found[2]))
    made = gaussian_like(shape, key)
    if row := re.search(r"row (\d+) set to zeros", text):
        made[int(row[1])] = 0
    return made


def formula_network(name: str, given: Case, told: str) -> VDiffusion:
    """The released layout at the case's widths with its weights, filled as its sentence tells."""
    norms = number(told, r"1 \+ {}\*U for keys ending in norm") or 0.1
    few = number(told, r"{} for the remaining") or 0.05
    step = int(number(told, r"fill_base\*{}\+") or 100_000)
    known = {stem: p.config for stem, p in vdiffusion.PRESETS.items() if stem.startswith(name)}
    assert known, f"network {name!r}: ours are {', '.join(vdiffusion.PRESETS)}"
    config = next(iter(known.values()))
    config = replace(config, width=given["base_channels"], head_width=given["head_dim"])
    net = VDiffusion(config)
    state = net.state_dict()
    for i, key in enumerate(sorted(state)):
        shape = tuple(state[key].shape)
        scale, middle = few, 0.0
        if key.endswith("timestep_embed.weight"):
            scale = given["fourier_scale"]
        elif key.endswith("norm.weight"):
            scale, middle = norms, 1.0
        elif len(shape) > 1:
            scale = given["gain"] * (3 / np.prod(shape[1:])) ** 0.5
        values = filled(shape, given["fill_base"] * step + i)
        state[key].copy_((middle + scale * values).float())
    assert sum(p.numel() for p in net.parameters()) == given["params"]
    return net.eval().requires_grad_(False)


def check_network(case: Case, t: Tensors) -> None:
    """Whole networks and what is on their way; a case may hold every k-th pixel only."""
    x = formula_input(case["inputs"]["x"])
    deep = re.search(r"deep = .*?(net[\w.]*\d)", case["after"])
    paths = {"deep": deep[1] if deep else ""}
    paths |= {f"after_net{k}": f"net.{k}" for k in range(100)}
    for name, given in case["models"].items():
        net = formula_network(name, given, case["weights"])
        made: dict[str, Tensor] = {}

        def keep(what: str, module: Any, args: Any, out: Tensor, made: Any = made) -> None:
            made[what] = out

        cond = {}
        if net.config.embedding:
            embed = formula_input(case["inputs"]["clip_embed"])
            cond["clip_embed"], made["cond"] = embed, net.mapped(t["t"], embed)
        for what, path in paths.items():
            if f"{name}.{what}" in t:
                net.get_submodule(path).register_forward_hook(partial(keep, what))
        for differentiable in (False, True):  # frozen convolutions have a way of their own
            with torch.set_grad_enabled(differentiable):
                made["out"] = net(x.clone().requires_grad_(differentiable), t["t"], cond)
            wanted = {k.removeprefix(f"{name}.") for k in t if k.startswith(f"{name}.")}
            assert wanted
            assert wanted <= set(made), f"{name}: not known to this check: {wanted - set(made)}"
            for what in wanted:
                got, want = made[what], t[f"{name}.{what}"]
                if got.ndim == 4:
                    step = got.shape[-1] // want.shape[-1]
                    got = got.detach()[..., ::step, ::step]
                gap = float((got - want).norm() / want.norm())
                assert gap <= case["tolerance"]["rel_l2"], f"{name}.{what}: off by {gap:.1e}"


KINDS = {
    "vdiffusion-network": check_network,
    "vdiffusion-schedules": check_schedules,
    "vdiffusion-sampling": check_sampling,
}
