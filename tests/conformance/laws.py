"""Variants of the cases that tell a law: their closed forms worked out by scalar recursions.

As in conformance.variants nothing of the product is used; all in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from conformance.tables import Tables
from conformance.variants import Made, drawn, low_pass, single


def prior_loss(seed: int, rows: int, instances: int, kind: str, masked: bool, zero: bool) -> Made:
    """Prior preservation by its definitions, with other counts, sizes, gammas and lambdas."""
    draw = drawn(seed)
    bars = torch.from_numpy(Tables("linear", 1000).bar.copy())
    if zero:
        bars = (bars.sqrt() - bars[-1].sqrt()).square() * 0.9
    t = torch.tensor([17 + 141 * k for k in range(rows)])
    if zero:
        t[0] = 999
    x0, noise, pred = draw(rows, 3, 4, 7), draw(rows, 3, 4, 7), draw(rows, 6, 4, 7)
    of_class = torch.tensor([k >= instances for k in range(rows)])
    bar = bars[t].view(-1, 1, 1, 1)
    target = {
        "epsilon": noise.double(),
        "sample": x0.double(),
        "v_prediction": bar.sqrt() * noise - (1 - bar).sqrt() * x0,
    }[kind]
    error = (pred[:, :3].double() - target).square()
    mask = (draw(rows, 1, 4, 7) > 0).double()
    mask[:, :, 0, 0] = 1
    if masked:
        per_sample = (error * mask).sum((1, 2, 3)) / (mask.sum((1, 2, 3)) * 3)
    else:
        per_sample = error.mean((1, 2, 3))
    tensors: dict[str, Tensor] = {
        "alphas_cumprod.a": bars, "c.in.pred": pred, "c.in.x0": x0, "c.in.noise": noise,
        "c.in.t": t, "c.in.is_class": of_class.to(torch.uint8), "c.out.per_sample": per_sample,
    }  # fmt: skip
    if masked:
        tensors["c.in.mask"] = mask.float()
    snr = bars[t] / (1 - bars[t])
    for gamma in ("none", "2.5", "8"):
        least = snr.clamp(max=math.inf if gamma == "none" else float(gamma))
        weights = {
            "epsilon": torch.where(snr > 0, least / snr, torch.ones_like(snr)),
            "sample": least,
            "v_prediction": least / (snr + 1),
        }[kind]
        weights = torch.ones_like(snr) if gamma == "none" else weights
        tensors[f"c.out.weights.g{gamma}"] = weights
        for lam in (0, 0.3, 1.7):
            own, other = ~of_class, of_class
            rows_ = weights * per_sample

            def mean(values: Tensor, which: Tensor) -> Tensor:
                return values[which].mean() if which.any() else values.new_zeros(())

            start = f"c.out.lam{lam}.g{gamma}"
            tensors[f"{start}.both"] = mean(rows_, own) + lam * mean(rows_, other)
            tensors[f"{start}.inst_only"] = mean(rows_, own) + lam * mean(per_sample, other)
            tensors[f"{start}.batchmean"] = (rows_ * torch.where(other, lam, 1.0)).mean()
    case = {
        "kind": "prior-loss",
        "cases": {"c": {"kind": kind, "schedule": "a"}},
        "tolerance": {"relative": 1e-5},
    }
    return case, tensors


def metrics(seed: int, generated: int, real: int, classes: int) -> Made:
    """Means of cosines over pairs."""
    draw = drawn(seed)

    def units(n: int) -> Tensor:
        return torch.nn.functional.normalize(draw(n, 12).double(), dim=-1)

    gen, true, text, other = units(generated), units(real), units(generated), units(classes)
    pairs = true @ true.T
    distance = draw(classes, classes).abs().double()
    distance = distance + distance.T
    upper = [float(distance[i, j]) for i in range(classes) for j in range(i + 1, classes)]
    tensors = {
        "metric.in.gen": gen, "metric.in.real": true, "metric.in.text": text,
        "metric.in.class_gen": other, "metric.in.lpips": distance,
        "metric.out.subject_fidelity": (gen @ true.T).mean(),
        "metric.out.real_ceiling": (pairs.sum() - pairs.trace()) / (real * (real - 1)),
        "metric.out.prompt_fidelity": (gen * text).sum(-1).mean(),
        "metric.out.pres": (other @ true.T).mean(),
        "metric.out.div": torch.tensor(sum(upper) / len(upper), dtype=torch.float64),
    }  # fmt: skip
    return {"kind": "personalisation-metrics", "tolerance": {"relative": 1e-6}}, tensors


def ilvr_pixels(
    c: Sequence[Sequence[float]], y: Sequence[float], steps: int, ends: Sequence[float],
    kind: str, ranges: Sequence[int],
) -> Made:  # fmt: skip
    """Moments of ILVR with the average of all pixels on N(0, C), by a recursion of matrices."""
    betas = np.linspace(*ends, steps)
    bar = np.cumprod(1 - betas)
    before = np.append(1.0, bar[:-1])
    data, guide, n = np.asarray(c), np.asarray(y), len(y)
    eye, phi = np.eye(n), np.full((n, n), 1 / n)
    rows: list[dict[str, Any]] = []
    for range_t in ranges:
        for told in ("index i (reference code)", "level matched (paper)"):
            mean, cov = np.zeros(n), np.eye(n)
            for i in reversed(range(steps)):
                clean = bar[i] ** 0.5 * data @ np.linalg.inv(bar[i] * data + (1 - bar[i]) * eye)
                of_x0 = betas[i] * before[i] ** 0.5 / (1 - bar[i])
                of_x = (1 - before[i]) * (1 - betas[i]) ** 0.5 / (1 - bar[i])
                move = of_x0 * clean + of_x * eye
                small = betas[i] * (1 - before[i]) / (1 - bar[i])
                added = 0.0 if i == 0 else betas[i] if kind == "large" else small
                mean, cov = move @ mean, move @ cov @ move.T + added * eye
                if i > range_t:
                    level = bar[i] if "reference" in told else before[i]
                    mean = mean + phi @ (level**0.5 * guide - mean)
                    cov = (eye - phi) @ cov @ (eye - phi) + (1 - level) * phi @ phi
            row: dict[str, Any] = {"range_t": range_t, "reference_level": told}
            for name, v in (("sum", np.ones(n)), ("diff", (-1.0) ** np.arange(n))):
                row |= {f"{name}_mean": v @ mean, f"{name}_std": max(v @ cov @ v, 0.0) ** 0.5}
            rows.append(row)
    case = {
        "kind": "closed-forms-ilvr", "C": c, "y": y, "rows": rows,
        "what": f"{n} pixels, {steps} steps, linear betas {ends[0]}..{ends[1]}, "
        f"fixed-{kind} variance, no clipping",
    }  # fmt: skip
    return case, {}


def ilvr_maps(
    seed: int, side: int, factor: int, mu: float, v: float, respacing: str, range_t: int, kind: str
) -> Made:
    """Maps of mean and deviation of ILVR with the cubic filter on N(mu, v I)."""
    tables = Tables("linear", 1000, respacing)
    y = drawn(seed)(1, 1, side, side) * 0.5
    d = side * side
    eye = torch.eye(d, dtype=torch.float64)
    phi = low_pass(eye.view(d, 1, side, side), factor)[1].view(d, d).T
    flat, tensors = y.double().flatten(), {"y": y}
    for name in ("code", "level_matched", "level_matched_to_end"):
        mean, cov = torch.zeros(d, dtype=torch.float64), eye.clone()
        for i in reversed(range(len(tables))):
            bar = float(tables.bar[i])
            shrink = bar**0.5 * v / (bar * v + 1 - bar)
            of_x0, of_x = float(tables.of_x0[i]), float(tables.of_x[i])
            move = of_x0 * shrink + of_x
            mean = move * mean + of_x0 * (1 - bar**0.5 * shrink) * mu
            added = tables.small[i] if kind == "fixed_small" else tables.beta[i] if i else 0.0
            cov = move**2 * cov + float(added) * eye
            if i > range_t or name.endswith("end"):
                level = float(tables.bar[i] if name == "code" else tables.before[i])
                mean = mean + phi @ (level**0.5 * flat - mean)
                cov = (eye - phi) @ cov @ (eye - phi).T + (1 - level) * phi @ phi.T
        tensors[f"mean_{name}"] = mean.view_as(y)
        tensors[f"std_{name}"] = cov.diagonal().clamp_min(0).sqrt().view_as(y)
    case = {
        "kind": "closed-forms-ilvr-cubic", "mu": mu, "v": v, "down_N": factor,
        "timestep_respacing": respacing, "range_t": range_t, "variance": kind,
        "clip_denoised": False, "tolerance": {"abs": 1e-5},
    }  # fmt: skip
    return case, single(tensors)


def sdedit_gaussian(
    steps: int, ends: Sequence[float], depths: Sequence[int], spreads: Sequence[float],
    ve: Sequence[tuple[float, float, float, float]],
) -> Made:  # fmt: skip
    """Coefficient of the guide and deviation of SDEdit on N(0, v): chains, DDIM and limits."""
    betas = np.linspace(*ends, steps)
    bar = np.cumprod(1 - betas)
    before = np.append(1.0, bar[:-1])
    rows, implicit = [], []
    for t in depths:
        a = float(bar[t - 1])
        for v in spreads:
            row = {"t": t, "v": v, "alpha_bar": a}
            whole = a * v + 1 - a
            coef, left = a * v / whole, v * (1 - a) / whole
            std = (left + (a**0.5 * v / whole) ** 2 * (1 - a)) ** 0.5
            row |= {"ode_coef": (a * v / whole) ** 0.5, "ode_std": (v * (1 - a) / whole) ** 0.5}
            for k in (1, 2, 3):
                spread = std * sum(coef ** (2 * j) for j in range(k)) ** 0.5
                row |= {f"sde_coef_K{k}": coef**k, f"sde_std_K{k}": spread}
            for kind in ("small", "large"):
                mean, variance = a**0.5, 1 - a
                for i in reversed(range(t)):
                    of_x0 = betas[i] * before[i] ** 0.5 / (1 - bar[i])
                    of_x = (1 - before[i]) * (1 - betas[i]) ** 0.5 / (1 - bar[i])
                    move = of_x + of_x0 * bar[i] ** 0.5 * v / (bar[i] * v + 1 - bar[i])
                    small = betas[i] * (1 - before[i]) / (1 - bar[i])
                    added = 0.0 if i == 0 else betas[i] if kind == "large" else small
                    mean, variance = move * mean, move**2 * variance + added
                row |= {
                    f"chain_fixed{kind}_coef": mean,
                    f"chain_fixed{kind}_std": variance**0.5,
                }
            rows.append(row)
            for count in (4, 7):
                places = [round(i) for i in np.linspace(t - 1, 0, count)]
                scale = 1.0
                for i, j in zip(places, [*places[1:], None], strict=True):
                    low = 1.0 if j is None else float(bar[j])
                    x0 = bar[i] ** 0.5 * v / (bar[i] * v + 1 - bar[i])
                    eps = (1 - bar[i] ** 0.5 * x0) / (1 - bar[i]) ** 0.5
                    scale *= low**0.5 * x0 + (1 - low) ** 0.5 * eps
                implicit.append(
                    {"t": t, "v": v, "steps": count, "coef": scale * a**0.5,
                     "std": scale * (1 - a) ** 0.5}
                )  # fmt: skip
    exploding = []
    for low, high, t0, v in ve:
        s2 = (low * (high / low) ** t0) ** 2
        coef = v / (v + s2)
        exploding.append(
            {"sigma_min": low, "sigma_max": high, "t0": t0, "v": v, "sigma": s2**0.5,
             "coef": coef, "std": (v * s2 / (v + s2) + coef**2 * s2) ** 0.5}
        )  # fmt: skip
    case = {
        "kind": "closed-forms-sdedit", "gaussian": rows, "ddim_eta0": {"rows": implicit},
        "schedule": {"T": steps, "beta_start": ends[0], "beta_end": ends[1]}, "ve": exploding,
    }  # fmt: skip
    return case, {}


def strokes(seed: int, size: tuple[int, int], window: int, colors: Sequence[int]) -> Made:
    """Median of every window, the edge repeated, and Pillow's adaptive palettes of it."""
    image = (drawn(seed)(3, *size).sigmoid() * 255).round().to(torch.uint8)
    reach = window // 2
    padded = np.pad(image.numpy(), ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (window, window), axis=(1, 2))
    smooth = np.sort(windows.reshape(*image.shape, -1), -1)[..., window * window // 2]
    tensors = {"image": image, "median": torch.from_numpy(smooth.copy())}
    picture = Image.fromarray(np.ascontiguousarray(smooth.transpose(1, 2, 0)))
    for count in colors:
        palette = picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=count).convert("RGB")
        tensors[f"stroke_{count}"] = (
            torch.from_numpy(np.array(palette)).permute(2, 0, 1).contiguous()
        )
    case = {
        "kind": "stroke-simulator", "median_size": window, "colors": list(colors),
        "source": f"Pillow {PIL.__version__}",
    }  # fmt: skip
    return case, tensors


