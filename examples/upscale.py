"""Upscaling: any small picture through the cascade's upsampler alone."""

from pathlib import Path

from PIL import Image

import sfumato as sf

true = sf.open_image(Path(__file__).parent / "pictures" / "ice-cream.png")
model = sf.load("emoji")
small = true.resize(model.card.native, Image.Resampling.BOX)
made = (model.process() | sf.Upscale(small)).sample(seed=0).images[0]
smooth = small.resize(made.size, Image.Resampling.BICUBIC)
captions = [f"{small.width} px", "bicubic", f"upscaled, {made.width} px", "true"]
sf.sheet([small, smooth, made, true], captions, columns=4).save("upscale.png")
