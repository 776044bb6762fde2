"""Claim: with its noise augmentation lowered, a tuned upsampler keeps a subject's detail; else it
blurs (DreamBooth, arXiv 2208.12242).

Two poses of a hand-drawn figure are taught; the true third pose at the base's size is upsampled.
Mean squared error to the true large picture, values in [-1, 1], for each rate and each deviation of
the noise on its input in training. `python benchmarks/subject_upsampler.py [--steps N]`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional as F

import sfumato as sf
from sfumato.core.denoiser import Cond
from sfumato.train import config, program
from sfumato.train.subject.shots import fit, read_shots
from subject import figure


def error(model: sf.Model, large: Tensor) -> float:
    """Of the upsampled small picture; large: (1, 3, H, W)."""
    low = Cond({"low_res": F.avg_pool2d(large, model.card.factor(2))})
    process = replace(model.upsampler(0), source=None, cond=low, shape=tuple(large.shape[1:]))
    return float((process.sample(seed=0) - large).square().mean())


def taught(pictures: Path, folder: Path, rate: float, noise: float, steps: int) -> None:
    tables: dict[str, Any] = {
        "name": "sharp", "tuner": "dreambooth", "model": {"start": "emoji"},
        "subject": {
            "pictures": str(pictures), "noun": "monster", "wording": "{}", "prior": 0.0,
            "upsampler": True, "low_noise": noise,
        },
        "adapter": {"rank": 8, "alpha": 8.0, "targets": ["conv", "embedding"]},
        "objective": {"times": "uniform", "weighting": "min-snr"},
        "optim": {
            "batch": 4, "steps": steps, "rate": rate, "warmup": 5, "ema": 0.9, "dtype": "float32",
        },
        "run": {"log": 20, "grid": 10**6, "judge": 10**6},
    }  # fmt: skip
    given = config.parse(tables, json.dumps(tables))
    program.work(given, pictures, folder, device="cpu", quiet=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=40)
    given = parser.parse_args()
    plain = sf.load("emoji", dtype="float32")
    with tempfile.TemporaryDirectory() as root:
        every, pictures = Path(root) / "all", Path(root) / "taught"
        for folder in (every, pictures):
            folder.mkdir()
        figure(every)
        for name in ("0.png", "1.png"):
            (pictures / name).write_bytes((every / name).read_bytes())
        shot = next(shot for shot in read_shots(every) if shot.name == "2.png")
        side = plain.card.native[0] * plain.card.factor(2)
        large = fit(shot, [(side, side)])[None]
        print("rate    noise   error of the third pose  seconds")
        print(f"untuned         {error(plain, large):.5f}", flush=True)
        for rate, noise in ((5e-3, 1e-3), (1e-3, 1e-3), (1e-3, 0.12)):
            folder, began = Path(root) / f"{rate}-{noise}", time.monotonic()
            taught(pictures, folder, rate, noise, given.steps)
            seconds = time.monotonic() - began
            found = error(plain.adapt(folder), large)
            print(f"{rate:<7g} {noise:<7g} {found:.5f}                  {seconds:.0f}", flush=True)


if __name__ == "__main__":
    main()
