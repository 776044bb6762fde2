"""ILVR, preset "translation": a 3D picture is the reference, the prompt asks for ink."""

import sfumato as sf

model = sf.load("emoji")
reference = model.process("cat face, 3d render").sample(seed=0).images[0]
held = model.process("cat face, ink drawing", n=4) | sf.ILVR.preset("translation", reference)
result = held.sample(seed=0)
result.sheet({"reference": reference}, columns=5).save("ilvr_translation.png")
