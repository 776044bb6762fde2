"""Inpainting: what the mask leaves black is kept bit for bit, the rest is drawn by the prompt."""

from pathlib import Path

from PIL import Image, ImageDraw

import sfumato as sf

bear = Path(__file__).parent / "pictures" / "teddy-bear.png"
model = sf.load("emoji")
mask = Image.new("L", sf.open_image(bear).size)
ImageDraw.Draw(mask).rectangle((128, 0, 256, 256), fill=255)
result = (model.process("bear, 3d render", n=3) | sf.Inpaint(bear, mask=mask)).sample(seed=0)
before = {"picture": bear, "mask": mask}
result.sheet(before, columns=5).save("inpaint.png")
