"""DiffuseIT: a picture becomes an ink drawing by a loss alone; its layout is held by keys."""

from pathlib import Path

import sfumato as sf

photo = Path(__file__).parent / "pictures" / "ice-cream.png"
process, words = sf.load("emoji").process(""), {"text": "ink drawing", "was": "3d render"}
ways = {"as it comes": {}, "no keys": {"structure": 0, "contrast": 0}, "from 0.8": {"t_start": 0.8}}
shown = {"photo": photo}
for name, fields in ways.items():
    shown[name] = (process | sf.DiffuseIT(photo, **words, **fields)).sample(seed=1).images[0]
sf.sheet(list(shown.values()), list(shown), columns=4).save("diffuseit.png")
