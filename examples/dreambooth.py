"""DreamBooth: three pictures of a teddy the model never saw, then new scenes, manners, colours.

Takes two minutes on two cores.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import ImageOps

import sfumato as sf
from sfumato.images import from_tensor
from sfumato.measure import evaluate, heldout


def drawing(style):
    """Of the packaged held-out pictures."""
    store = heldout.pictures(style, 64)
    row = [concept.label for concept in store.concepts].index("teddy bear")
    return from_tensor(evaluate.on_white(store.pixels)[row]).resize((256, 256))


with tempfile.TemporaryDirectory() as root:
    pictures, run = Path(root) / "pictures", Path(root) / "my-bear"
    pictures.mkdir()
    drawing("fluent").save(pictures / "a.png")
    drawing("flat").save(pictures / "b.png")
    ImageOps.mirror(drawing("fluent")).rotate(12, fillcolor="white").save(pictures / "c.png")
    command = ["dreambooth", str(pictures), "--class", "bear", "-o", str(run), "--quiet"]
    subprocess.run([sys.executable, "-m", "sfumato.cli.main", *command], check=True)
    name = json.loads((run / "run.json").read_text())["name"]
    model = sf.load("emoji").adapt(run, 0.8)  # a little less than trained leaves words more room
    shown = {"subject": pictures / "a.png"}
    for what, prompt in {
        "again": "{}",
        "property change": "blue {}",
        "art rendition": "{}, ink drawing",
        "new scene": "{}, blue background",
        "accessory": "{} and crown",
    }.items():
        made = model.process(prompt.format(f"{name} bear")).sample(seed=3)
        shown[f"{what}: {prompt.format('X bear')}"] = made.images[0]
    sf.sheet(list(shown.values()), list(shown), columns=6).save("dreambooth.png")
