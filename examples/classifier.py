"""Classifier guidance: a noise-aware classifier steers to a style no word names."""

import sfumato as sf

model = sf.load("emoji")
process = model.process("cat face", stages=1) | sf.CFG(2)
shown = {"without": process.sample(seed=2).images[0]}
for style in ("ink", "fluent", "twemoji"):
    steered = process | sf.Classifier(style, scale=15)
    shown[style] = steered.sample(seed=2).images[0]
sf.sheet(list(shown.values()), list(shown), columns=4).save("classifier.png")
