"""Claim: the bundled base draws words better along the reverse SDE than along the ODE.

Prompts of the protocol in 3D, guidance 3, n / 200 seeds each: DPM-Solver++(2M) as an ODE (dpmpp-2m)
and with the noise of the reverse SDE (dpmpp-2m-sde, the card's), by number of steps. The judge's
first name, kernel distance of its features to the real pictures', and the paired difference in
names. `python benchmarks/sde.py [-n 600] [--steps 12,30]`.
"""

from __future__ import annotations

import argparse

import sfumato as sf
from sfumato.measure import heldout
from sfumato.measure.evaluate import sampled
from sfumato.metrics import kernel


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=600)
    parser.add_argument("--steps", default="12,30")
    parser.add_argument("--model", default="emoji")
    asked = parser.parse_args()
    model, bench = sf.load(asked.model), heldout.bench(heldout.STYLE)
    questions = heldout.asked(asked.n)
    texts = [f"{question.label}, {heldout.STYLE}" for question in questions]
    texts *= asked.n // len(questions)
    real = bench.features[: len(questions)] / bench.spread
    print("| steps | solver | top-1 | top-5 | kernel distance | more in top-1, paired |")
    for steps in (int(number) for number in asked.steps.split(",")):
        before = None
        for solver in ("dpmpp-2m", "dpmpp-2m-sde"):
            features, logits = bench.look(sampled(model, texts, steps=steps, solver=solver))
            hits = bench.shares(logits, len(questions))
            far = kernel.kernel_estimate(features / bench.spread, real, paired=True)
            more = "" if before is None else kernel.mean(hits[:, 0] - before)
            before = hits[:, 0]
            named = f"{kernel.mean(hits[:, 0])} | {kernel.mean(hits[:, 1])}"
            print(f"| {steps} | {solver} | {named} | {far} | {more} |", flush=True)


if __name__ == "__main__":
    main()
