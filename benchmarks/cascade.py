"""Claim: a picture of the bundled cascade costs little more than its network calls' arithmetic.

Seconds and calls for one picture of the card's steps, pictures/s at batch 16, and the floor: the
FLOPs of those calls over the measured matrix speed of this machine and number format.
`python benchmarks/cascade.py [--device cuda]`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import sfumato as sf
from flops import counted
from sfumato.models.devices import DTYPES


def seconds(body: Callable[[], object], device: str, repeats: int) -> float:
    """Median of a few runs after a warm-up."""
    found = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        body()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return statistics.median(found[1:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default="emoji")
    given = parser.parse_args()
    model = sf.load(given.model, device=given.device)
    device, dtype = model.choice.device, DTYPES[model.choice.dtype]
    side = 4096 if device.startswith("cuda") else 1536
    a = torch.randn(side, side, dtype=dtype, device=device)
    speed = 2 * side**3 / seconds(lambda: a @ a, device, 9)
    print(f"{model.choice.dtype} on {device}, matrix product {speed / 1e12:.3f} TFLOP/s")
    print("batch  calls     s     s a picture  GFLOP a picture  floor s  times the floor")
    for n, repeats in ((1, 5), (16, 2)):
        process = model.process("red apple, 3d render", n=n)

        def run(process: sf.Cascade = process) -> object:  # type: ignore[assignment]
            return process.sample(seed=0)

        work = counted(run)
        calls = " + ".join(str(c) for c in process.calls)
        took = seconds(run, device, repeats)
        floor = work / speed
        print(
            f"{n:5}  {calls:8} {took:6.2f}  {took / n:8.3f}  {work / n / 1e9:10.1f}"
            f"  {floor:12.2f}  {took / floor:8.2f}"
        )


if __name__ == "__main__":
    main()
