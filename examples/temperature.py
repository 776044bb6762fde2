"""The start's temperature: less noise gives calmer pictures, more gives wilder ones."""

import sfumato as sf

model = sf.load("emoji")
scales = (0.9, 0.95, 1.0, 1.05, 1.1)
process = model.process("castle, 3d render")
pictures = [(process | sf.Temperature(scale)).sample(seed=4).images[0] for scale in scales]
sf.sheet(pictures, [f"temperature {scale}" for scale in scales], columns=5).save("temperature.png")
