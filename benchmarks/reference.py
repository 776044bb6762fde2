"""Claim: the same picture several times faster than a plain loop in the published programs' way.

The peer (plain.py) runs the same weights in float32, contiguous, with text encoded at every call
and two calls for guidance. Ours runs the same DDIM steps from the same noise in float32 and, where
the processor is fast at it, bfloat16. Prints seconds, ratio, PSNR against the peer and how much of
the processor's measured matrix speed the calls reach, which bounds the ratio.
"""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import sfumato as sf
from plain import Plain, sample
from sfumato.core.denoiser import Cond
from sfumato.core.noise import Seeded
from sfumato.models.files.checkpoint import read_state_dict
from sfumato.models.loaders.library import BUNDLED

STEPS, SCALE, PROMPT = 20, 3.0, "red apple, 3d render"


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of pictures in [-1, 1], in dB."""
    error = float((a.clamp(-1, 1) - b.clamp(-1, 1)).square().mean())
    return math.inf if error == 0 else 10 * math.log10(4 / error)


def speed(dtype: torch.dtype, size: int = 1024, repeats: int = 20) -> float:
    """GFLOP/s of a square matrix product, best of five."""
    a, b = torch.randn(2, size, size).to(dtype)
    best = math.inf
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(repeats):
            a @ b
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 * repeats / best / 1e9


def flops(model: sf.Model, prompt: Cond) -> float:
    """GFLOP of one evaluation with guidance, one picture."""
    cond = model.denoiser.prepare(prompt).rows(2)
    net: Any = model.denoiser.network
    with FlopCounterMode(display=False) as counter:  # with gradients: convolutions it knows
        net(torch.zeros(2, 3, *model.card.native, requires_grad=True), torch.zeros(2), cond)
    return counter.get_total_flops() / 1e9


def main() -> None:
    models = {dtype: sf.load("emoji", dtype=dtype) for dtype in ("float32", "bfloat16")}
    card = models["float32"].card
    files = [BUNDLED["emoji"] / name for name in card.base.weights]
    peer = Plain(read_state_dict(files), card.base.network)
    schedule = models["float32"].denoiser.schedule
    times = (*(1 - k / STEPS for k in range(STEPS)), 0.0)
    alpha_bar = [schedule.alpha(t) ** 2 for t in times[:-1]]
    indices = [t * 1000 - 1 for t in times[:-1]]
    prompt, empty = (models["float32"].encode([text]) for text in (PROMPT, ""))
    work = flops(models["float32"], prompt)
    peak = {name: speed(getattr(torch, name)) for name in models}
    print(f"matrix speed {peak['float32']:.0f} GFLOP/s float32, {peak['bfloat16']:.0f} bfloat16")
    print(f"one evaluation with guidance: {work:.2f} GFLOP a picture")
    print(f"{STEPS} DDIM steps, guidance {SCALE:g}, {torch.get_num_threads()} threads")
    print("batch  what       seconds  times as fast  PSNR to the plain loop")
    for n, repeats in ((1, 7), (4, 3), (16, 1)):
        noise = Seeded(0).draw("prior", 0, 0, torch.empty(n, 3, *card.native))
        found: dict[str, list[float]] = {"plain": [], "float32": [], "bfloat16": []}
        results = {}
        for k in range(repeats + 1):
            for name in found:
                began = time.perf_counter()
                with torch.no_grad():
                    if name == "plain":
                        x = sample(peer, noise, prompt, empty, alpha_bar, indices, SCALE)
                    else:
                        process = models[name].process(
                            PROMPT, n=n, spacing=times, solver="ddim", stages=1
                        )
                        *_, last = (process | sf.CFG(SCALE)).steps(seed=0)
                        x = last.x
                if k:
                    found[name].append(time.perf_counter() - began)
                results[name] = x
        seconds = {name: statistics.median(values) for name, values in found.items()}
        for name, value in seconds.items():
            ratio, close = seconds["plain"] / value, psnr(results[name], results["plain"])
            fast = peak["bfloat16" if name == "bfloat16" else "float32"]
            reached = f"  {work * n * STEPS / value / fast:5.0%} of the matrix speed"
            print(f"{n:5}  {name:9} {value:8.3f}  {ratio:13.2f}  {close:8.1f} dB{reached}")


if __name__ == "__main__":
    main()
