"""SDEdit, stroke edit: paint over a picture; only what the strokes cover may change."""

from PIL import ImageDraw

import sfumato as sf

model = sf.load("emoji")
picture = model.process("red apple, 3d render").sample(seed=7).images[0]
painted = picture.copy()
ImageDraw.Draw(painted).ellipse((72, 116, 168, 200), fill="#58a63a")
edit = sf.SDEdit(picture, strokes=painted, t0=0.5, feather=12)
result = (model.process("green apple, 3d render", n=3) | edit).sample(seed=1)
before = {"picture": picture, "painted over": painted}
result.sheet(before, columns=5).save("stroke_edit.png")
