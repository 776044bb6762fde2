"""ILVR, preset "translation": a 3D picture is the reference, the prompt asks for ink."""

from pathlib import Path

import sfumato as sf

reference = Path(__file__).parent / "pictures" / "teddy-bear.png"
model = sf.load("emoji")
held = model.process("bear, ink drawing", n=4) | sf.ILVR.preset("translation", reference)
result = held.sample(seed=0)
before = {"reference": reference}
result.sheet(before, columns=5).save("ilvr_translation.png")
