"""Inpainting: what the mask leaves black is kept bit for bit, the rest is drawn by the prompt."""

from PIL import Image, ImageDraw

import sfumato as sf

model = sf.load("emoji")
picture = model.process("red apple, 3d render").sample(seed=0).images[0]
mask = Image.new("L", picture.size)
ImageDraw.Draw(mask).rectangle((128, 0, 256, 256), fill=255)
edit = sf.Inpaint(picture, mask=mask)
result = (model.process("red apple, 3d render", n=3) | edit).sample(seed=3)
before = {"picture": picture, "mask": mask}
result.sheet(before, columns=5).save("inpaint.png")
