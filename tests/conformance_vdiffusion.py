"""v-diffusion's networks; its times, steps, free diffusion and sampling, all through Process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.denoiser import Cond, Denoiser, Prediction
from sfumato.core.guides import Call, Guide
from sfumato.core.noise import Tape
from sfumato.core.process import Process
from sfumato.core.pseudo import transfer
from sfumato.core.run import Loop
from sfumato.core.schedule import Cosine, ratio
from sfumato.core.spacing import materialise
from sfumato.models import vdiffusion
from sfumato.nn.vdiffusion import VDiffusion

Case = Mapping[str, Any]
Tensors = Mapping[str, Tensor]

SOLVERS = {
    "ddim": "ddim", "pie": "pie", "prk": "prk", "plms": "plms-prk", "plms2": "plms2",
    "iplms": "iplms",
}  # fmt: skip
COSINE = Cosine()


def check_schedules(case: Case, t: Tensors) -> None:
    tolerance = case["tolerance"]

    def agree(name: str, made: list[float], rtol: float = tolerance["rtol"]) -> None:
        got = torch.tensor(made, dtype=torch.float64)
        gap = float((got - t[name].double()).abs().max())
        close = torch.allclose(got, t[name].double(), atol=tolerance["atol"], rtol=rtol)
        assert close, f"{name}: differs by {gap:.1e}"

    for n in case["params"]["N"]:
        for name in ("spliced", "ddpm", "log"):
            times = materialise(f"v-{name}", n, 1.0, COSINE)[:-1]
            # their u = 0 is time 0 of "spliced", and a time just above it of the other two
            agree_from = t[f"{name}_{n}"][1:].flip(0)
            assert torch.allclose(
                torch.tensor(times, dtype=torch.float64), agree_from.double(),
                atol=tolerance["atol"], rtol=tolerance["rtol"],
            ), f"{name}_{n}"  # fmt: skip
        agree(f"t_{n}", list(materialise("uniform", n, 1.0, COSINE)[::-1]))
    times = t["spliced_50"].tolist()
    agree("alpha", [COSINE.alpha(u) for u in times])
    agree("sigma", [COSINE.sigma(u) for u in times])
    agree("t_back", [COSINE.at(ratio(COSINE, u)) for u in times])
    log_snr = [-2 * torch.tensor(ratio(COSINE, u), dtype=torch.float64).log() for u in times[1:]]
    agree("log_snr_inner", [float(v) for v in log_snr], rtol=1e-3)
    back = [COSINE.at(float((-v / 2).exp())) for v in t["log_snr_inner"].double()]
    agree("alpha_from_snr", [COSINE.alpha(u) for u in back])
    agree("sigma_from_snr", [COSINE.sigma(u) for u in back])


class Match(Guide):
    """logp = -scale mean((x0 - target)^2) of each picture."""

    name = "match"
    through = "model"

    def __init__(self, target: Tensor, scale: float) -> None:
        self.target, self.scale = target, scale

    def logp(self, x: Tensor, pred: Prediction, call: Call) -> Tensor:
        return -self.scale * (pred.x0 - self.target).square().flatten(1).mean(1)


class Check:
    """The toy and the exact Gaussian network of a case."""

    def __init__(self, case: Case, t: Tensors) -> None:
        self.t, self.case = t, case
        self.steps = t["steps"].double().tolist()

    def toy(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        t = self.t
        clock = t["toy.ct"][None, :, None, None] * time[:, None, None, None]
        hidden = torch.tanh(F.conv2d(x, t["toy.K1"], padding=1) + clock)
        return F.conv2d(hidden, t["toy.K2"], padding=1) + t["toy.d"][None, :, None, None] * x

    def gauss(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        a, s = COSINE.alpha(float(time[0])), COSINE.sigma(float(time[0]))
        return a * s * 0.75 / (a * a * 0.25 + s * s) * x

    def process(self, network: Callable[..., Tensor], solver: Any, times: Any) -> Process:
        denoiser = Denoiser(network, COSINE, "v", code=float, t_min=0.0)
        return Process(denoiser, (3, 8, 8), n=2, solver=solver, spacing=tuple(times))

    def close(self, name: str, got: Tensor, kind: str) -> None:
        want = self.t[name]
        gap = float((got - want).norm() / want.norm())
        assert gap <= self.case["tolerance"][f"rel_l2_{kind}"], f"{name}: off by {gap:.1e}"

    def single(self, j: int, t1: float, t2: float) -> None:
        old = [self.t[f"old_eps{k}"] for k in (2, 1, 0)]  # the newest first
        x = self.t["x_step"]
        run = self.process(self.toy, "ddim", (t1, t2)).begin(noise=Tape({}))
        eps = Loop(run).denoiser(run.begin(0, t1, t2, 0))(x, t1).eps
        self.close(f"step{j}.eps", eps, "single_step")
        self.close(f"step{j}.transfer.x", transfer(x, eps, t1, t2, COSINE), "single_step")
        ways: dict[str, tuple[Any, int]] = {
            "prk": ("prk", 0), "pie": ("pie", 0), "plms": ("plms-prk", 3), "plms2": ("plms2", 1),
            **{f"iplms{k}": ("iplms", k) for k in range(4)},
        }  # fmt: skip
        for name, (solver, known) in ways.items():
            run = self.process(self.toy, solver, (t1, t2)).begin(noise=Tape({}))
            call = run.begin(0, t1, t2, 0)
            made, _ = run.solver.step(
                x, t1, t2, Loop(run).denoiser(call), call, tuple(old[:known]) or None
            )
            self.close(f"step{j}.{name}.x", made, "single_step")

    def leg(self, network: Any, solver: Any, x: Tensor, times: list[float]) -> Tensor:
        """From x down the times, given rising and without 0, to 0."""
        process = self.process(network, solver, (*reversed(times), 0.0))
        return list(process.steps(x))[-1].x

    def up(self, network: Any, solver: Any, times: list[float]) -> Tensor:
        """Free diffusion of x0 along rising times that begin at 0."""
        process = self.process(network, solver, times[::-1])
        return process.invert(self.t["x0"])[-1]

    def loops(self, tag: str, network: Any, times: list[float]) -> None:
        for name, solver in SOLVERS.items():
            top = self.up(network, solver, times)
            self.close(f"{tag}.{name}.xT", top, "trajectory")
            down = self.leg(network, solver, self.t[f"{tag}.{name}.xT"], times[1:])
            self.close(f"{tag}.{name}.out", down, "trajectory")

    def paper(self) -> None:
        """Up to T1, unguided down to T, then sampling from there."""
        place = self.case["params"]["paper_index_T"]
        top = self.up(self.toy, "iplms", self.steps)
        self.close("paper.xT1", top, "trajectory")
        back = self.process(self.toy, "iplms", self.steps[: place - 1 : -1])
        middle = list(back.steps(top))[-1].x
        self.close("paper.hat_xT", middle, "trajectory")
        out = self.leg(self.toy, "iplms", middle, self.steps[1 : place + 1])
        self.close("paper.out", out, "trajectory")

    def ancestral(self) -> None:
        noises = self.t["ddpm.noises"]
        tape = Tape({("step", k + 1): z for k, z in enumerate(noises)})
        times = (*self.steps[:0:-1], 0.0)
        process = self.process(self.toy, {"solver": "ddim", "eta": 1.0}, times)
        out = list(process.steps(self.t["ddpm.x_init"], noise=tape))[-1].x
        self.close("ddpm.out", out, "trajectory")

    def guided(self) -> None:
        params = self.case["params"]
        guide = Match(self.t["guide.target"], params["guide_scale"])
        for j, time in enumerate(params["guide_times"]):
            plain = self.process(self.toy, "ddim", (time, 0.0))
            for name, process in (
                (f"guide.v{j}_unguided", plain),
                (f"guide.v{j}", replace(plain, guides=(guide,))),
            ):
                run = process.begin(noise=Tape({}))
                pred = Loop(run).evaluate(self.t["x_step"], time, run.begin(0, time, 0.0, 0))
                v = COSINE.alpha(time) * pred.eps - COSINE.sigma(time) * pred.x0
                self.close(name, v, "single_step")
        times = (*self.t["steps_mt"].double().tolist()[:0:-1], 0.0)
        for name, solver in (("iplms", "iplms"), ("ddim", "ddim"), ("cond_sample", "ddim")):
            process = replace(self.process(self.toy, solver, times), guides=(guide,))
            out = list(process.steps(self.t["x_step"]))[-1].x
            self.close(f"guide.{name}_out", out, "trajectory")


def check_sampling(case: Case, t: Tensors) -> None:
    check = Check(case, t)
    for j, (t1, t2) in enumerate(case["params"]["step_pairs_t1_t2"]):
        check.single(j, t1, t2)
    with torch.no_grad():
        check.loops("full", check.toy, check.steps)
        check.loops("mt", check.toy, t["steps_mt"].double().tolist())
        check.loops("gauss", check.gauss, check.steps)
        check.paper()
        check.ancestral()
    check.guided()


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


def formula_network(name: str, given: Case) -> VDiffusion:
    """The released layout at the case's widths with its weights."""
    config = next(p.config for stem, p in vdiffusion.PRESETS.items() if stem.startswith(name))
    config = replace(config, width=given["base_channels"], head_width=given["head_dim"])
    net = VDiffusion(config)
    state = net.state_dict()
    for i, key in enumerate(sorted(state)):
        shape = tuple(state[key].shape)
        scale, middle = 0.05, 0.0
        if key.endswith("timestep_embed.weight"):
            scale = given["fourier_scale"]
        elif key.endswith("norm.weight"):
            scale, middle = 0.1, 1.0
        elif len(shape) > 1:
            scale = given["gain"] * (3 / np.prod(shape[1:])) ** 0.5
        values = filled(shape, given["fill_base"] * 100_000 + i)
        state[key].copy_((middle + scale * values).float())
    assert sum(p.numel() for p in net.parameters()) == given["params"]
    return net.eval().requires_grad_(False)


def check_network(case: Case, t: Tensors) -> None:
    """Whole networks and what is on their way; a case may hold every k-th pixel only."""
    x, embed = gaussian_like((3, 3, 64, 64), 5001), gaussian_like((3, 512), 5002)
    embed[0] = 0
    for name, given in case["models"].items():
        net = formula_network(name, given)
        made: dict[str, Tensor] = {}

        def keep(what: str, module: Any, args: Any, out: Tensor, made: Any = made) -> None:
            made[what] = out

        cond = {"clip_embed": embed} if net.config.embedding else {}
        if cond:
            made["cond"] = net.mapped(t["t"], embed)
        deep = "net.4.main.5.main.5.main.5.main.9"
        for what, path in (("after_net3", "net.3"), ("after_net4", "net.4"), ("deep", deep)):
            net.get_submodule(path).register_forward_hook(partial(keep, what))
        for differentiable in (False, True):  # frozen convolutions have a way of their own
            with torch.set_grad_enabled(differentiable):
                made["out"] = net(x.clone().requires_grad_(differentiable), t["t"], cond)
            assert {f"{name}.{what}" for what in made} == {k for k in t if k.startswith(f"{name}.")}
            for what, got in made.items():
                want = t[f"{name}.{what}"]
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
