"""SDEdit, strokes to picture: a painted hamburger, four seeds in one batch."""

from pathlib import Path

import sfumato as sf

painting = Path(__file__).parent / "strokes" / "hamburger.png"
model = sf.load("emoji")
result = (model.process("hamburger, 3d render", n=4) | sf.SDEdit(painting, t0=0.5)).sample(seed=7)
before = {"strokes": painting}
result.sheet(before, columns=5).save("sdedit.png")
