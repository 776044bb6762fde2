"""SINE: a bear known from one picture, on grounds that it never had.

The model that was tuned on the picture guides the one it was made of. Takes three minutes on two
cores.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import sfumato as sf
from sfumato.images import from_tensor
from sfumato.measure import evaluate, heldout

store = heldout.pictures("fluent", 64)
row = [concept.label for concept in store.concepts].index("teddy bear")
with tempfile.TemporaryDirectory() as root:
    pictures, run = Path(root) / "pictures", Path(root) / "my-bear"
    pictures.mkdir()
    photo = from_tensor(evaluate.on_white(store.pixels)[row])
    photo.resize((256, 256)).save(pictures / "bear.png")
    command = ["dreambooth", str(pictures), "--class", "bear", "--patches", "-o", str(run)]
    subprocess.run([sys.executable, "-m", "sfumato.cli.main", *command, "--quiet"], check=True)
    caption = json.loads((run / "run.json").read_text())["prompt"]
    model = sf.load("emoji")
    tuned, shown = model.adapt(run), {"the one picture": pictures / "bear.png"}
    for ground in ("blue", "green"):
        plain = model.process(f"bear, 3d render, {ground} background")
        ways = {
            "the model": plain,
            "tuned alone": tuned.process(f"{caption}, {ground} background"),
            "SINE": plain | sf.SINE(tuned=str(run), caption=caption, original=0.5),
        }
        for way, process in ways.items():
            shown[f"{way}, {ground}"] = process.sample(seed=2).images[0]
    sf.sheet(list(shown.values()), list(shown), columns=7).save("sine.png")
