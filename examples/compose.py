"""Methods compose: a painting as the start, a reference's colours, stronger guidance; any order."""

from pathlib import Path

import sfumato as sf

here = Path(__file__).parent
painting, colours = here / "strokes" / "mushroom.png", here / "strokes" / "rose.png"
base = sf.load("emoji").process("mushroom, 3d render")
edit = base | sf.SDEdit(painting, t0=0.6)
both = edit | sf.ILVR(colours, factor=16, stop=0.3) | sf.CFG(4)
pictures = [painting, colours, edit.sample(seed=3).images[0], both.sample(seed=3).images[0]]
captions = ["painting", "colours", "SDEdit", "SDEdit | ILVR | CFG"]
sf.sheet(pictures, captions, columns=4).save("compose.png")
