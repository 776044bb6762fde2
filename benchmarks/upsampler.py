"""Claim: 6 steps upsample as faithfully as 12, at each stage of the bundled cascade.

Held-out 3D renders and ink drawings against their originals; true input of the base's size for the
first stage, the first stage's result for a second. Edges: mean of what neighbours differ by beyond
a tenth of the range, over the originals'; a blur has less. `python benchmarks/upsampler.py`;
`--model` with a folder measures the cascade of other weights.
"""

from __future__ import annotations

import argparse
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
LATER = (("dpmpp-2m", 6), ("dpmpp-2m", 3))  # of a second stage


def upsampled(model: sf.Model, stage: int, low: Tensor, solver: str, steps: int) -> Tensor:
    factor, made = model.card.upsamplers[stage].factor, []
    shape = (3, factor * low.shape[2], factor * low.shape[3])
    for k in range(0, len(low), BATCH):
        cond = Cond({"low_res": low[k : k + BATCH]})
        process = replace(model.upsampler(stage), source=None, solver=solver, n_steps=steps,
                          shape=shape, n=len(low[k : k + BATCH]), cond=cond)  # fmt: skip
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
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="emoji")
    model = sf.load(parser.parse_args().model)
    both = [on_white(heldout.pictures(style, 256).pixels) for style in ("fluent", "ink")]
    true = torch.cat([x[: COUNT // 2] for x in both])
    side = model.card.native[0]
    low = F.adaptive_avg_pool2d(true, side)
    print("                         PSNR dB                  edges                s a picture")
    for stage, settings in zip(range(len(model.card.upsamplers)), (SETTINGS, LATER), strict=False):
        size = side * model.card.factor(stage + 2)
        high = F.adaptive_avg_pool2d(true, size)
        print(f"{low.shape[-1]} -> {size}")
        smooth = F.interpolate(low, high.shape[-2:], mode="bicubic").clamp(-1, 1)
        line("bicubic", smooth, high, 0.0)
        for solver, steps in settings:
            began = time.perf_counter()
            made = upsampled(model, stage, low, solver, steps)
            line(f"{solver}, {steps}", made, high, time.perf_counter() - began)
        if stage + 1 < len(model.card.upsamplers):
            low = upsampled(model, stage, low, "dpmpp-2m", 6)


if __name__ == "__main__":
    main()
