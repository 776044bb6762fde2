"""Cases of the reference programs' kinds with other parameters, by their formulas written anew.

Nothing of the product is used but, where a loop needs one, its network: tables, samplers, filters
and laws here are numpy and torch in float64, from the papers' equations. Every function gives
(case, tensors) as a fixture holds them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from conformance.tables import Tables, sections

Made = tuple[dict[str, Any], dict[str, Tensor]]
Edit = Callable[[Tensor], Tensor]


class Step:
    """A network's output at x and the kept step t, and what samplers make of it."""

    def __init__(
        self, tables: Tables, x: Tensor, t: int, output: Tensor, kind: str,
        mean: str = "epsilon", clip: bool = True, edit: Edit | None = None,
    ) -> None:  # fmt: skip
        self.x, self.t, self.tables, channels = x.double(), t, tables, x.shape[1]
        out, told = output.double()[:, :channels], None
        if kind.startswith("learned"):
            told = output.double()[:, channels:]
        self.bar, self.before = float(tables.bar[t]), float(tables.before[t])
        self.log_variance = tables.log_variance(t, kind, told)
        self.variance = torch.as_tensor(self.log_variance).double().exp()
        if kind == "fixed_small" and t == 0:
            self.variance = torch.zeros(())
        x0 = {
            "epsilon": lambda: (self.x - (1 - self.bar) ** 0.5 * out) / self.bar**0.5,
            "start_x": lambda: out,
            "previous_x": lambda: (out - tables.of_x[t] * self.x) / tables.of_x0[t],
        }[mean]()
        x0 = x0 if edit is None else edit(x0)
        self.x0 = x0.clamp(-1, 1) if clip else x0
        self.mean = out if mean == "previous_x" else self.mean_of(self.x0)

    def mean_of(self, x0: Tensor) -> Tensor:
        return float(self.tables.of_x0[self.t]) * x0 + float(self.tables.of_x[self.t]) * self.x

    def ancestral(self, noise: Tensor, score: Tensor | None = None) -> Tensor:
        mean = self.mean if score is None else self.mean + self.variance * score.double()
        spread = torch.as_tensor(self.log_variance / 2).double().exp() if self.t else 0.0
        return mean + spread * noise.double()

    def ddim(self, noise: Tensor, eta: float = 0.0, score: Tensor | None = None) -> Tensor:
        x0, eps = self.tied(score)
        std = eta * ((1 - self.before) / (1 - self.bar) * (1 - self.bar / self.before)) ** 0.5
        along = max(1 - self.before - std**2, 0.0) ** 0.5
        return self.before**0.5 * x0 + along * eps + (std * noise.double() if self.t else 0.0)

    def tied(self, score: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x0 and the eps of it, both moved by a score."""
        eps = (self.x - self.bar**0.5 * self.x0) / (1 - self.bar) ** 0.5
        if score is None:
            return self.x0, eps
        eps = eps - (1 - self.bar) ** 0.5 * score.double()
        return (self.x - (1 - self.bar) ** 0.5 * eps) / self.bar**0.5, eps

    def up(self) -> Tensor:
        """One kept step higher; above the top is noise alone."""
        above = [*self.tables.bar[1:], 0.0][self.t]
        x0, eps = self.tied()
        return above**0.5 * x0 + (1 - above) ** 0.5 * eps


def drawn(seed: int) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator)


def single(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """Float64 results as a fixture stores them."""
    return {
        name: value.float() if torch.is_tensor(value) and value.is_floating_point() else value
        for name, value in tensors.items()
    }


STEP_LIMITS = {
    "p_mean_variance*, p_sample*, q_*": "per batch row: <= 1e-5 * max(1, max abs of the row)",
    "ddim_*": "per batch row: <= 1e-3 * max(1, max abs of the row)",
    "model_timesteps, cond_timesteps": "relative 1e-6",
}


def sampler_steps(
    seed: int, schedule: str, total: int, respacing: str, kind: str, mean: str,
    rescale: bool = False, side: int = 4, channels: int = 3, kept_kind: bool = True,
) -> Made:  # fmt: skip
    """Every sampler's single step, at the ends and in the middle of a process."""
    draw, tables, last = drawn(seed), Tables(schedule, total, respacing), 0
    last = len(tables) - 1
    t = [0, 1, last // 2, last]
    shape = (len(t), channels, side, side + 1)
    x, noise, score, known = (draw(*shape) for _ in range(4))
    output = draw(len(t), channels * (2 if kind.startswith("learned") else 1), *shape[2:])
    if kind == "learned":
        output[:, channels:] = output[:, channels:] * 0.3 - 4
    mask = (draw(len(t), 1, *shape[2:]) > 0).float()
    rows: dict[str, list[Any]] = {}
    for k, step in enumerate(t):
        one = slice(k, k + 1)
        arguments = (tables, x[one], step, output[one], kind, mean)
        plain, free = Step(*arguments), Step(*arguments, clip=False)
        painted = Step(
            *arguments, edit=lambda x0, one=one: x0 * (1 - mask[one]) + known[one] * mask[one]
        )
        z, g = noise[one], score[one]
        for name, value in {
            "p_mean_variance.mean": plain.mean,
            "p_mean_variance.variance": plain.variance.expand_as(plain.x),
            "p_mean_variance.log_variance": torch.as_tensor(plain.log_variance).expand_as(plain.x),
            "p_mean_variance.pred_xstart": plain.x0,
            "p_mean_variance_noclip.mean": free.mean,
            "p_sample.sample": plain.ancestral(z),
            "p_sample_noclip.sample": free.ancestral(z),
            "p_sample_cond.sample": plain.ancestral(z, g),
            "p_sample_inpaint.sample": painted.ancestral(z),
            "ddim_sample.sample": plain.ddim(z),
            "ddim_sample_eta1.sample": plain.ddim(z, 1.0),
            "ddim_sample_noclip.eta0.25.sample": free.ddim(z, 0.25),
            "ddim_sample_cond.sample": plain.ddim(z, 0.0, g),
            "ddim_reverse.sample": plain.up(),
        }.items():
            rows.setdefault(name, []).append(value)
    read = torch.tensor([float(tables.kept[step]) for step in t])
    read = read * (1000 / total) if rescale else read
    tensors = {"x": x, "noise": noise, "cond_grad": score, "known": known, "mask": mask}
    tensors |= {"t": torch.tensor(t), "model_output": output}
    recorded = {f"in.c0.{name}": value for name, value in tensors.items()}
    recorded |= {f"out.c0.{name}": torch.cat(values) for name, values in rows.items()}
    recorded |= {"out.c0.model_timesteps": read, "out.c0.cond_timesteps": read}
    config = {"prefix": "c0.", "schedule": schedule, "respacing": respacing, "total_steps": total}
    config |= {"num_timesteps": len(tables), "rescale_timesteps": rescale}
    config |= {"var_type": kind, "mean_type": mean} if kept_kind else {}
    return {"kind": "adm-sampler-steps", "cases": [config], "tolerance": STEP_LIMITS}, single(
        recorded
    )


ADAMS = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def plms(
    seed: int, schedule: str, total: int, respacing: str, order: int, scored: bool, learned: bool,
    rows: int = 2, clip: bool = True,
) -> Made:  # fmt: skip
    """Pseudo linear multistep with one improved Euler step first, on a network of given answers."""
    draw, tables = drawn(seed), Tables(schedule, total, respacing)
    calls = len(tables) + (order > 1)
    x = draw(rows, 3, 4, 5)
    outputs, scores = draw(calls, rows, 6 if learned else 3, 4, 5), draw(calls, rows, 3, 4, 5)
    state, history, times_read, states = x.double(), [], [], []
    kind = "learned_range" if learned else "fixed_small"

    def asked(at: Tensor, t: int) -> tuple[Tensor, Tensor]:
        times_read.append(tables.kept[t])
        k = len(times_read) - 1
        step = Step(tables, at, t, outputs[k], kind, clip=clip)
        return step.tied(scores[k] if scored else None)

    for t in reversed(range(len(tables))):
        bar, before = float(tables.bar[t]), float(tables.before[t])

        def moved(
            eps: Tensor, state: Tensor = state, bar: float = bar, below: float = before
        ) -> Any:
            x0 = (state - (1 - bar) ** 0.5 * eps) / bar**0.5
            return below**0.5 * x0 + (1 - below) ** 0.5 * eps

        x0, eps = asked(state, t)
        history = [eps, *history][:order]
        if order > 1 and len(history) == 1:
            there = before**0.5 * x0 + (1 - before) ** 0.5 * eps
            mixed = (eps + asked(there, t - 1)[1]) / 2
        else:
            weights = ADAMS[len(history) - 1]
            mixed = sum((w * e for w, e in zip(weights, history, strict=True)), torch.zeros(()))
        if t:
            x0 = (state - (1 - bar) ** 0.5 * mixed) / bar**0.5
            x0 = before**0.5 * x0 + (1 - before) ** 0.5 * mixed
        state = x0
        states.append(state)
    config = {
        "prefix": "a.", "schedule": schedule, "respacing": respacing, "order": order,
        "num_timesteps": len(tables), "model_calls": calls, "total_steps": total,
        "clip_denoised": clip,
    }  # fmt: skip
    tensors = {"in.a.x": x, "in.a.model_outputs": outputs, "out.a.samples": torch.stack(states)}
    tensors |= {"out.a.model_timesteps": torch.tensor(times_read)}
    tensors |= {"in.a.cond_grads": scores} if scored else {}
    limit = 2e-5 * max(1.0, max(float(s.abs().max()) for s in states))
    case = {"kind": "plms-steps", "cases": [config], "tolerance_max_abs": limit}
    return case, single(tensors)


def schedules(tables: Sequence[tuple[str, int, str]]) -> Made:
    """The tables' own numbers."""
    tensors = {}
    for schedule, total, respacing in tables:
        table = Tables(schedule, total, respacing)
        prefix = f"out.spaced.{schedule}.{respacing}" if respacing else f"out.{schedule}.T{total}"
        for name, values in {
            "alphas_cumprod": table.bar,
            "alphas_cumprod_prev": table.before,
            "alphas_cumprod_next": np.append(table.bar[1:], 0.0),
            "betas": table.beta,
            "posterior_variance": table.small,
            "posterior_log_variance_clipped": np.log(np.append(table.small[1], table.small[1:])),
            "posterior_mean_coef1": table.of_x0,
            "posterior_mean_coef2": table.of_x,
            "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / table.bar - 1),
            "timestep_map": np.asarray(table.kept),
        }.items():
            if respacing or name != "timestep_map":
                tensors[f"{prefix}.{name}"] = torch.from_numpy(values)
    total = next((total for _, total, respacing in tables if respacing), 1000)
    case = {
        "kind": "schedules",
        "call": [f"space_timesteps({total}, string)", f"over T = {total}"],
        "respaced": {text: sections(text, total) for text in ("7", "ddim5", "4,3,2")},
        "respaced_other_T": {"9,2@40": sections("9,2", 40)},
        "errors": [["ddim777", "ValueError"], [f"{total + 1}", "ValueError"]],
        "tolerance": {
            "float64 fields": "relative 1e-9, absolute 1e-15", "timestep_embedding": "absolute 2e-4"
        },
    }  # fmt: skip
    return case, tensors


def toy_weights(draw: Callable[..., Tensor], channels: int, hidden: int) -> dict[str, Tensor]:
    return {
        "w.mu": draw(channels) * 0.2, "w.conv1_w": draw(hidden, channels, 3, 3) * 0.2,
        "w.conv1_b": draw(hidden) * 0.1, "w.tvec": draw(hidden) * 0.5,
        "w.conv2_w": draw(channels, hidden, 3, 3) * 0.2, "w.conv2_b": draw(channels) * 0.1,
        "w.conv3_w": draw(channels, hidden, 3, 3) * 0.2, "w.conv3_b": draw(channels) * 0.1,
    }  # fmt: skip


class Toy:
    """The fixtures' network: the exact score of N(mu, v) and gain times two convolutions."""

    def __init__(self, w: Mapping[str, Tensor], v: float, gain: float) -> None:
        self.w = {name.removeprefix("w."): value.double() for name, value in w.items()}
        self.v, self.gain = v, gain

    def hidden(self, x: Tensor, clock: float) -> Tensor:
        w = self.w
        return torch.tanh(F.conv2d(x, w["conv1_w"], w["conv1_b"] + clock * w["tvec"], padding=1))

    def convolved(self, x: Tensor, clock: float, last: int = 2) -> Tensor:
        w, hidden = self.w, self.hidden(x, clock)
        return F.conv2d(hidden, w[f"conv{last}_w"], w[f"conv{last}_b"], padding=1)

    def eps(self, x: Tensor, bar: float, clock: float) -> Tensor:
        a, s = bar**0.5, (1 - bar) ** 0.5
        exact = s * (x - a * self.w["mu"].view(-1, 1, 1)) / (bar * self.v + s * s)
        return exact + self.gain * self.convolved(x, clock)


SUPPORTS = {"cubic": 2, "linear": 1, "lanczos2": 2, "lanczos3": 3}
TINY = float(np.finfo(np.float32).eps)


def weigh(kernel: str, u: Any) -> Any:
    """Keys' cubic with a = -1/2, the triangle, or windowed sines."""
    u = np.abs(u)
    if kernel == "linear":
        return np.clip(1 - u, 0, None)
    if kernel == "cubic":
        near, far = (1.5 * u - 2.5) * u * u + 1, ((2.5 - 0.5 * u) * u - 4) * u + 2
        return np.where(u <= 1, near, np.where(u <= 2, far, 0))
    a, p = SUPPORTS[kernel], np.pi * u
    return np.where(u < a, (np.sin(p) * np.sin(p / a) + TINY) / (p * p / a + TINY), 0)


def resize(n: int, out: int, kernel: str) -> Tensor:
    """(out, n): pixels weighed by their distance, far more of the mirrored row than is needed."""
    ratio = n / out
    width, reach = max(ratio, 1.0), 8 * n
    places = np.arange(-reach, n + reach)
    mirrored = places % (2 * n)
    mirrored = np.where(mirrored < n, mirrored, 2 * n - 1 - mirrored)
    operator = np.zeros((out, n))
    for j in range(out):
        weights = weigh(kernel, (places - ((j + 0.5) * ratio - 0.5)) / width)
        np.add.at(operator[j], mirrored, weights / weights.sum())
    return torch.from_numpy(operator)


def low_pass(x: Tensor, factor: int, kernel: str = "cubic") -> tuple[Tensor, Tensor]:
    """(smaller, and that enlarged again)."""
    h, w = x.shape[-2:]
    small = resize(h, h // factor, kernel) @ x.double() @ resize(w, w // factor, kernel).T
    return small, resize(h // factor, h, kernel) @ small @ resize(w // factor, w, kernel).T


def resizer(seed: int, kernel: str, sizes: Sequence[tuple[int, int, int, int]]) -> Made:
    draw, tensors, cases = drawn(seed), {}, []
    for k, (height, width, factor, channels) in enumerate(sizes):
        x = draw(1 + k % 2, channels, height, width)
        tensors[f"{k}.x"] = x
        tensors[f"{k}.down"], tensors[f"{k}.phi"] = low_pass(x, factor, kernel)
        cases.append({"index": k, "H": height, "W": width, "N": factor, "channels": channels})
    case = {"kind": "resizer", "kernel": kernel, "cases": cases, "tolerance": {"abs": 1e-5}}
    return case, single(tensors)


def matrices(kernel: str, sizes: Sequence[tuple[int, int]]) -> Made:
    tensors = {}
    for n, factor in sizes:
        tensors[f"{n}_{factor}.D"] = resize(n, n // factor, kernel)
        tensors[f"{n}_{factor}.U"] = resize(n // factor, n, kernel)
    case = {"kind": "resizer-matrices", "what": f"{kernel} operators", "tolerance": {"abs": 1e-6}}
    return case, single(tensors)


def ilvr_loop(
    seed: int, schedule: str, total: int, respacing: str, factor: int, range_t: int, clip: bool,
    kind: str, rows: int, shape: tuple[int, int, int], v: float, gain: float, clock: int = 1000,
) -> Made:  # fmt: skip
    """Ancestral sampling whose low frequencies are exchanged above range_t, both conventions."""
    draw, tables = drawn(seed), Tables(schedule, total, respacing)
    channels, steps = shape[0], len(tables)
    w = toy_weights(draw, channels, 5)
    toy = Toy(w, v, gain)
    ref, start, z = draw(rows, *shape) * 0.5, draw(rows, *shape), draw(steps, rows, *shape)
    n = draw(max(steps - 1 - range_t, 0), rows, *shape)

    def run(matched: bool) -> dict[int, Tensor]:
        x, states = start.double(), {}
        for i in reversed(range(steps)):
            t = tables.kept[i]
            out = toy.eps(x, float(tables.whole[t]), t / clock)
            if kind == "learned_range":
                out = torch.cat([out, torch.tanh(toy.convolved(x, t / clock, 3))], dim=1)
            x = Step(tables, x, i, out, kind, clip=clip).ancestral(z[i])
            if i > range_t:
                bar = float(tables.before[i] if matched else tables.bar[i])
                noised = bar**0.5 * ref.double() + (1 - bar) ** 0.5 * n[i - range_t - 1].double()
                x = x - low_pass(x, factor)[1] + low_pass(noised, factor)[1]
            states[i] = x
        return states

    states, matched = run(False), run(True)
    traced = sorted({steps - 1, steps // 2, 0}, reverse=True)
    tensors = {"ref": ref, "x_T": start, "z": z, "n": n, "out": states[0], **w}
    tensors |= {"trace": torch.stack([states[i] for i in traced]), "out_level_matched": matched[0]}
    far = 1e-4 * max(1.0, max(float(state.abs().max()) for state in states.values()))
    case = {
        "kind": "ilvr-loop", "down_N": factor, "range_t": range_t, "clip_denoised": clip,
        "schedule": {
            "kind": schedule, "T": total, "timestep_respacing": respacing,
            "timestep_map": tables.kept,
        },
        "variance": kind, "trace_steps": traced, "tolerance": {"out_abs": 1e-4, "trace_abs": far},
        "model": {
            "doc": f"(t/{clock})", "v": v, "gain": gain, "learn_sigma": kind == "learned_range"
        },
    }  # fmt: skip
    return case, single(tensors)


def sdedit_vp(
    seed: int, ends: tuple[float, float], total: int, t: int, repeats: int, rows: int, kind: str,
    mask: Tensor, v: float, gain: float, clock: int = 1000,
) -> Made:  # fmt: skip
    """The reference's loop: one noise for the known part of a pass, kept where the mask is 1."""
    draw = drawn(seed)
    betas = np.linspace(*ends, total).astype(np.float32).astype(float)
    bar = np.cumprod(1 - betas)
    before = np.append(1.0, bar[:-1])
    small = betas * (1 - before) / (1 - bar)
    w = toy_weights(draw, len(mask), 4)
    toy = Toy(w, v, gain)
    image = draw(*mask.shape).sigmoid()
    e, z = draw(repeats, rows, *mask.shape), draw(repeats, t, rows, *mask.shape)
    known, edited = (image.double() * 2 - 1).expand(rows, *mask.shape), (mask != 1)
    ends_, traces = [], []
    traced = sorted({t - 1, t // 2, 0}, reverse=True)
    for k in range(repeats):

        def level(i: int, known: Tensor = known, k: int = k) -> Tensor:
            return bar[i] ** 0.5 * known + (1 - bar[i]) ** 0.5 * e[k].double()

        x, met = level(t - 1), {}
        for i in reversed(range(t)):
            met[i] = x
            eps = toy.eps(x, float(bar[i]), i / clock)
            mean = (x - betas[i] / (1 - bar[i]) ** 0.5 * eps) / (1 - betas[i]) ** 0.5
            variance = betas[i] if kind == "fixedlarge" else small[i]
            moved = mean + (variance**0.5 * z[k][i].double() if i else 0.0)
            x = torch.where(edited, moved, level(i))
        ends_.append(x)
        traces.append(torch.stack([met[i] for i in traced]))
        known = torch.where(edited, x, known)
    tensors = {"img01": image, "mask": mask, "e": e, "z": z, "out": torch.stack(ends_), **w}
    tensors |= {"trace": torch.stack(traces), "out_clean": known}
    case = {
        "kind": "sdedit-vp", "var_type": kind, "t": t, "K": repeats, "batch": rows,
        "schedule": {
            "kind": "linear betas", "beta_start": ends[0], "beta_end": ends[1], "T": total
        },
        "trace_steps": traced, "tolerance": {"out_abs": 1e-4, "trace_abs": 1e-4},
        "model": {"doc": f"(t/{clock})", "v": v, "gain": gain},
    }  # fmt: skip
    return case, single(tensors)


def sdedit_paper(
    seed: int, kind: str, levels: tuple[float, float], steps: int, t0: float, repeats: int,
    rows: int, omega: Tensor, v: float, gain: float,
) -> Made:  # fmt: skip
    """The published algorithms: the known part at a step's level with that step's noise."""
    draw = drawn(seed)
    w = toy_weights(draw, len(omega), 4)
    toy = Toy(w, v, gain)
    image = draw(*omega.shape).clamp(-1, 1) if kind == "vp" else draw(*omega.shape).sigmoid()
    e, z = draw(repeats, rows, *omega.shape), draw(repeats, steps, rows, *omega.shape)
    clean = image.double().expand(rows, *omega.shape)
    rise = t0 / steps
    betas = [(levels[0] + (levels[1] - levels[0]) * n * rise) * rise for n in range(1, steps + 1)]
    bars = np.append(1.0, np.cumprod(1 - np.asarray(betas)))
    low, high = levels
    sigmas = [0.0, *(low * (high / low) ** (n * rise) for n in range(1, steps + 1))]

    def noised(x: Tensor, n: int, noise: Tensor) -> Tensor:
        if kind == "ve":
            return x + sigmas[n] * noise.double()
        return bars[n] ** 0.5 * x + (1 - bars[n]) ** 0.5 * noise.double()

    def step(x: Tensor, n: int) -> tuple[Tensor, float]:
        """Mean and deviation of the transition n -> n - 1."""
        if kind == "vp":
            beta, bar = betas[n - 1], float(bars[n])
            score = -toy.eps(x, bar, n * rise) / (1 - bar) ** 0.5
            return (x + beta * score) / (1 - beta) ** 0.5, beta**0.5
        s = sigmas[n]
        away = x - toy.w["mu"].view(-1, 1, 1)
        score = (
            -away / (v + s * s) - gain * toy.convolved(x / (1 + s * s) ** 0.5, math.log(s) / 4) / s
        )
        fall = s * s - sigmas[n - 1] ** 2
        return x + fall * score, fall**0.5

    x, ends, means = clean, [], []
    for k in range(repeats):
        x = omega * noised(x, steps, e[k]) + (1 - omega) * noised(clean, steps, e[k])
        for n in range(steps, 0, -1):
            mean, spread = step(x, n)
            if n == 1:
                means.append(omega * mean + (1 - omega) * clean)
            moved = mean + spread * z[k][n - 1].double()
            x = omega * moved + (1 - omega) * noised(clean, n, z[k][n - 1])
        ends.append(x)
    case = {
        "N": steps, "t0": t0, "K": repeats, "batch": rows, "tolerance": {"out_abs": 1e-4},
        "model": {"v": v, "gain": gain},
    }  # fmt: skip
    tensors = {"omega": omega, "e": e, "z": z, "out": torch.stack(ends), **w}
    if kind == "vp":
        case |= {"kind": "sdedit-vp-paper", "beta_min": low, "beta_max": high}
        return case, single({**tensors, "img": image})
    case |= {"kind": "sdedit-ve", "sigma_min": low, "sigma_max": high}
    return case, single({**tensors, "img01": image, "mean_last_step": torch.stack(means[:1])})
