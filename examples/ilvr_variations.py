"""ILVR, preset "variations": new pictures that share a reference's layout and colours."""

from pathlib import Path

import sfumato as sf

reference = Path(__file__).parent / "strokes" / "hamburger.png"
model = sf.load("emoji")
process = model.process("hamburger, 3d render", n=4) | sf.ILVR.preset("variations", reference)
result = process.sample(seed=0)
before = {"reference": reference}
result.sheet(before, columns=5).save("ilvr_variations.png")
