"""Claim: sample() takes at most 1.05 times the bare network calls that it makes.

Bundled base, 30 steps, guidance, batch 1, 4 and 16. sample() includes encoding the prompts, the
pictures and their recipes; the bare calls have their text prepared. Both are timed in turn, first
one then the other ahead; the ratio is the median over the pairs. `python benchmarks/overhead.py`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import sfumato as sf
from sfumato.core.denoiser import Cond
from sfumato.metrics.kernel import bootstrap

STEPS = 30


def timed(body: Callable[[], object]) -> float:
    began = time.perf_counter()
    body()
    return time.perf_counter() - began


def main() -> None:
    model = sf.load("emoji")
    net = model.denoiser.network
    print(f"{model.choice.dtype}, {torch.get_num_threads()} threads, {STEPS} steps with guidance")
    print("batch  bare s  sample s  ratio")
    for n, repeats in ((1, 21), (4, 15), (16, 7)):
        process = model.process("red apple, 3d render", n=n, steps=STEPS, stages=1)
        texts = ["red apple, 3d render", ""]
        with torch.no_grad():
            cond = Cond.cat([model.denoiser.prepare(model.encode([t])).rows(n) for t in texts])
            x, when = torch.randn(2 * n, 3, 32, 32), torch.full((2 * n,), 499.0)

            def bare(cond: Cond = cond, x: torch.Tensor = x, when: torch.Tensor = when) -> None:
                with torch.no_grad():
                    for _ in range(STEPS):
                        net(x, when, cond)

            pairs = []
            for k in range(repeats + 1):

                def full(process: Any = process) -> None:
                    process.sample(seed=0)

                first, second = (bare, full) if k % 2 else (full, bare)
                times = timed(first), timed(second)
                if k:  # the first pair warms up
                    pairs.append(times if k % 2 else times[::-1])
        base, whole = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = torch.tensor([whole / bare for bare, whole in pairs])

        def middle(indices: torch.Tensor, ratios: torch.Tensor = ratios) -> float:
            return float(ratios[indices].quantile(0.5))

        print(f"{n:5}  {base:6.3f}  {whole:8.3f}  {bootstrap(middle, len(ratios))}")


if __name__ == "__main__":
    main()
