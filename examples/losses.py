"""Losses as guides: each holds on to something else of the photo while SDEdit redraws it in ink."""

from pathlib import Path

import sfumato as sf

photo = Path(__file__).parent / "pictures" / "ice-cream.png"
ink = sf.load("emoji").process("ice cream, ink drawing") | sf.SDEdit(photo, t0=0.7)
losses = [sf.Perceptual(), sf.PatchNCE(), sf.LowPass(), sf.TotalVariation(300)]
shown = {"photo": photo, "SDEdit": ink.sample(seed=1).images[0]}
for loss in losses:
    shown[loss.id] = (ink | loss).sample(seed=1).images[0]
sf.sheet(list(shown.values()), list(shown), columns=6).save("losses.png")
