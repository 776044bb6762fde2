"""Train for some minutes on a machine that is lent bare: pack here, train there, unpack here.

    python tools/away.py pack FOLDER RECIPE[=START] ... [--set NAME:SECTION.KEY=VALUE ...]
    python tools/away.py train FOLDER OUT NAME=SECONDS ... [--data DATA]
    python tools/away.py unpack OUT RUNS

A job is a recipe and float16 weights to start from: those its recipe names, or START, the averages
of a run folder. There, the pace of the first steps says how many steps fit, so that the rate has
decayed when the time is over; whatever happens, what stands then is exported. What comes back are
few files of less than 16 MiB: the exported weights, and all.zip with notes, logs and grids. unpack
makes run folders whose model/ tools/bundle.py takes, and a recipe's model.start too.

There it needs torch, numpy, Pillow, safetensors, tokenizers and pydantic.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from safetensors.torch import load_file, save_file

from sfumato.models.card import Part
from sfumato.train import checkpoint, config, warm_start

AVERAGE = "average/"
ALONE = 2**20
"""Files larger than this come back on their own."""
FIRST = 60
"""Steps that tell the pace; a compiled network is slow in the first ones."""
SPARE = 0.94
"""Of the time, for steps: measures, grids and states take the rest."""
AFTER = 60
"""Seconds to export what stands when the time is over."""
PARTS: dict[str, Part] = {"contrastive": "clip", "classifier": "classifier"}


def changed(recipe: str, section: str, key: str, value: str) -> str:
    """The recipe's text with a section's key set to a TOML value."""
    head, found, rest = re.split(rf"(?m)^(\[{re.escape(section)}\])$", recipe, maxsplit=1)
    own, *others = re.split(r"(?m)^(?=\[)", rest, maxsplit=1)
    line = f"{key} = {value}"
    own, count = re.subn(rf"(?m)^{key} = .*$", line, own)
    if not count:
        own = f"\n{line}{own}"
    return head + found + own + "".join(others)


def pack(folder: Path, jobs: list[str], settings: list[str]) -> None:
    """Write each job's recipe and weights to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        recipe, _, start = job.partition("=")
        plan = config.read(Path(recipe))
        if start:
            state = load_file(Path(start) / "state.safetensors")
            averages = {k.removeprefix(AVERAGE): v for k, v in state.items() if AVERAGE in k}
        else:
            upsampler = bool(plan.model.network.get("low_res"))
            part = PARTS.get(plan.tuner, "upsampler" if upsampler else "base")
            averages, _ = warm_start.earlier(plan.model.start or "emoji", part)
        weights = folder / f"{plan.name}.safetensors"
        save_file({k: v.half().contiguous() for k, v in averages.items()}, weights)
        text = changed(plan.text, "model", "start", json.dumps(str(weights)))
        for setting in settings:
            name, field, value = re.split("[:=]", setting, maxsplit=2)
            section, _, key = field.rpartition(".")
            if name == plan.name:
                text = changed(text, section, key, value)
        target = folder / f"{plan.name}.toml"
        target.write_text(text, encoding="utf-8")
        config.read(target)  # refused here rather than there
        print(f"{plan.name}: {weights.stat().st_size / 2**20:.1f} MiB")


def train(folder: Path, out: Path, jobs: list[str], data: Path) -> None:
    """Train each job for its seconds, and leave what is to come back under `out`."""
    for job in jobs:
        name, _, seconds = job.partition("=")
        end = time.monotonic() + float(seconds)
        run = folder / "runs" / name
        program = [sys.executable, "-m", "sfumato.train", str(folder / f"{name}.toml")]
        program += ["--data", str(data), "-o", str(run)]
        within(end, [*program, "--until", str(FIRST)])
        batch = config.read(run / "recipe.toml").optim.batch
        pace = last(run, "pictures/s") / batch
        steps = FIRST + max(1, int((end - time.monotonic()) * SPARE * pace))
        print(f"{name}: {pace * batch:.0f} pictures/s, {steps} steps", flush=True)
        within(end, [*program, "--steps", str(steps)])
        if not (run / "model").is_dir():  # the time was over; what stands is exported
            _, note = checkpoint.read(run / "state.safetensors")
            within(end + AFTER, [*program, "--steps", str(note.step)])
    collect(folder / "runs", out)


def last(run: Path, column: str) -> float:
    """The newest value of a run's log."""
    with (run / "log.csv").open(encoding="utf-8", newline="") as table:
        return float(list(csv.DictReader(table))[-1][column])


def collect(runs: Path, out: Path) -> None:
    """Large files on their own, all others in one archive."""
    out.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(runs.rglob("*")):
            name = file.relative_to(runs)
            if file.name == "state.safetensors" or not file.is_file():
                continue
            if file.suffix == ".safetensors" and file.stat().st_size > ALONE:
                shutil.copy(file, out / ".".join(name.parts))  # few folders come back
            else:
                archive.write(file, str(name))


def unpack(out: Path, runs: Path) -> None:
    """Run folders of what came back: NAME/model/ is whole again."""
    with zipfile.ZipFile(out / "all.zip") as archive:
        archive.extractall(runs)
    for file in out.glob("*.model.*.safetensors"):
        name, rest = file.name.split(".model.", 1)
        shutil.copy(file, runs / name / "model" / rest)


def within(end: float, command: list[str]) -> None:
    """Run a command, and stop it as ctrl-C does when the time is over."""
    with subprocess.Popen(command) as process:
        try:
            process.wait(max(end - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait(AFTER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing = verbs.add_parser("pack")
    packing.add_argument("folder", type=Path)
    packing.add_argument("jobs", nargs="+")
    packing.add_argument("--set", dest="settings", action="append", default=[])
    training = verbs.add_parser("train")
    training.add_argument("folder", type=Path)
    training.add_argument("out", type=Path)
    training.add_argument("jobs", nargs="+")
    training.add_argument("--data", type=Path, required=True)
    unpacking = verbs.add_parser("unpack")
    unpacking.add_argument("out", type=Path)
    unpacking.add_argument("runs", type=Path)
    options = parser.parse_args()
    if options.verb == "pack":
        pack(options.folder, options.jobs, options.settings)
    elif options.verb == "train":
        train(options.folder, options.out, options.jobs, options.data)
    else:
        unpack(options.out, options.runs)


if __name__ == "__main__":
    main()
