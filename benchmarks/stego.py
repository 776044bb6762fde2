"""Claim (Diffusion-Stego, arXiv 2305.18726): bits hidden in x_T are read from the finished picture.

Pictures of n prompts on a coloured ground and on white, without guidance, the same seeds: share of
raw bits that are read right from PNG and from JPEG at quality 95 and 75 (one and two bits a value),
how long a message is still read, and how far the pictures are from those of plain noise: kernel
distance of the judge's features to real pictures. 95 % bootstrap intervals over pictures.
`python benchmarks/stego.py [--model emoji] [-n 5] [-o out/stego]`.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

import sfumato as sf
from evidence import options, sheet
from sfumato.images import from_tensor
from sfumato.measure import heldout
from sfumato.measure.evaluate import pixels
from sfumato.methods.inner.payload import Payload
from sfumato.methods.inner.projection import Projection
from sfumato.methods.inner.way_back import Back
from sfumato.metrics.kernel import kernel_estimate, mean

KINDS: tuple[tuple[Literal["mn", "mb", "mc"], int], ...] = (
    ("mn", 1), ("mc", 1), ("mb", 1), ("mb", 2),
)  # fmt: skip
GROUNDS = {"blue": ", blue background", "white": ""}
FILES: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"}, "jpeg 95": {"format": "JPEG", "quality": 95},
    "jpeg 75": {"format": "JPEG", "quality": 75},
}  # fmt: skip
STEPS, SEED, ROWS = 40, 0, 5
LENGTHS = (4, 16, 64, 256, 1024)


def filed(x: Tensor, **how: Any) -> Tensor:
    """Pixels as they come out of a file."""
    rows = []
    for one in x:
        stream = io.BytesIO()
        from_tensor(one).save(stream, **how)
        rows.append(pixels(Image.open(stream)))
    return torch.stack(rows)


def longest(values: Tensor, sent: Tensor, key: str) -> int:
    """Bytes of the longest message that these bits would have carried home.

    A payload's bits are turned by a stream of its own; wrong ones stay wrong wherever they stand.
    """
    payload, best = Payload(len(sent), key), 0
    right = values * (2.0 * sent - 1)  # above 0 where the bit was read
    for length in LENGTHS:
        if length <= payload.room:
            text = "x" * length
            if payload.read((2.0 * payload.write(text, "stego") - 1) * right) == text:
                best = length
    return best


def main() -> None:
    given = options(__doc__, 5, "stego")
    model = sf.load(given.model, dtype="float32")
    asked = heldout.questions()[: given.n]
    shown: dict[str, Tensor] = {}
    for ground, words in GROUNDS.items():
        prompts = tuple(f"{question.label}, 3d render{words}" for question in asked)
        every: dict[str, list[Tensor]] = {}
        kept: dict[str, list[Tensor]] = {}
        reach: dict[str, list[int]] = {}
        for first in range(0, given.n, ROWS):
            part = prompts[first : first + ROWS]
            base: Any = replace(model.process(n=len(part), steps=STEPS, stages=1), prompts=part)
            base = replace(base, solver="iplms") | sf.CFG(1) | sf.Threshold("none")
            with torch.no_grad():
                plain = base.begin(seed=SEED + first)
                kept.setdefault("plain", []).append(plain.walk().clamp(-1, 1))
                for kind, bits in KINDS:
                    name = f"{kind} {bits}"
                    projection = Projection(kind, bits)
                    method = sf.Stego(message="x", projection=kind, bits=bits, check=False)
                    loop = (base | method).begin(seed=SEED + first)
                    x = loop.walk()
                    sent = loop.start.bits
                    kept.setdefault(name, []).append(x.clamp(-1, 1))
                    for file, how in FILES.items():
                        values = projection.values(Back(loop.run).noise(filed(x, **how))[0])
                        right = ((values > 0) == sent.bool()).float().mean(1)
                        every.setdefault(f"{name} {file}", []).append(right)
                        for row in values:
                            reach.setdefault(f"{name} {file}", []).append(longest(row, sent, ""))
        print(f"{ground}: projection, file   bits read right          message of so many bytes")
        for name, parts in every.items():
            lengths = sorted(reach[name])
            median = lengths[len(lengths) // 2]
            print(f"  {name:14} {mean(torch.cat(parts))!s:26} median {median}, least {lengths[0]}",
                  flush=True)  # fmt: skip
        bench = heldout.bench("3d render")
        real = bench.features[: given.n] / bench.spread
        print("  kernel distance to real pictures of the prompts (on white)")
        for name, parts in kept.items():
            pictures = torch.cat(parts)
            features = bench.look(pictures)[0] / bench.spread
            print(f"  {name:14} {kernel_estimate(features, real)}", flush=True)
            shown[f"{ground} {name}"] = pictures
    sheet(given.output / "sheet.png", shown, rows=8)


if __name__ == "__main__":
    main()
