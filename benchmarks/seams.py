"""Claim: inpainting shows no seam: across the mask's border a picture changes no more than inside.

Held-out 3D renders with one side erased (left, right, top, bottom in turn) and drawn anew with
their captions, at the base's size and at the cascade's. Ratio: mean step between neighbours across
the border, where the original has drawing on either side, over that of neighbours inside the new
part, in levels of 255 and as a ratio, which grows too where the inside gets flatter; the original's
own beside it. Aim: at most 1.2. `python benchmarks/seams.py`.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from PIL import Image

import sfumato as sf
from sfumato.measure import heldout
from sfumato.metrics.kernel import mean

COUNT = 20


def steps(pixels: np.ndarray[Any, Any], turn: int) -> tuple[float, float]:
    """Mean step across the middle and inside the right half, after turning the picture."""
    turned = np.rot90(pixels.astype("f8"), turn)
    side = turned.shape[1] // 2
    across = np.abs(turned[:, side] - turned[:, side - 1]).mean(1)
    drawn = np.abs(turned[:, side - 4 : side + 4] - 255).max((1, 2)) > 26
    inside = np.abs(np.diff(turned[:, side:], axis=1)).mean(2)[drawn]
    return float(across[drawn].mean()), float(inside.mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="emoji")
    model = sf.load(parser.parse_args().model)
    import torch

    store = heldout.pictures("fluent", 256)
    shown = (store.pixels[:, :3].int() + 255 - store.pixels[:, 3:].int()).clamp(0, 255)
    native = model.card.native[0]
    for side in (native, 256):
        ratios: dict[str, list[tuple[float, float]]] = {"made": [], "original": []}
        for k in range(COUNT):
            whole = Image.fromarray(shown[k].byte().permute(1, 2, 0).numpy())
            picture = whole.resize((side, side), Image.Resampling.BOX)
            turn = k % 4
            erased = np.zeros((side, side), "u1")
            erased[:, side // 2 :] = 255
            mask = Image.fromarray(np.ascontiguousarray(np.rot90(erased, -turn)))
            process = model.process(f"{store.concepts[k].label}, 3d render",
                                    stages=1 if side == native else None)  # fmt: skip
            made = (process | sf.Inpaint(picture, mask)).sample(0).images[0]
            for name, image in (("made", made), ("original", picture)):
                ratios[name].append(steps(np.asarray(image.convert("RGB")), turn))
        for name, found in ratios.items():
            across, inside = (torch.tensor(part) for part in zip(*found, strict=True))
            each = mean(across / inside.clamp_min(1e-3))
            step, within = float(across.mean()), float(inside.mean())
            print(f"{side:4} px, {name:9} step across {step:.1f}, inside {within:.1f}, of the "
                  f"means {step / within:.2f}, mean {each}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
