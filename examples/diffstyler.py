"""DiffStyler: the photo's content is kept, its manner changed by words; content 0 to 1."""

from pathlib import Path

import sfumato as sf

photo = Path(__file__).parent / "pictures" / "ice-cream.png"
process = sf.load("emoji").process("ink drawing")
shown = {"photo": photo}
for content in (0.0, 0.25, 0.5, 0.75, 1.0):
    drawn = process | sf.DiffStyler(photo, content=content)
    shown[f"content {content:g}"] = drawn.sample(seed=0).images[0]
sf.sheet(list(shown.values()), list(shown), columns=6).save("diffstyler.png")
