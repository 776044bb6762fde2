"""Claim: SDEdit in 20 network calls is as realistic as the reference procedure in 500.

Held-out pictures as simulated strokes, t0 = 0.5. The reference procedure (arXiv 2108.01073) is the
ancestral loop through every table step; ours are this package's solvers at few steps, on the same
weights, guides and seeds in one run. Prints kernel distance and L2 against network calls, and the
fewest calls whose both lie within the reference's intervals, or below.
`python benchmarks/sdedit_nfe.py`.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import sfumato as sf
from held import Realism, fewest, l2, painted, process

T0, SEED = 0.5, 7
STEPS = (5, 10, 20)
WAYS = (
    ("ddim", "uniform"),
    ("euler-a", "uniform"),
    ("dpmpp-2m", "uniform"),
    ("dpmpp-2m", "logsnr"),
    ("dpmpp-2m-sde", "uniform"),
    ("plms2", "uniform"),
    ("heun", "uniform"),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="emoji")
    given = parser.parse_args()
    model, realism, guides = sf.load(given.model), Realism(), painted()
    strokes = realism.of(guides)
    print(f"the strokes themselves: kernel {strokes}; t0 = {T0}, {len(guides)} guides")
    print("| solver | spacing | calls | kernel distance | L2 | s |")
    print("|---|---|---|---|---|---|")

    def run(name: str, spacing: str, steps: int | None) -> dict[str, Any]:
        planned = process(model, len(guides), solver=name, spacing=spacing, n_steps=steps)
        planned = planned | sf.SDEdit(guides, t0=T0)
        began = time.perf_counter()
        made = planned.sample(SEED)
        seconds = time.perf_counter() - began
        kernel, far = realism.of(made), l2(made, guides)
        what = "every table step" if steps is None else spacing
        print(
            f"| {name} | {what} | {planned.calls} | {kernel} | {far} | {seconds:.1f} |", flush=True
        )
        return {"solver": name, "spacing": what, "calls": planned.calls, "kernel": kernel,
                "l2": far}  # fmt: skip

    reference = run("ddpm", str(model.denoiser.schedule.steps), None)
    rows = [run(name, spacing, steps) for name, spacing in WAYS for steps in STEPS]
    rows.append(run("ddpm", "uniform", 20))
    print("fewest calls whose kernel distance and L2 are not above the reference's intervals: "
          + fewest(rows, lambda row: all(row[name].value <= reference[name].high
                                         for name in ("kernel", "l2"))))  # fmt: skip


if __name__ == "__main__":
    main()
