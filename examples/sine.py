"""SINE: a model tuned on one picture's parts guides the model it was made of, more and more.

Takes a minute on two cores.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import sfumato as sf

photo = Path(__file__).parent / "pictures" / "ice-cream.png"
with tempfile.TemporaryDirectory() as root:
    pictures, run = Path(root) / "pictures", Path(root) / "ice"
    pictures.mkdir()
    (pictures / photo.name).write_bytes(photo.read_bytes())
    options = ["--patches", "--steps", "100", "--quiet"]
    command = ["dreambooth", str(pictures), "--class", "ice cream", "-o", str(run), *options]
    subprocess.run([sys.executable, "-m", "sfumato.cli.main", *command], check=True)
    caption = json.loads((run / "run.json").read_text())["prompt"]
    ground = "ice cream, 3d render, blue background"
    asked = sf.load("emoji").process(ground)
    shown = {"the picture": photo, "model": asked.sample(seed=2).images[0]}
    for original in (0.7, 0.5, 0.3):
        sine = sf.SINE(tuned=str(run), caption=caption, original=original)
        shown[f"original {original:g}"] = (asked | sine).sample(seed=2).images[0]
    alone = sf.load("emoji").adapt(run).process(f"{caption}, blue background")
    shown["tuned alone"] = alone.sample(seed=2).images[0]
    sf.sheet(list(shown.values()), list(shown), columns=6).save("sine.png")
