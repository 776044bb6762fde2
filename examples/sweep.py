"""A sweep: a field's range times seeds, with the curve that shows what the field trades."""

from pathlib import Path

import sfumato as sf

painting = Path(__file__).parent / "strokes" / "red-apple.png"
process = sf.load("emoji").process("red apple, 3d render", stages=1) | sf.SDEdit(painting)
done = sf.sweep(process, "sdedit.t0=0.2:0.8:4", "sweep", seeds=3)
print(f"realism and faithfulness balance at t0 = {done.curve.chosen}")
(done.folder / "sheet.png").rename("sweep.png")
