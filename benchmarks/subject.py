"""Claim: the bundled model learns a subject it never saw; prior preservation keeps its class.

A held-out concept in three drawings and a hand-drawn figure are taught as adapters (120 steps of 4
pictures, DreamBooth, arXiv 2208.12242), the first also without prior preservation. Measured on 24
pictures each, before and after, with 95 % bootstrap intervals: subject fidelity (mean cosine with
the subject's pictures in features of the judge, which never saw them, centred on real emoji), text
agreement (share of the pictures in which the noised CLIP prefers the class noun to 40 other words),
both of the plain class too, which should stay as it was. Writes pictures to docs/dreambooth.
`python benchmarks/subject.py [-o docs/dreambooth] [--steps N]`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

import sfumato as sf
from sfumato.cli.training_recipe import tables
from sfumato.images import from_tensor, sheet
from sfumato.measure import heldout
from sfumato.measure.evaluate import on_white
from sfumato.metrics import fidelity
from sfumato.metrics.kernel import Estimate, mean
from sfumato.train import program
from sfumato.train.config import read
from sfumato.train.subject.class_pictures import pixels
from sfumato.train.tables import toml

N, SEED = 24, 500
WORDS = (
    *("apple", "tree", "car", "house", "cat", "dog", "fish", "bird", "heart", "star", "moon"),
    *("sun", "cloud", "book", "phone", "key", "shoe", "hat", "cake", "bread", "cheese", "egg"),
    *("pizza", "flower", "leaf", "ball", "drum", "guitar", "clock", "lamp", "chair", "bed"),
    *("train", "boat", "rocket", "flag", "face", "hand", "robot", "crown"),
)


def held(folder: Path, label: str = "teddy bear") -> None:
    """A held-out concept: two drawings, and one of them turned."""
    for style in ("fluent", "flat"):
        store = heldout.pictures(style, 64)
        row = [concept.label for concept in store.concepts].index(label)
        picture = from_tensor(on_white(store.pixels)[row])
        picture.resize((256, 256), Image.Resampling.LANCZOS).save(folder / f"{style}.png")
        if style == "fluent":
            turned = ImageOps.mirror(picture).rotate(
                12, Image.Resampling.BICUBIC, fillcolor="white"
            )
            turned.resize((256, 256), Image.Resampling.LANCZOS).save(folder / "turned.png")


def figure(folder: Path) -> None:
    """A figure drawn by hand for this: green, one eye, two horns, in three poses."""
    for k, (x, lean, arms) in enumerate(((128, 0, 20), (110, 14, -30), (146, -12, 45))):
        image = Image.new("RGB", (256, 256), "white")
        draw = ImageDraw.Draw(image)
        for side in (-1, 1):
            horn = [(x + side * 52 + lean, 70), (x + side * 30 + lean, 92), (x + side * 60, 100)]
            draw.polygon(horn, fill="#f2b632")
            draw.line([(x + side * 70, 160), (x + side * 108, 160 - arms)], "#2f8f4e", 16)
            draw.ellipse([x + side * 40 - 22, 216, x + side * 40 + 22, 244], fill="#2f8f4e")
        draw.ellipse([x - 82, 80, x + 82, 232], fill="#43b868")
        draw.ellipse([x - 40 + lean, 104, x + 40 + lean, 184], fill="white")
        draw.ellipse([x - 16 + 2 * lean, 126, x + 16 + 2 * lean, 158], fill="#1d2a44")
        draw.arc([x - 36, 168, x + 36, 214], 20, 160, "#1d2a44", 7)
        image.save(folder / f"{k}.png")


def taught(pictures: Path, noun: str, folder: Path, steps: int, prior: float) -> tuple[str, float]:
    """The identifier and the minutes that it took."""
    given = {
        "model": "emoji", "output": str(folder), "steps": steps, "rank": None, "rate": None,
        "noun": noun, "name": "", "prior": prior, "class_pictures": 64, "class_folder": "",
        "text": False, "word": False, "vectors": 1, "batch": None, "seed": 0,
    }  # fmt: skip
    recipe = tables(str(pictures), given)
    recipe["run"] |= {"grid": 10**6, "judge": 10**6}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(toml(recipe))
    began = time.monotonic()
    program.work(read(folder / "recipe.toml"), pictures, folder, quiet=True)
    name = json.loads((folder / "run.json").read_text())["name"]
    return name, (time.monotonic() - began) / 60


class Ruler:
    """What is measured, with the same features for everything."""

    def __init__(self, pictures: Path, noun: str) -> None:
        self.bench = heldout.bench("3d render")
        real = [sf.open_image(file) for file in sorted(pictures.iterdir())]
        small = [picture.resize((64, 64), Image.Resampling.BOX) for picture in real]
        self.real = self.features(torch.stack([pixels(sf.images.Picture.of(p)) for p in small]))
        self.clip = sf.load("emoji", dtype="float32").clip()
        self.texts = self.clip.text([f"{word}, 3d render" for word in (noun, *WORDS)])

    def features(self, x: Tensor) -> Tensor:
        found, _ = self.bench.look(x)
        return (found - self.bench.features.mean(0)) / self.bench.spread

    def subject(self, x: Tensor) -> Estimate:
        return mean(fidelity.subject_fidelity(self.features(x), self.real))

    def text(self, x: Tensor) -> Estimate:
        found = self.clip.image(x, torch.zeros(len(x)))
        return mean((found @ self.texts.T).argmax(1).eq(0).double())


def made(model: sf.Model, prompt: str) -> tuple[list[Any], Tensor]:
    """Pictures of a prompt, and their pixels at the base's size."""
    process = model.process(prompt, n=N, steps=20, stages=1)
    result: Any = process.sample(seed=SEED)
    return result.images, torch.stack([pixels(picture) for picture in result.images])


