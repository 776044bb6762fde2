"""Claim: ILVR in 25 network calls does what the published loop does in 250.

The held-out pictures are references, factor an eighth of the side, two seeds each. The published
loop (arXiv 2108.02938) is ancestral, 250 steps, the reference noised one level up; ours holds the
state at its own level, on any solver. Prints kernel distance, low-band error and diversity
against network calls, and the fewest calls that are as real and as diverse.
`python benchmarks/ilvr_nfe.py`.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from torch import Tensor

import sfumato as sf
from held import SIZE, Realism, fewest, process
from sfumato.metrics import kernel
from sfumato.metrics.kernel import Estimate
from sfumato.nn.resize import LowPass

FACTOR, SEEDS = SIZE / 8, (3, 4)
STEPS = (10, 25)
WAYS = (
    ("ddim", "uniform"),
    ("euler-a", "uniform"),
    ("dpmpp-2m", "uniform"),
    ("dpmpp-2m-sde", "uniform"),
)


def low_band(batches: list[Tensor], known: Tensor, factor: float = FACTOR) -> Estimate:
    """Root mean square of phi(made - known), values in [0, 1], mean over batches and pictures."""
    gaps = [LowPass(factor)(made.clamp(-1, 1) - known).flatten(1) / 2 for made in batches]
    return kernel.mean(torch.stack([gap.square().mean(1).sqrt() for gap in gaps]).mean(0))


def diversity(batches: list[Tensor]) -> Estimate:
    """Root mean square distance of two pictures of one reference, values in [0, 1]."""
    gaps = [
        (a.clamp(-1, 1) - b.clamp(-1, 1)).flatten(1).square().mean(1).sqrt() / 2
        for k, a in enumerate(batches)
        for b in batches[:k]
    ]
    return kernel.mean(torch.stack(gaps).mean(0))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="emoji")
    given = parser.parse_args()
    model, realism = sf.load(given.model), Realism()
    known = realism.real
    print(f"factor {FACTOR:g} of {known.shape[-1]} px, {len(known)} references")
    print("| solver | spacing | level | calls | kernel distance | low band | diversity | s |")
    print("|---|---|---|---|---|---|---|---|")

    def run(name: str, spacing: str, steps: int | None, level: Any = "matched") -> dict[str, Any]:
        planned = process(model, len(known), solver=name, spacing=spacing, n_steps=steps)
        planned = planned | sf.ILVR(known, factor=FACTOR, level=level)
        began = time.perf_counter()
        made = [planned.sample(seed * 1000) for seed in SEEDS]
        seconds = (time.perf_counter() - began) / len(SEEDS)
        kernel = realism.of(torch.cat(made))
        low, spread = low_band(made, known), diversity(made)
        row = (name, spacing, level, planned.calls, kernel, low, spread, f"{seconds:.1f}")
        print(f"| {' | '.join(map(str, row))} |", flush=True)
        names = ("solver", "spacing", "level", "calls", "kernel", "low", "diversity")
        return dict(zip(names, row, strict=False))

    reference = run("ddpm", "250", None, "reference")
    run("ddpm", "25", None, "reference")
    rows = [run(name, spacing, steps) for name, spacing in WAYS for steps in STEPS]

    def within(row: dict[str, Any]) -> bool:
        return bool(
            row["kernel"].value <= reference["kernel"].high
            and row["diversity"].value >= reference["diversity"].low
        )

    print("fewest calls no less real and diverse than the reference's intervals allow: "
          + fewest(rows, within))  # fmt: skip


if __name__ == "__main__":
    main()
