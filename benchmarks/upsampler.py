"""Claim: 6 steps of dpmpp-2m upsample as faithfully as 12 of DDIM.

Held-out `fluent` pictures, true 32 px input, against their 128 px originals. Needs the picture set:
SFUMATO_DATA, else shared/data/emoji beside the checkout. `python benchmarks/upsampler.py`.
"""

from __future__ import annotations

import io
import json
import math
import os
import statistics
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import torch

import sfumato as sf
from sfumato.core.denoiser import Cond

COUNT, BATCH = 48, 8
SETTINGS = (("ddim", 12), ("ddim", 6), ("dpmpp-2m", 12), ("dpmpp-2m", 6), ("dpmpp-2m", 4))


def pictures() -> list[PIL.Image.Image]:
    """Held-out pictures at 256 px on white."""
    beside = Path(__file__).parent.parent.parent / "shared" / "data" / "emoji"
    folder = Path(os.environ.get("SFUMATO_DATA", beside))
    if not folder.is_dir():
        raise SystemExit(f"no picture set at {folder}; set SFUMATO_DATA")
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    chosen = [e["hex"] for e in entries if e["split"] == "test" and "fluent" in e["styles"]]
    found = []
    with zipfile.ZipFile(folder / "emoji-256.zip") as packed:
        for name in chosen[:COUNT]:
            image = PIL.Image.open(io.BytesIO(packed.read(f"fluent/{name}.webp"))).convert("RGBA")
            white = PIL.Image.new("RGBA", image.size, "white")
            found.append(PIL.Image.alpha_composite(white, image).convert("RGB"))
    return found


def tensor(images: list[PIL.Image.Image], side: int) -> torch.Tensor:
    arrays = [np.asarray(i.resize((side, side), PIL.Image.Resampling.BOX)) for i in images]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 127.5 - 1


def main() -> None:
    images = pictures()
    low, high = tensor(images, 32), tensor(images, 128)
    stage = sf.load("emoji").upsampler(0)
    print(f"{len(images)} held-out pictures\nsolver    steps  PSNR dB (95 % interval)  s a picture")
    for solver, steps in SETTINGS:
        scores, began = [], time.perf_counter()
        for k in range(0, len(images), BATCH):
            part = low[k : k + BATCH]
            process = replace(
                stage,
                solver=solver,
                n_steps=steps,
                n=len(part),
                shape=(3, 128, 128),
                cond=Cond({"low_res": part}),
            )
            made = process.sample(seed=k).clamp(-1, 1)
            errors = (made - high[k : k + BATCH]).square().flatten(1).mean(1)
            scores += [10 * math.log10(4 / float(error)) for error in errors]
        seconds = (time.perf_counter() - began) / len(images)
        half = 1.96 * statistics.stdev(scores) / math.sqrt(len(scores))
        mean = statistics.mean(scores)
        print(f"{solver:9} {steps:5}  {mean:.2f} ± {half:.2f}              {seconds:.2f}")


if __name__ == "__main__":
    main()
