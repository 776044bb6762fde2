"""Claim: words act on the bundled base through its attention, not through the pooled vector alone.

The base's own pictures of 64 prompts in two styles, noised to t = 0.95 and 0.5; then the keys and
values, or the pooled vector, of the next prompt instead of the own ones, and both. Change: the
norm of x0's difference, over x0's. Aim: keys and values change at least 50 % and 10 %, and the
pooled vector no more than they. `python benchmarks/attention.py [--model M]`.
"""

from __future__ import annotations

import argparse
import itertools

import torch
from torch import Tensor

import sfumato as sf
from sfumato.core.denoiser import Cond
from sfumato.core.noise import keyed
from sfumato.measure import heldout
from sfumato.measure.evaluate import sampled
from sfumato.metrics.kernel import mean

LEVELS, COUNT = (0.95, 0.5), 64


def change(made: Tensor, before: Tensor) -> Tensor:
    """(N,): relative, in percent."""
    return 100 * (made - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="emoji")
    model = sf.load(parser.parse_args().model, dtype="float32")
    styles = itertools.cycle(("3d render", "ink drawing"))
    texts = [f"{question.label}, {next(styles)}" for question in heldout.questions()[:COUNT]]
    x0 = sampled(model, texts)
    generator = torch.Generator().manual_seed(keyed("attention"))
    noise = torch.randn(x0.shape, generator=generator)
    denoiser, schedule = model.denoiser, model.denoiser.schedule
    own = dict(denoiser.prepare(model.encode(texts)))
    other = {name: value.roll(-1, dims=0) for name, value in own.items()}
    of_pooled = {"text_emb": other["text_emb"]}
    of_attention = {name: value for name, value in other.items() if name != "text_emb"}
    ways = {"keys and values": of_attention, "pooled vector": of_pooled, "both": other}
    print(f"change of x0 in percent, {len(x0)} pictures")
    for t in LEVELS:
        x = schedule.alpha(t) * x0 + schedule.sigma(t) * noise
        with torch.no_grad():
            before = denoiser(x, t, Cond(own)).x0
            found = {name: denoiser(x, t, Cond(own | given)).x0 for name, given in ways.items()}
        parts = [f"{name} {mean(change(made, before))}" for name, made in found.items()]
        print(f"t = {t:g}: {', '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
