"""CLIP guidance: a noised CLIP steers to words, alone or on top of classifier-free guidance."""

import sfumato as sf

model = sf.load("emoji")
process = model.process("hamburger, 3d render")
shown = {}
for cfg in (1, 2):
    for scale in (0, 2, 6):
        made = process | sf.CFG(cfg) | sf.CLIPGuidance(scale)
        shown[f"cfg {cfg}, CLIP {scale}"] = made.sample(seed=5).images[0]
sf.sheet(list(shown.values()), list(shown), columns=6).save("clip_guidance.png")
