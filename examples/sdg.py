"""SDG: without a prompt, what a picture is steered to by words, by another picture, by both."""

from pathlib import Path

import sfumato as sf

photo = Path(__file__).parent / "pictures" / "ice-cream.png"
process = sf.load("emoji").process("", stages=1)
shown = {"reference": photo, "nothing": (process | sf.CFG(1)).sample(seed=4).images[0]}
for what in ("content", "structure", "style"):
    shown[what] = (process | sf.SDG(photo, what=what, weight=400)).sample(seed=4).images[0]
shown["words"] = (process | sf.SDG(text="ink drawing", text_weight=400)).sample(seed=4).images[0]
both = process | sf.SDG(photo, weight=400, text="ink drawing", text_weight=400)
shown["content, words"] = both.sample(seed=4).images[0]
sf.sheet(list(shown.values()), list(shown), columns=7).save("sdg.png")
