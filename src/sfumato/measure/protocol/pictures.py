"""The pictures that are measured: made by finished runs, or made elsewhere and in folders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfumato import images
from sfumato.core.errors import SfumatoError
from sfumato.images.folders import pictures_in
from sfumato.measure.protocol.subjects import Subject, omit
from sfumato.models import replay
from sfumato.models.cascade import base_of
from sfumato.models.loaders.library import load
from sfumato.models.model import Model
from sfumato.train import run_note

log = logging.getLogger("sfumato")

STRIDE = 1000
"""Picture k of prompt i has seed + STRIDE i + k; the class alone comes after the last prompt."""
CLASS_BATCHES = 4
"""The class alone gets as many pictures as this many prompts."""


@dataclass
class Runs:
    """Run folders named as their subjects. model: instead of the one that a run names."""

    folder: Path
    output: Path
    n: int = 4
    seed: int = 0
    steps: int | None = None
    model: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    offload: str = "none"
    loaded: dict[str, Model] = field(default_factory=dict)

    def note(self, one: Subject) -> Path:
        """What a subject's run says of itself, once it is finished."""
        return self.folder / one.name / "run.json"

    def _load(self, name: str) -> Model:
        return load(name, device=self.device, dtype=self.dtype, offload=self.offload)

    def tuned_model(self, one: Subject) -> tuple[Model, str, str]:
        """The model that learned the subject, what it is called there, and the class alone."""
        file = self.note(one)
        run = file.parent
        try:
            note = run_note.read(run)
        except SfumatoError as error:
            raise SfumatoError(
                f"{file}: names no subject; it is no run of dreambooth ({error})"
            ) from None
        name, noun = note.name, note.noun
        if noun != one.noun:
            log.warning("%s: tuned as a %s, asked for as a %s", run, noun, one.noun)
        if (run / "model").is_dir():  # the whole network was trained
            model = self._load(str(run / "model"))
        elif base := self.model or note.model:
            if base not in self.loaded:
                self.loaded[base] = self._load(base)
            model = self.loaded[base].adapt(run)
        else:
            raise SfumatoError(f"{file}: names no model; give --model")
        # in the words of the training: the bundled model's captions have no articles
        prompt, known = note.prompt, f"{name} {noun}"
        of_class = prompt.replace(known, one.noun) if known in prompt else f"a {one.noun}"
        return model, name, of_class

    def pictures(
        self, one: Subject, done: Callable[[], None]
    ) -> tuple[list[list[Path]], list[Path], dict[str, Any]]:
        """OUTPUT/SUBJECT/PROMPT/K.png, those of the class alone, and what is known of them."""
        model, name, of_class = self.tuned_model(one)
        place, prompts = self.output / one.name, one.prompts(name)
        folders = [place / f"{i:02d}" for i in range(len(prompts))]
        files = [[folder / f"{k}.png" for k in range(self.n)] for folder in folders]
        alone = [place / "class" / f"{k}.png" for k in range(CLASS_BATCHES * self.n)]
        jobs = list(zip(prompts, files, strict=True))
        jobs += [(of_class, alone[k : k + self.n]) for k in range(0, len(alone), self.n)]
        for i, (text, batch) in enumerate(jobs):
            make_missing(model, text, batch, self.seed + STRIDE * i, self.steps)
            done()
        facts = {
            "identifier": name, "prompts": prompts, "class prompt": of_class, "model": model.name,
            "weights": model.weights, "adapters": list(model.adapters), "steps": self.steps,
            "seeds": [self.seed + STRIDE * i for i in range(len(jobs))],
        }  # fmt: skip
        return files, alone, facts


def make_missing(
    model: Model, text: str, files: Sequence[Path], seed: int, steps: int | None
) -> None:
    """Make those of a prompt's pictures that are missing or damaged, the first with `seed`."""
    process: Any = model.process(text, n=len(files), steps=steps)
    wanted = model.asked(base_of(process), seed).id
    missing = [file for file in files if not is_kept(file, wanted, model)]
    if missing:
        files[0].parent.mkdir(parents=True, exist_ok=True)
        for picture, file in zip(process.sample(seed).images, files, strict=True):
            if file in missing:
                picture.save(file)


def is_kept(file: Path, wanted: str, model: Model) -> bool:
    """Whether a picture is there and whole; one that was made otherwise is refused."""
    try:
        images.open_image(file)
    except SfumatoError:
        return False
    recipe = replay.read_recipe(file)
    ran = (recipe.id, recipe.versions.get("weights"), recipe.run.get("dtype"))
    if ran != (wanted, f"sha256 {model.weights}", model.choice.dtype):
        raise SfumatoError(
            f"{file}: was made with another model, adapter, prompt, seed, number of steps or "
            "pictures, or number format; choose another -o, or remove it"
        )
    return True


def generated_elsewhere(
    one: Subject, folder: Path, omitted: list[str]
) -> tuple[list[list[Path]], list[Path]]:
    """Pictures made elsewhere: FOLDER/PROMPT/*.png by the prompt's number from 0, and class/."""
    numbered = {
        int(p.name): p
        for p in folder.iterdir()
        if p.is_dir() and p.name.isascii() and p.name.isdecimal()
    }
    count = len(one.templates)
    files = [readable(numbered[i], omitted) if i in numbered else [] for i in range(count)]
    if absent := files.count([]):
        omit(omitted, f"{folder}: no pictures of {absent} of the {count} prompts")
    alone = readable(folder / "class", omitted) if (folder / "class").is_dir() else []
    if not alone:
        omit(omitted, f"{folder}: no pictures of the class alone in `class`")
    return files, alone


def readable(folder: Path, omitted: list[str]) -> list[Path]:
    listed, files = pictures_in(folder), []
    for name in listed.others:
        omit(omitted, f"{folder / name}: is no picture")
    for file in listed.pictures:
        try:
            images.open_image(file)
            files.append(file)
        except SfumatoError as error:
            omit(omitted, str(error))
    return files
