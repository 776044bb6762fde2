"""Custom-Edit: a thing learned from three pictures takes another's place in a picture.

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
    options = ["--custom", "--class-pictures", "16", "--quiet"]
    command = ["dreambooth", str(pictures), "--class", "bear", "-o", str(run), *options]
    subprocess.run([sys.executable, "-m", "sfumato.cli.main", *command], check=True)
    name = json.loads((run / "run.json").read_text())["name"]
    scene = sf.load("emoji").process("panda, 3d render").sample(seed=4).images[0]
    guided = sf.load("emoji").adapt(run).process("panda, 3d render", steps=20)
    found = guided | sf.NullText(scene, rate=0.05)
    edit = sf.PromptToPrompt(edited=(f"{name} bear, 3d render",), layout=0.8, pooled=0.1)
    shown = [pictures / "a.png", scene, *(found | edit).sample(seed=0).images]
    names = ["learned", "scene", "found again", f"{name} bear"]
    sf.sheet(shown, names, columns=4).save("custom_edit.png")
