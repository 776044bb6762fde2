"""ILVR, preset "scribble": draw on a picture; held until t = 0.2, then free to make it real."""

from pathlib import Path

from PIL import ImageDraw

import sfumato as sf

model = sf.load("emoji")
picture = sf.open_image(Path(__file__).parent / "pictures" / "ice-cream.png")
scribbled = picture.copy()
ImageDraw.Draw(scribbled).ellipse((106, 20, 150, 64), fill="#d3202f")
process = model.process("ice cream with a cherry, 3d render", n=3)
result = (process | sf.ILVR.preset("scribble", scribbled)).sample(seed=0)
before = {"picture": picture, "scribble": scribbled}
result.sheet(before, columns=5).save("ilvr_scribble.png")
