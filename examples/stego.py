"""Stego: a message in the noise a picture begins from; with the key it is read from the PNG."""

import sfumato as sf

process = sf.load("emoji").process("red apple, 3d render, blue background", stages=1)
shown = {}
for projection in ("mn", "mc", "mb"):
    made = process | sf.Stego(message="at noon", key="elm", projection=projection)
    apple = made.sample(seed=3).images[0]
    read = process | sf.Stego(reveal=apple, key="elm", projection=projection)
    shown[f"{projection}: {read.sample().answers['message']}"] = apple.resize((128, 128))
sf.sheet(list(shown.values()), list(shown)).save("stego.png")
