"""DreamBooth: three pictures of a hand-drawn figure, then new scenes, manners, colours, company.

Takes two minutes on two cores.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

import sfumato as sf


def drawn(x: int, lean: int, arms: int) -> Image.Image:
    """A green figure with one eye and two horns."""
    image = Image.new("RGB", (256, 256), "white")
    draw = ImageDraw.Draw(image)
    for side in (-1, 1):
        horn = [(x + side * 52 + lean, 70), (x + side * 30 + lean, 92), (x + side * 60, 100)]
        draw.polygon(horn, fill="#f2b632")
        draw.line([(x + side * 70, 160), (x + side * 108, 160 - arms)], "#2f8f4e", 16)
    draw.ellipse([x - 82, 80, x + 82, 232], fill="#43b868")
    draw.ellipse([x - 40 + lean, 104, x + 40 + lean, 184], fill="white")
    draw.ellipse([x - 16 + 2 * lean, 126, x + 16 + 2 * lean, 158], fill="#1d2a44")
    draw.arc([x - 36, 168, x + 36, 214], 20, 160, "#1d2a44", 7)
    return image


with tempfile.TemporaryDirectory() as root:
    pictures, run = Path(root) / "pictures", Path(root) / "my-monster"
    pictures.mkdir()
    for k, pose in enumerate(((128, 0, 20), (110, 14, -30), (146, -12, 45))):
        drawn(*pose).save(pictures / f"{k}.png")
    command = ["dreambooth", str(pictures), "--class", "monster", "-o", str(run), "--quiet"]
    subprocess.run([sys.executable, "-m", "sfumato.cli.main", *command], check=True)
    name = json.loads((run / "run.json").read_text())["name"]
    model = sf.load("emoji").adapt(run)
    shown = {"subject": pictures / "0.png"}
    for what, prompt in {
        "again": "{}",
        "new scene": "{}, blue background",
        "art rendition": "{}, ink drawing",
        "property change": "red {}",
        "accessory": "{} and crown",
    }.items():
        made = model.process(prompt.format(f"{name} monster")).sample(seed=3)
        shown[f"{what}: {prompt.format('X')}"] = made.images[0]
    sf.sheet(list(shown.values()), list(shown), columns=6).save("dreambooth.png")
