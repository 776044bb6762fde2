"""SDEdit, compositing: a pasted patch is blended in; the rest stays bit for bit."""

from PIL import Image, ImageDraw

import sfumato as sf

model = sf.load("emoji")
face = model.process("grinning face, 3d render").sample(seed=0).images[0]
heart = model.process("red heart, 3d render").sample(seed=3).images[0].resize((88, 88))
collage, mask = face.copy(), Image.new("L", face.size)
collage.paste(heart, (84, 148))
ImageDraw.Draw(mask).rectangle((76, 140, 180, 244), fill=255)
blend = sf.SDEdit.preset("compositing", collage, mask=mask)
result = (model.process("face with tongue, 3d render", n=2) | blend).sample(seed=1)
before = {"picture": face, "collage": collage, "mask": mask}
result.sheet(before, columns=5).save("compositing.png")