class Table:
    """Lines of figures, and the first three pictures behind each."""

    def __init__(self, pictures: Path, noun: str) -> None:
        self.noun, self.ruler = noun, Ruler(pictures, noun)
        self.rows: list[Any] = [sf.open_image(file) for file in sorted(pictures.iterdir())]
        self.captions = ["subject"] * len(self.rows)

    def line(self, what: str, model: sf.Model, prompt: str, minutes: float = 0.0) -> None:
        images, x = made(model, prompt)
        found = f"{self.ruler.subject(x)!s:26} {self.ruler.text(x)!s:24}"
        print(f"{self.noun:8} {what:24} {found} {minutes or '':.3}", flush=True)
        self.rows += images[:3]
        self.captions += [what] * 3

    def save(self, file: Path) -> None:
        shown = [row.resize((96, 96), Image.Resampling.NEAREST) for row in self.rows]
        whole = [sf.images.Picture.of(picture) for picture in shown]
        sheet(whole, self.captions, columns=3).convert("RGB").quantize(256).save(file)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/dreambooth"))
    parser.add_argument("--steps", type=int, default=120)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    plain = sf.load("emoji", dtype="float32")
    print("class    prompt                   subject fidelity           text agreement   minutes")
    with tempfile.TemporaryDirectory() as root:
        for noun, make, priors in (("bear", held, (1.0, 0.0)), ("monster", figure, (1.0,))):
            pictures = Path(root) / noun
            pictures.mkdir()
            make(pictures)
            table = Table(pictures, noun)
            table.line("before: NOUN", plain, noun)
            for prior in priors:
                folder = Path(root) / f"{noun}-{prior}"
                name, minutes = taught(pictures, noun, folder, given.steps, prior)
                model, how = plain.adapt(folder), "prior" if prior else "no prior"
                if prior:
                    table.line("before: NAME NOUN", plain, f"{name} {noun}")
                table.line(f"{how}: NAME NOUN", model, f"{name} {noun}", minutes)
                table.line(f"{how}: blue NAME NOUN", model, f"blue {name} {noun}")
                table.line(f"{how}: NOUN", model, noun)
            table.save(given.output / f"{noun}.png")


if __name__ == "__main__":
    main()