def style_losses(seed: int, cuts: int, rows: int, width: int, side: tuple[int, int]) -> Made:
    """Spherical distance, mixed prompts and total variation, with their gradients."""
    draw = drawn(seed)
    vectors, target = draw(cuts, rows, width), draw(1, rows, width)
    leaf = vectors.double().requires_grad_()

    def unit(x: Tensor) -> Tensor:
        return x / x.norm(dim=-1, keepdim=True)

    far = (unit(leaf) - unit(target.double())).norm(dim=-1)
    per_cut = 2 * (far / 2).arcsin().square()
    total = per_cut.mean(0).sum()
    tensors = {"sph.image_embeds": vectors, "sph.target": target, "sph.per_cut": per_cut}
    tensors |= {"sph.total": total, "sph.grad": torch.autograd.grad(total, leaf)[0]}
    words, weights = draw(4, width), torch.tensor([2.0, 1.5, -0.5, 1.0])
    mixed = ((weights / weights.sum().abs())[:, None] * words).sum(0, keepdim=True)
    tensors |= {"prompt.embeds": words, "prompt.weights": weights, "prompt.combined": unit(mixed)}
    x = draw(rows, 3, *side)
    pixels = x.double().requires_grad_()
    along, down = torch.zeros_like(pixels), torch.zeros_like(pixels)
    along[..., :, :-1] = pixels[..., :, 1:] - pixels[..., :, :-1]
    down[..., :-1, :] = pixels[..., 1:, :] - pixels[..., :-1, :]
    per_image = (along.square() + down.square()).mean((1, 2, 3))
    tensors |= {"tv.x": x, "tv.per_image": per_image}
    tensors["tv.grad"] = torch.autograd.grad(per_image.sum(), pixels)[0]
    case = {
        "kind": "style-losses", "prompts_note": "default weight 2", "params": {},
        "prompts": [["a dog", ["a dog", 2.0]], ["x:y:-4.5", ["x:y", -4.5]]],
        "tolerance": {"atol": 1e-5, "rtol": 1e-4},
    }  # fmt: skip
    return case, {name: value.detach() for name, value in single(tensors).items()}
