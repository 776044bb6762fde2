"""Outpainting is inpainting on a larger canvas: margins at left, top, right and bottom."""

import sfumato as sf

model = sf.load("emoji")
picture = model.process("castle, 3d render").sample(seed=4).images[0]
wider = sf.Inpaint(picture, extend=(128, 0, 128, 0))
result = (model.process("castle, 3d render", n=2) | wider).sample(seed=1)
before = {"picture": picture}
result.sheet(before, columns=3).save("outpaint.png")
