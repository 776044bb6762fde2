"""Claim: `fast` leaves out a quarter to half of the base's operations at 43 to 34 dB.

Bundled base, 30 steps with guidance, `-n` prompts of the protocol with a seed each; each level's
distance from the exact picture of the same seed, in dB of 255 (median, 95 % interval over the
pictures), and its share of the base's operations, which the plan says. Seconds are printed too, of
one picture after another. `python benchmarks/fast.py [-n 24] [--steps 30]`.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch

import sfumato as sf
from sfumato.measure.heldout import questions
from sfumato.metrics.kernel import bootstrap
from sfumato.models import cost

WAYS = {
    "low": sf.Fast("low"),
    "mid": sf.Fast("mid"),
    "high": sf.Fast("high"),
    "guidance 3": sf.Fast("low", guidance=3),
    "deep 2": sf.Fast("mid", guidance=1),
    "deep 3": sf.Fast("high", guidance=1),
}


def decibels(one: Any, other: Any) -> float:
    """Of two pictures of 8 bits; 99 where they are equal."""
    error = np.mean((np.asarray(one.convert("RGB"), float) - other) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else 99.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=24)
    parser.add_argument("--steps", type=int, default=30)
    asked = parser.parse_args()
    model = sf.load("emoji")
    prompts = [question.label for question in questions()][: asked.n]
    distances: dict[str, list[float]] = {name: [] for name in WAYS}
    seconds = dict.fromkeys(["exact", *WAYS], 0.0)
    for seed, prompt in enumerate(prompts):
        process = model.process(f"{prompt}, 3d render", steps=asked.steps, stages=1)
        began = time.perf_counter()
        exact = np.asarray(process.sample(seed).images[0].convert("RGB"), float)
        seconds["exact"] += time.perf_counter() - began
        for name, fast in WAYS.items():
            began = time.perf_counter()
            picture = (process | fast).sample(seed).images[0]
            seconds[name] += time.perf_counter() - began
            distances[name].append(decibels(picture, exact))
    print(f"{model.choice.dtype}, {asked.steps} steps, {len(prompts)} pictures")
    print("level        operations   dB                       s a picture")
    print(f"{'exact':12} {1:10.0%}   {'':24} {seconds['exact'] / len(prompts):.3f}")
    for name, fast in WAYS.items():
        values = torch.tensor(distances[name])

        def middle(indices: torch.Tensor, values: torch.Tensor = values) -> float:
            return float(values[indices].quantile(0.5))

        share = cost.work((process | fast).resolved())
        spread = str(bootstrap(middle, len(values)))
        print(f"{name:12} {share:10.0%}   {spread:24} {seconds[name] / len(prompts):.3f}")


if __name__ == "__main__":
    main()
