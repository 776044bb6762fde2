"""Make what src/sfumato/measure packages: prompts, held-out pictures, judges' views of real ones.

    python tools/measures.py DATA [JUDGE_RUN ...]

DATA is the packed set; each JUDGE_RUN a finished run of recipes/judge-*.toml. The prompts are drawn
once: an existing prompts.json is kept.
"""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from random import Random

import torch
from safetensors.torch import save_file

from sfumato.core.noise import keyed
from sfumato.measure import heldout
from sfumato.train.config import read
from sfumato.train.data import store
from sfumato.train.data.captions import Wording
from sfumato.train.data.compose import Composer, Mix
from sfumato.train.tuners.judge import merged

STYLES = ("fluent", "flat", "ink")


def prompts(data: Path) -> None:
    """200 classes of twins that have pictures in all three Fluent styles, one concept of each."""
    target = heldout.HERE / "prompts.json"
    if target.exists():
        return
    config = read(Path("recipes/judge-fluent.toml"))
    pictures = store.read(data, size=64, without=config.data.without)
    classes, found = merged(pictures), pictures.index()
    members: dict[str, list[store.Concept]] = {}
    for concept in {c.key: c for c in pictures.concepts}.values():
        if all((concept.key, style) in found for style in STYLES):
            members.setdefault(classes[concept.key], []).append(concept)
    rng = Random(keyed("prompts"))
    rows = []
    for twin in rng.sample(sorted(members), k=200):
        concept = rng.choice(members[twin])
        rows.append({"key": concept.key, "label": concept.label, "twin": twin})
    target.write_text(json.dumps(rows, indent=0, ensure_ascii=False), encoding="utf-8")


def held_out(data: Path) -> None:
    """The test split in three styles at 64 px and two at 256 px."""
    heldout.PICTURES.mkdir(exist_ok=True)
    rows = [row for row in store.metadata(data) if row["split"] == "test"]
    for side in (64, 256):
        target = heldout.PICTURES / f"emoji-{side}.zip"
        with (
            zipfile.ZipFile(data / f"emoji-{side}.zip") as source,
            zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as packed,
        ):
            names = set(source.namelist())
            for style in STYLES:
                for row in rows:
                    name = f"{style}/{row['hex']}.webp"
                    if name in names:  # a fixed date, so that the file is the same every time
                        packed.writestr(zipfile.ZipInfo(name), source.read(name))
    kept = [{**row, "styles": [s for s in row["styles"] if s in STYLES]} for row in rows]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in kept)
    (heldout.PICTURES / "metadata.jsonl").write_text(lines + "\n", encoding="utf-8")


def judged(data: Path, run: Path) -> None:
    """Package a judge, and what it says about real pictures of the prompts."""
    folder = heldout.HERE / "judges"
    folder.mkdir(exist_ok=True)
    for file in (run / "model").iterdir():
        shutil.copy(file, folder / file.name)
    (described,) = (run / "model").glob("judge-*.json")
    style = described.stem.removeprefix("judge-")
    net, told = heldout.judge(folder, style)
    config = read(Path(f"recipes/judge-{style}.toml"))
    pictures = store.read(data, size=64, styles=[style], without=config.data.without)
    found = pictures.index()
    still = Composer(pictures, Mix(0, 0, 0, 0, 0), Wording())
    rows = [found[question.key, style] for question in heldout.questions()]
    column = {key: k for k, key in enumerate(told["names"])}
    answers = torch.tensor([column[told["classes"][q.key]] for q in heldout.questions()])
    bench = heldout.Bench(net, answers, torch.empty(0), torch.empty(0), int(told["size"]))
    features, logits = bench.look(still.render([still.still(row) for row in rows], bench.size))
    right = bench.hits(logits, torch.arange(len(rows)))
    save_file(
        {"features": features.half(), "right": right.to(torch.uint8)},
        folder / f"real-{style}.safetensors",
    )
    print(f"{style}: real pictures right {right.float().mean(0).tolist()} (top 1, top 5)")


if __name__ == "__main__":
    packed = Path(sys.argv[1])
    prompts(packed)
    held_out(packed)
    for run in sys.argv[2:]:
        judged(packed, Path(run))
