"""Classifier-free guidance: the same seed at rising scales; 1 is no guidance."""

import sfumato as sf

model = sf.load("emoji")
scales = (1, 2, 3, 5, 8)
process = model.process("hamburger, 3d render")
pictures = [(process | sf.CFG(scale)).sample(seed=2).images[0] for scale in scales]
sf.sheet(pictures, [f"scale {scale}" for scale in scales], columns=5).save("cfg.png")
