"""Thresholds: how predictions are kept in range under strong guidance."""

import sfumato as sf

model = sf.load("emoji")
process = model.process("hamburger, 3d render") | sf.CFG(7)
ways = {way: sf.Threshold(way) for way in ("none", "static", "dynamic")}
pictures = [(process | threshold).sample(seed=3).images[0] for threshold in ways.values()]
sf.sheet(pictures, list(ways), columns=3).save("threshold.png")
