"""Null-text inversion: a photo found again under guidance, then edited by words alone."""

from pathlib import Path

import sfumato as sf

photo = Path(__file__).parent / "pictures" / "ice-cream.png"
guided = sf.load("emoji").process("ice cream, 3d render", steps=20) | sf.CFG(4)
edit = sf.PromptToPrompt(edited=("blue ice cream, 3d render",))
shown = {"photo": photo, "guided alone": guided | sf.NullText(photo, inner=0)}
shown["null text"] = guided | sf.NullText(photo, rate=0.05)
made = [photo, *((shown[name]).sample(seed=0).images[0] for name in list(shown)[1:])]
made += (guided | sf.NullText(photo, rate=0.05) | edit).sample(seed=0).images[1:]
sf.sheet(made, [*shown, "blue"], columns=4).save("null_text.png")
