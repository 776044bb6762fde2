"""Claim: 6 steps upsample to 128 px as faithfully as 12, and the same network serves 256 px.

Held-out 3D renders and ink drawings against their originals; true 32 px input for the first stage,
the first stage's result for the second. Edges: mean of what neighbours differ by beyond a tenth of
the range, over the originals'; a blur has less. `python benchmarks/upsampler.py`.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

import sfumato as sf
from sfumato.core.denoiser import Cond
from sfumato.measure import heldout
from sfumato.measure.evaluate import on_white
from sfumato.metrics.kernel import mean

COUNT, BATCH = 48, 4
SETTINGS = (("ddim", 12), ("ddim", 6), ("dpmpp-2m", 12), ("dpmpp-2m", 6), ("dpmpp-2m", 4),
            ("dpmpp-2m", 3))  # fmt: skip


def upsampled(model: sf.Model, stage: int, low: Tensor, solver: str, steps: int) -> Tensor:
    factor, made = model.card.upsamplers[stage].factor, []
    shape = (3, factor * low.shape[2], factor * low.shape[3])
    for k in range(0, len(low), BATCH):
        cond = Cond({"low_res": low[k : k + BATCH]})
        process = replace(model.upsampler(stage), solver=solver, n_steps=steps, shape=shape,
                          n=len(low[k : k + BATCH]), cond=cond)  # fmt: skip
        made.append(process.sample(seed=k).clamp(-1, 1))
    return torch.cat(made)


def edges(x: Tensor) -> Tensor:
    """(B,): neighbours' differences beyond 0.2 of the range [-1, 1]."""
    across, down = (x[..., 1:] - x[..., :-1]), (x[..., 1:, :] - x[..., :-1, :])
    found = [(step.abs() - 0.2).clamp_min(0).flatten(1).mean(1) for step in (across, down)]
    return (found[0] + found[1]) / 2


def line(what: str, made: Tensor, true: Tensor, seconds: float) -> None:
    psnr = 10 * torch.log10(4 / (made - true).square().flatten(1).mean(1))
    sharp = edges(made) / edges(true)
    print(f"{what:24} {mean(psnr)!s:24} {mean(sharp)!s:20} {seconds / len(made):.2f}", flush=True)


def main() -> None:
    both = [on_white(heldout.pictures(style, 256).pixels) for style in ("fluent", "ink")]
    true = torch.cat([x[: COUNT // 2] for x in both])
    model = sf.load("emoji")
    low, high = F.avg_pool2d(true, 8), F.avg_pool2d(true, 2)
    print("                         PSNR dB                  edges                s a picture")
    print("32 -> 128")
    smooth = F.interpolate(low, high.shape[-2:], mode="bicubic").clamp(-1, 1)
    line("bicubic", smooth, high, 0.0)
    for solver, steps in SETTINGS:
        began = time.perf_counter()
        made = upsampled(model, 0, low, solver, steps)
        line(f"{solver}, {steps}", made, high, time.perf_counter() - began)
    print("128 of the first stage -> 256")
    first = upsampled(model, 0, low, "dpmpp-2m", 6)
    smooth = F.interpolate(first, true.shape[-2:], mode="bicubic").clamp(-1, 1)
    line("bicubic", smooth, true, 0.0)
    for steps in (6, 3):
        began = time.perf_counter()
        made = upsampled(model, 1, first, "dpmpp-2m", steps)
        line(f"dpmpp-2m, {steps}", made, true, time.perf_counter() - began)


if __name__ == "__main__":
    main()
