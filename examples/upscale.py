"""Upscaling: any small picture through the cascade's upsampler alone."""

from pathlib import Path

from PIL import Image

import sfumato as sf

true = sf.open_image(Path(__file__).parent / "pictures" / "ice-cream.png")
small = true.resize((32, 32), Image.Resampling.BOX)
smooth = small.resize((128, 128), Image.Resampling.BICUBIC)
made = (sf.load("emoji").process() | sf.Upscale(small)).sample(seed=0).images[0]
captions = ["32 px", "bicubic", f"upscaled, {made.width} px", "true"]
sf.sheet([small, smooth, made, true], captions, columns=4).save("upscale.png")
