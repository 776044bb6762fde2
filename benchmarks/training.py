"""Claim: training and sampling of the base reach a stated part of what this machine multiplies.

Images/s of one training step (forward, backward, update, average) and of sampling, both in the
number format that the trainer picks, beside the measured peaks of a large matrix product and of a
3x3 convolution of the network's own middle width. Needs the packed set.
`python benchmarks/training.py DATA [--device cuda]`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from flops import counted
from sfumato.train.config import read
from sfumato.train.trainer import Trainer


def rate(body: Callable[[], object], device: str, seconds: float = 8.0) -> float:
    """Runs a second, after a warm-up."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    for _ in range(2):
        body()
    wait()
    began, n = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        body()
        wait()
        n += 1
    return n / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/base-32.toml"))
    parser.add_argument("--batch", type=int, default=0)
    given = parser.parse_args()
    config = read(given.recipe)
    batch = given.batch or config.optim.batch
    config = replace(config, optim=replace(config.optim, batch=batch))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, given.data, Path(folder), device=given.device)
    tuner: Any = trainer.tuner
    dtype = tuner.net.dtype
    ready = tuner.batch(0, slice(0, batch))

    def bare() -> None:
        tuner.loss(ready, 0).total.backward()
        trainer.weights.drop()

    work = counted(bare)
    side = 4096 if given.device.startswith("cuda") else 1536
    a = torch.randn(side, side, dtype=dtype, device=given.device)
    width, size = 128, config.data.size // 4
    x = torch.randn(batch, width, size, size, dtype=dtype, device=given.device)
    x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(width, width, 3, 3, dtype=dtype, device=given.device)
    peaks = {
        "matrix product": 2 * side**3 * rate(lambda: a @ a, given.device),
        "3x3 convolution": 2 * 9 * width * x.numel()
        * rate(lambda: F.conv2d(x, weight, padding=1), given.device),
    }  # fmt: skip
    print(f"{config.name}, {dtype}, batch {batch}, {torch.get_num_threads()} threads")
    print(f"{work / batch / 1e9:.2f} GFLOP a training picture")
    for name, peak in peaks.items():
        print(f"peak of a {name}: {peak / 1e12:.3f} TFLOP/s")
    top = peaks["matrix product"]
    step = iter(range(1_000_000))

    def full() -> None:
        trainer.advance(tuner.batch(next(step), slice(0, batch)))

    for name, body in (("forward and backward", bare), ("whole step with its data", full)):
        speed = rate(body, given.device)
        reached = speed * work
        print(
            f"training, {name}: {speed * batch:.1f} pictures/s, "
            f"{reached / 1e12:.3f} TFLOP/s, {reached / top:.0%} of the matrix peak"
        )
    tuner.net.eval().requires_grad_(False)
    with torch.no_grad():
        one = counted(
            lambda: tuner.net(ready.x0, torch.zeros(batch, device=given.device), ready.cond)
        )
        speed = rate(
            lambda: tuner.net(ready.x0, torch.zeros(batch, device=given.device), ready.cond),
            given.device,
        )
    calls = 2 * 30
    print(
        f"sampling, 30 steps with guidance, batch {batch}: {speed * batch / calls:.2f} pictures/s, "
        f"{speed * one / 1e12:.3f} TFLOP/s, {speed * one / top:.0%} of the matrix peak"
    )


if __name__ == "__main__":
    main()
