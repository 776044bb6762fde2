"""ILVR, preset "paint": a painting's colours guide the picture from pure noise."""

from pathlib import Path

import sfumato as sf

painting = Path(__file__).parent / "strokes" / "rose.png"
model = sf.load("emoji")
process = model.process("rose, 3d render", n=4) | sf.ILVR.preset("paint", painting)
result = process.sample(seed=0)
before = {"painting": painting}
result.sheet(before, columns=5).save("ilvr_paint.png")
