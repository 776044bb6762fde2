"""Claim: sample() takes at most 1.05 times the bare network calls that it makes, and at most 1.15
times with a tap that changes every map of them.

Bundled base, 30 steps, guidance, batch 1, 4 and 16. sample() includes encoding the prompts, the
pictures and their recipes; the bare calls have their text prepared. All are timed in turn, each
time another one ahead; ratios are medians over the turns. `python benchmarks/overhead.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

import sfumato as sf
from sfumato.core.context import Call
from sfumato.core.denoiser import Cond
from sfumato.core.taps import Site, Tap
from sfumato.metrics.kernel import bootstrap

STEPS = 30


class Louder(Tap):
    """Changes every map."""

    name = "louder"

    def feature(self, h: torch.Tensor, site: Site, call: Call) -> torch.Tensor:
        return h * 1.01


def timed(body: Callable[[], object]) -> float:
    began = time.perf_counter()
    body()
    return time.perf_counter() - began


def main() -> None:
    model = sf.load("emoji")
    net = model.denoiser.network
    print(f"{model.choice.dtype}, {torch.get_num_threads()} threads, {STEPS} steps with guidance")
    print("batch  bare s  sample s  ratio                 with a tap s  ratio")
    for n, repeats in ((1, 21), (4, 15), (16, 7)):
        process = model.process("red apple, 3d render", n=n, steps=STEPS, stages=1)
        texts = ["red apple, 3d render", ""]
        with torch.no_grad():
            cond = Cond.cat([model.denoiser.prepare(model.encode([t])).rows(n) for t in texts])
            x, when = torch.randn(2 * n, 3, *model.card.native), torch.full((2 * n,), 499.0)

            def bare(cond: Cond = cond, x: torch.Tensor = x, when: torch.Tensor = when) -> None:
                with torch.no_grad():
                    for _ in range(STEPS):
                        net(x, when, cond)

            def whole(process: Any = process) -> None:
                process.sample(seed=0)

            def tapped(process: Any = process) -> None:
                process.add(taps=(Louder(),)).sample(seed=0)

            ways = (bare, whole, tapped)
            turns = []
            for k in range(repeats + 1):
                order = [(k + j) % 3 for j in range(3)]
                times = {j: timed(ways[j]) for j in order}
                if k:  # the first turn warms up
                    turns.append([times[j] for j in range(3)])
        table = torch.tensor(turns)
        middles = table.quantile(0.5, dim=0).tolist()
        told = []
        for j in (1, 2):
            ratios = table[:, j] / table[:, 0]

            def middle(indices: torch.Tensor, ratios: torch.Tensor = ratios) -> float:
                return float(ratios[indices].quantile(0.5))

            told.append(str(bootstrap(middle, len(ratios))))
        print(f"{n:5}  {middles[0]:6.3f}  {middles[1]:8.3f}  {told[0]:20}  {middles[2]:12.3f}  "
              f"{told[1]}")  # fmt: skip


if __name__ == "__main__":
    main()
