"""Gradient: how hard the losses push, as a part of the noise prediction; their ratio stays."""

from pathlib import Path

import sfumato as sf

photo = Path(__file__).parent / "pictures" / "ice-cream.png"
ink = sf.load("emoji").process("ice cream, ink drawing") | sf.SDEdit(photo, t0=0.7)
steered = ink | sf.PatchNCE() | sf.Instruction(prompt="ink drawing")
shown = {"photo": photo, "as they are": steered.sample(seed=1).images[0]}
for fraction in (0.1, 0.3, 0.6):
    made = (steered | sf.Gradient(fraction)).sample(seed=1)
    shown[f"fraction {fraction:g}"] = made.images[0]
sf.sheet(list(shown.values()), list(shown), columns=5).save("gradient.png")
