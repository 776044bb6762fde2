"""Null-text inversion: a photo found again under guidance, then edited by words alone."""

from pathlib import Path

import sfumato as sf

photo = Path(__file__).parent / "pictures" / "ice-cream.png"
guided = sf.load("emoji").process("ice cream, 3d render", steps=20) | sf.CFG(4)
found = guided | sf.NullText(photo, rate=0.05)
edits = ["ice cream, ink drawing", "green ice cream, 3d render"]
edited = found | sf.PromptToPrompt(edited=edits, layout=0.8, pooled=0.2)
alone = (guided | sf.NullText(photo, inner=0)).sample(seed=0).images
made = [photo, *alone, *edited.sample(seed=0).images]
names = ["photo", "guided alone", "null text", "ink drawing", "green"]
sf.sheet(made, names, columns=5).save("null_text.png")
