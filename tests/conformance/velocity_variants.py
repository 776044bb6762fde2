"""Variants of v-diffusion's cases: times, steps, free diffusion, guidance; all in float64 here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from conformance.variants import ADAMS, Made, drawn, single

Model = Callable[[Tensor, float], Tensor]
METHODS = ("ddim", "prk", "plms", "pie", "plms2", "iplms")


def of_angle(t: float) -> tuple[float, float]:
    return math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)


def from_log_snr(value: float) -> float:
    """The time at log(alpha^2 / sigma^2)."""
    return math.atan(math.exp(-value / 2)) * 2 / math.pi


def time_at(rule: str, u: float) -> float:
    """A named spacing of v-diffusion at u in [0, 1]."""
    if rule == "log":
        return from_log_snr(10 - 20 * u)
    if rule == "spliced":
        wide = u * (1 + 0.80074257 - 0.48536712)
        if wide < 0.80074257:
            return wide
        u = wide + 0.48536712 - 0.80074257
    return from_log_snr(-math.log(math.expm1(1e-4 + 10 * u * u)))


def schedules(counts: Sequence[int], of: str, cut: tuple[int, int]) -> Made:
    tensors = {}
    for n in counts:
        tensors[f"t_{n}"] = torch.arange(n + 1).double() / n
        for rule in ("spliced", "ddpm", "log"):
            tensors[f"{rule}_{n}"] = torch.tensor([time_at(rule, k / n) for k in range(n + 1)])
    times = tensors[of].tolist()
    levels = [of_angle(t) for t in times]
    inner = [math.log(a * a / (s * s)) for a, s in levels[slice(*cut)]]
    tensors |= {
        "alpha": torch.tensor([a for a, _ in levels]),
        "sigma": torch.tensor([s for _, s in levels]), "t_back": torch.tensor(times),
        "log_snr_inner": torch.tensor(inner),
        "alpha_from_snr": torch.tensor([of_angle(from_log_snr(v))[0] for v in inner]),
        "sigma_from_snr": torch.tensor([of_angle(from_log_snr(v))[1] for v in inner]),
    }  # fmt: skip
    params = {"N": counts, "alpha_etc_of": of, "log_snr_inner_of": f"{of}[{cut[0]}:{cut[1]}]"}
    tolerance = {"atol": 2e-6, "rtol": 1e-5, "note": "log_snr near the ends: rtol 1e-3"}
    return {"kind": "vdiffusion-schedules", "params": params, "tolerance": tolerance}, single(
        tensors
    )


def eps_of(model: Model, x: Tensor, t: float) -> Tensor:
    a, s = of_angle(t)
    return s * x + a * model(x, t)


def moved(x: Tensor, eps: Tensor, t: float, s: float) -> tuple[Tensor, Tensor]:
    """The state at s, and x0, of a constant eps."""
    (a, sigma), (low, noise) = of_angle(t), of_angle(s)
    x0 = (x - sigma * eps) / a
    return low * x0 + noise * eps, x0


def one_step(model: Model, x: Tensor, t: float, s: float, stages: int) -> Tensor:
    """Combined eps of the improved Euler (2) and the Runge-Kutta method (4)."""
    here = eps_of(model, x, t)
    if stages == 2:
        return (here + eps_of(model, moved(x, here, t, s)[0], s)) / 2
    middle = (t + s) / 2
    second = eps_of(model, moved(x, here, t, middle)[0], middle)
    third = eps_of(model, moved(x, second, t, middle)[0], middle)
    last = eps_of(model, moved(x, third, t, s)[0], s)
    return (here + 2 * second + 2 * third + last) / 6


def combined(name: str, model: Model, x: Tensor, t: float, s: float, old: list[Tensor]) -> Tensor:
    """Newest first in `old`, which is lengthened here."""
    stages, order = {"plms": (4, 4), "plms2": (2, 2)}.get(name, (0, 1))
    if name in ("prk", "pie") or len(old) < order - 1:
        eps = one_step(model, x, t, s, stages or {"prk": 4, "pie": 2}[name])
        old.insert(0, eps)
        return eps
    old.insert(0, eps_of(model, x, t))
    count = {"ddim": 1, "iplms": min(len(old), 4)}.get(name, order)
    rows = zip(ADAMS[count - 1], old, strict=False)
    return sum((w * e for w, e in rows), torch.zeros((), dtype=torch.float64))


def walk(name: str, model: Model, x: Tensor, times: Sequence[float]) -> Tensor:
    old: list[Tensor] = []
    for t, s in itertools.pairwise(times):
        x = moved(x, combined(name, model, x, t, s, old), t, s)[0]
    return x


def sampling(
    seed: int, rule: str, n: int, top: float, place: int, spread: float, scale: float, rows: int,
    pairs: Sequence[tuple[float, float]], guide_times: Sequence[float], side: tuple[int, int],
) -> Made:  # fmt: skip
    """Every step function, both directions, the paper's composition, eta 1 and guidance."""
    draw = drawn(seed)
    shape = (rows, 3, *side)
    w = {"K1": draw(4, 3, 3, 3) * 0.2, "ct": draw(4) * 0.3, "K2": draw(3, 4, 3, 3) * 0.15}
    w["d"] = draw(3) * 0.2
    tensors: dict[str, Tensor] = {f"toy.{name}": value for name, value in w.items()}
    d = {name: value.double() for name, value in w.items()}

    def toy(x: Tensor, t: float) -> Tensor:
        hidden = torch.tanh(F.conv2d(x, d["K1"], padding=1) + (d["ct"] * t).view(-1, 1, 1))
        return F.conv2d(hidden, d["K2"], padding=1) + d["d"].view(-1, 1, 1) * x

    def gauss(x: Tensor, t: float) -> Tensor:
        a, s = of_angle(t)
        v = spread**2
        return a * s * (1 - v) / (a * a * v + s * s) * x

    x0, x, target, start = (draw(*shape) for _ in range(4))
    old = [draw(*shape) for _ in range(3)]
    tensors |= {"x0": x0, "x_step": x, "guide.target": target, "ddpm.x_init": start}
    tensors |= {f"old_eps{k}": eps for k, eps in enumerate(old)}
    x0, x = x0.double(), x.double()
    for j, (t, s) in enumerate(pairs):
        here = eps_of(toy, x, t)
        tensors[f"step{j}.eps"] = here
        tensors[f"step{j}.transfer.x"], tensors[f"step{j}.transfer.pred"] = moved(x, here, t, s)
        known = {"prk": 0, "pie": 0, "plms": 3, "plms2": 1, **{f"iplms{k}": k for k in range(4)}}
        for name, k in known.items():
            before = [eps.double() for eps in old[::-1][:k]]
            eps = combined(name.rstrip("0123") if "ip" in name else name, toy, x, t, s, before)
            tensors[f"step{j}.{name}.x"] = moved(x, eps, t, s)[0]
            tensors[f"step{j}.{name}.eps"] = before[0]
            kept_eps = eps if name in ("prk", "pie") else here
            tensors[f"step{j}.{name}.pred"] = moved(x, kept_eps, t, s)[1]
    times = [0.0, *(float(torch.tensor(time_at(rule, k / n))) for k in range(1, n + 1))]
    short = [0.0, *(float(torch.tensor(time_at(rule, top * k / n))) for k in range(1, n + 1))]
    tensors |= {"steps": torch.tensor(times), "steps_mt": torch.tensor(short)}
    for tag, model, grid in (("full", toy, times), ("mt", toy, short), ("gauss", gauss, times)):
        for name in METHODS:
            up = walk(name, model, x0, grid)
            tensors[f"{tag}.{name}.xT"] = up
            tensors[f"{tag}.{name}.out"] = walk(name, model, up.float().double(), grid[::-1])
    a, s = of_angle(times[-1])
    tensors["gauss.exact_xT"] = x0 * (a * a * spread**2 + s * s) ** 0.5 / spread
    highest = walk("iplms", toy, x0, times)
    back = walk("iplms", toy, highest, times[: place - 1 : -1])
    tensors |= {"paper.xT1": highest, "paper.hat_xT": back}
    tensors["paper.out"] = walk("iplms", toy, back, times[place::-1])
    noises, state = [draw(*shape) for _ in range(n - 1)], start.double()
    for k, (t, s_) in enumerate(zip(times[:0:-1], times[-2::-1], strict=True)):
        (a, sigma), (low, less) = of_angle(t), of_angle(s_)
        v = toy(state, t)
        eps, clean = sigma * state + a * v, a * state - sigma * v
        std = less / sigma * max(1 - (a / low) ** 2, 0.0) ** 0.5 if s_ else 0.0
        state = low * clean + max(less**2 - std**2, 0.0) ** 0.5 * eps
        state = state + std * noises[k].double() if s_ else clean
    tensors |= {"ddpm.noises": torch.stack(noises), "ddpm.out": state}

    def steered(x: Tensor, t: float) -> Tensor:
        a, s = of_angle(t)
        leaf = x.detach().requires_grad_()
        v = toy(leaf, t)
        far = (a * leaf - s * v - target.double()).square().flatten(1).mean(1).sum()
        return v.detach() + scale * s / a * torch.autograd.grad(far, leaf)[0]

    for j, t in enumerate(guide_times):
        tensors[f"guide.v{j}_unguided"], tensors[f"guide.v{j}"] = toy(x, t), steered(x, t)
    for name, method in (("iplms", "iplms"), ("ddim", "ddim"), ("cond_sample", "ddim")):
        tensors[f"guide.{name}_out"] = walk(method, steered, x, short[::-1])
    case = {
        "kind": "vdiffusion-sampling", "gauss_model": f"v of N(0,s^2) with s={spread}: exact",
        "params": {
            "step_pairs_t1_t2": pairs, "guide_scale": scale, "guide_times": guide_times,
            "paper_index_T": place,
        },
        "tolerance": {"rel_l2_single_step": 1e-4, "rel_l2_trajectory": 2e-3},
    }  # fmt: skip
    return case, {name: value.detach().float() for name, value in tensors.items()}
