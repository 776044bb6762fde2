"""Instruction loss: a CLIP steers to another style than the prompt's, harder and harder."""

from pathlib import Path

import sfumato as sf

photo = Path(__file__).parent / "pictures" / "ice-cream.png"
edit = sf.load("emoji").process("ice cream, flat") | sf.SDEdit(photo, t0=0.6)
shown = {"photo": photo}
for weight in (0, 500, 1000, 2000):
    steered = edit | sf.Instruction(weight, prompt="ink drawing")
    shown[f"weight {weight}"] = steered.sample(seed=1).images[0]
sf.sheet(list(shown.values()), list(shown), columns=5).save("instruction.png")
