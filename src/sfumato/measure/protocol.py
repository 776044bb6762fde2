"""DreamBooth's own benchmark (arXiv 2208.12242, section 4): every subject in every prompt.

Reads the public data set where the user has it: a folder of photos for each subject, and
prompts_and_classes.txt, which says their classes and the prompts. The measures are taken by
networks that the user has; what cannot be measured is left out and said.
"""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato import images
from sfumato.core.errors import SfumatoError
from sfumato.images.folders import pictures_in
from sfumato.measure import features
from sfumato.measure.features import Features
from sfumato.measure.sweep import spread
from sfumato.metrics import fidelity
from sfumato.metrics.kernel import Estimate
from sfumato.models import replay
from sfumato.models.cascade import base_of
from sfumato.models.loaders.library import load
from sfumato.models.model import Model
from sfumato.train import told
from sfumato.train.subject.class_pictures import pixels
from sfumato.train.subject.shots import read_shots

log = logging.getLogger("sfumato")

FILE = "prompts_and_classes.txt"
HEADINGS = ("classes", "prompts", "object prompts", "live subject prompts")
LIVE = ("cat", "dog")
"""Classes of the public set that get the prompts of live subjects; its file does not say which."""
MEASURES = {"DINO": "dino", "CLIP-I": "clip", "CLIP-T": "clip", "PRES": "dino", "DIV": "lpips"}
"""Each with the network that it needs."""
STRIDE = 1000
"""Picture k of prompt i has seed + STRIDE i + k; the class alone comes after the last prompt."""
CLASS_BATCHES = 4
"""The class alone gets as many pictures as this many prompts."""
LITERAL = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")


@dataclass(frozen=True)
class Subject:
    """name: of its folder; noun: its class; templates: its prompts, {0} its name, {1} its class."""

    name: str
    noun: str
    folder: Path
    templates: tuple[str, ...]

    def prompts(self, identifier: str = "") -> list[str]:
        """The prompts with what the subject is called, or without it."""
        said = (t.replace("{0}", identifier).replace("{1}", self.noun) for t in self.templates)
        return [" ".join(text.split()) for text in said]


def subjects(data: str | Path, left: list[str]) -> list[Subject]:
    """The subjects of a folder in the public layout; what is left out goes to `left`."""
    given = Path(data).expanduser()
    folder = given / "dataset" if (given / "dataset").is_dir() else given
    if not folder.is_dir():
        raise SfumatoError(f"data {data}: no such folder; give the public data set's `dataset`")
    near = [folder / FILE, folder.resolve().parent / FILE]
    file = next((place for place in near if place.is_file()), None)
    if file is None:
        raise SfumatoError(f"data {data}: no {FILE} in it or beside it, which has the prompts")
    classes, lists = parsed(file.read_text(encoding="utf-8-sig", errors="replace"))
    found = []
    for name, noun in classes.items():
        kind = HEADINGS[3 if noun in LIVE else 2]
        if not (folder / name).is_dir():
            leave(left, f"{name}: no such folder in {folder}")
        elif not lists[kind]:
            raise SfumatoError(f"{FILE}: no {kind}, which {name} needs")
        else:
            found.append(Subject(name, noun, folder / name, tuple(lists[kind])))
    if not found:
        raise SfumatoError(f"data {data}: no folder there is a subject of {FILE}")
    return found


def leave(left: list[str], line: str) -> None:
    left.append(line)
    log.warning("%s; left out", line)


def parsed(text: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Classes by subject, and prompts by heading. What is written as code is read, never run."""
    classes: dict[str, str] = {}
    lists: dict[str, list[str]] = {heading: [] for heading in HEADINGS[2:]}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        said, where = line.strip(), f"{FILE}, line {number}"
        heading = " ".join(said.lower().strip("#: ").split())
        if heading in HEADINGS:
            section = heading
        elif section == "classes" and said:
            name, _, noun = (part.strip() for part in said.partition(","))
            if not (name and noun) or Path(name).name != name or name == "..":
                raise SfumatoError(f"{where}: {said!r} is not SUBJECT,CLASS")
            if name != "subject_name":
                classes[name] = noun
        elif section in lists and ("'" in said or '"' in said):
            lists[section] += templates(said, where)
    if not classes:
        raise SfumatoError(f"{FILE}: no lines SUBJECT,CLASS under a heading Classes")
    return classes, lists


def templates(line: str, where: str) -> list[str]:
    """The strings of a line of code, each with {0} and {1}."""
    try:
        found = [str(ast.literal_eval(literal)) for literal in LITERAL.findall(line)]
    except (SyntaxError, ValueError):
        found = []
    whole = bool(found) and not re.search("['\"]", LITERAL.sub("", line))
    if not whole or any(sorted(re.findall(r"\{.*?\}", t)) != ["{0}", "{1}"] for t in found):
        raise SfumatoError(f"{where}: {line!r} has no prompt with {{0}} and {{1}} in quotes")
    return found


@dataclass(frozen=True, eq=False)
class Networks:
    """What measures: DINO's features; a CLIP's of pictures, and of texts; LPIPS's vectors."""

    dino: Features | None = None
    clip: Features | None = None
    text: Callable[[Sequence[str]], Tensor] | None = None
    lpips: Features | None = None

    @classmethod
    def of(cls, dino: str | None, clip: str | None, lpips: str | None, device: str) -> Networks:
        """From folders of transformers, and for LPIPS a TorchScript file."""
        if not (dino or clip or lpips):
            raise SfumatoError("eval: nothing to measure with; give --dino, --clip or --lpips")
        seen, said = features.clip(clip, device) if clip else (None, None)
        return cls(
            features.load(dino, device, token=True) if dino else None,
            seen,
            said,
            features.lpips(lpips, device) if lpips else None,
        )

    def look(self, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
        """Vectors (N, d) of pictures (3, H, W) in [-1, 1], by the measure that they are for."""
        networks = {"DINO": self.dino, "CLIP-I": self.clip}
        return {
            name: torch.cat([network(picture[None]) for picture in pictures])
            for name, network in networks.items()
            if network is not None
        }


def distances(lpips: Features, pictures: Sequence[Tensor]) -> Tensor:
    """LPIPS of every two pictures, (N, N)."""
    vectors = [lpips(picture[None])[0] for picture in pictures]
    rows = [[float((a - b).square().sum()) for b in vectors] for a in vectors]
    return torch.tensor(rows)


def measured(
    networks: Networks,
    photos: Sequence[Tensor],
    prompts: Sequence[tuple[str, list[Path]]],
    of_class: Sequence[Path],
) -> tuple[dict[str, Estimate], dict[str, float]]:
    """A subject's measures, and the mean cosines of its different photos.

    prompts: what CLIP reads, with the pictures. Intervals are over pictures, DIV's over prompts.
    """
    values: dict[str, list[Tensor]] = {name: [] for name in MEASURES}
    real = networks.look(photos)
    for text, files in prompts:
        made = [pixels(images.open_image(file)) for file in files]
        seen = networks.look(made)
        for name, vectors in seen.items():
            values[name].append(fidelity.subject_fidelity(vectors, real[name]))
        if networks.text is not None:
            said = networks.text([text]).expand(len(made), -1)
            values["CLIP-T"].append(fidelity.prompt_fidelity(seen["CLIP-I"], said))
        if networks.lpips is not None and len(made) > 1:
            if len({picture.shape for picture in made}) > 1:
                raise SfumatoError(f"{files[0].parent}: pictures of several sizes have no LPIPS")
            values["DIV"].append(
                torch.tensor([fidelity.diversity(distances(networks.lpips, made))])
            )
    if networks.dino is not None and of_class:
        others = networks.look([pixels(images.open_image(file)) for file in of_class])
        values["PRES"].append(fidelity.pres(others["DINO"], real["DINO"]))
    ceilings = {name: fidelity.real_ceiling(v) for name, v in real.items() if len(v) > 1}
    return {n: spread(torch.cat(v).tolist()) for n, v in values.items() if v}, ceilings


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
    loaded: dict[str, Model] = field(default_factory=dict)

    def note(self, one: Subject) -> Path:
        """What a subject's run says of itself, once it is finished."""
        return self.folder / one.name / "run.json"

    def tuned(self, one: Subject) -> tuple[Model, str, str]:
        """The model that learned the subject, what it is called there, and the class alone."""
        file = self.note(one)
        run = file.parent
        try:
            note = told.read(run)
        except SfumatoError as error:
            raise SfumatoError(
                f"{file}: names no subject; it is no run of dreambooth ({error})"
            ) from None
        name, noun = note.name, note.noun
        if noun != one.noun:
            log.warning("%s: tuned as a %s, asked for as a %s", run, noun, one.noun)
        if (run / "model").is_dir():  # the whole network was trained
            model = load(str(run / "model"), device=self.device, dtype=self.dtype)
        elif base := self.model or note.model:
            if base not in self.loaded:
                self.loaded[base] = load(base, device=self.device, dtype=self.dtype)
            model = self.loaded[base].adapt(run)
        else:
            raise SfumatoError(f"{file}: names no model; give --model")
        # in the words of the training: the bundled model's captions have no articles
        spoken, known = note.prompt, f"{name} {noun}"
        of_class = spoken.replace(known, one.noun) if known in spoken else f"a {one.noun}"
        return model, name, of_class

    def pictures(
        self, one: Subject, done: Callable[[], None]
    ) -> tuple[list[list[Path]], list[Path], dict[str, Any]]:
        """OUTPUT/SUBJECT/PROMPT/K.png, those of the class alone, and what is known of them."""
        model, name, of_class = self.tuned(one)
        place, asked = self.output / one.name, one.prompts(name)
        folders = [place / f"{i:02d}" for i in range(len(asked))]
        files = [[folder / f"{k}.png" for k in range(self.n)] for folder in folders]
        alone = [place / "class" / f"{k}.png" for k in range(CLASS_BATCHES * self.n)]
        jobs = list(zip(asked, files, strict=True))
        jobs += [(of_class, alone[k : k + self.n]) for k in range(0, len(alone), self.n)]
        for i, (text, batch) in enumerate(jobs):
            made(model, text, batch, self.seed + STRIDE * i, self.steps)
            done()
        facts = {
            "identifier": name, "prompts": asked, "class prompt": of_class, "model": model.name,
            "weights": model.weights, "adapters": list(model.adapters), "steps": self.steps,
            "seeds": [self.seed + STRIDE * i for i in range(len(jobs))],
        }  # fmt: skip
        return files, alone, facts


def made(model: Model, text: str, files: Sequence[Path], seed: int, steps: int | None) -> None:
    """Make those of a prompt's pictures that are missing or damaged, the first with `seed`."""
    process: Any = model.process(text, n=len(files), steps=steps)
    wanted = model.asked(base_of(process), seed).id
    missing = [file for file in files if not kept(file, wanted, model)]
    if missing:
        files[0].parent.mkdir(parents=True, exist_ok=True)
        for picture, file in zip(process.sample(seed).images, files, strict=True):
            if file in missing:
                picture.save(file)


def kept(file: Path, wanted: str, model: Model) -> bool:
    """Whether a picture is there and whole; one that was made otherwise is refused."""
    try:
        images.open_image(file)
    except SfumatoError:
        return False
    recipe = replay.read(file)
    ran = (recipe.id, recipe.versions.get("weights"), recipe.run.get("dtype"))
    if ran != (wanted, f"sha256 {model.weights}", model.choice.dtype):
        raise SfumatoError(
            f"{file}: was made with another model, adapter, prompt, seed, number of steps or "
            "pictures, or number format; choose another -o, or remove it"
        )
    return True


def there(one: Subject, folder: Path, left: list[str]) -> tuple[list[list[Path]], list[Path]]:
    """Pictures made elsewhere: FOLDER/PROMPT/*.png by the prompt's number from 0, and class/."""
    numbered = {int(p.name): p for p in folder.iterdir() if p.is_dir() and p.name.isdecimal()}
    count = len(one.templates)
    files = [readable(numbered[i], left) if i in numbered else [] for i in range(count)]
    if absent := files.count([]):
        leave(left, f"{folder}: no pictures of {absent} of the {count} prompts")
    alone = readable(folder / "class", left) if (folder / "class").is_dir() else []
    if not alone:
        leave(left, f"{folder}: no pictures of the class alone in `class`")
    return files, alone


def readable(folder: Path, left: list[str]) -> list[Path]:
    listed, files = pictures_in(folder), []
    for name in listed.others:
        leave(left, f"{folder / name}: is no picture")
    for file in listed.pictures:
        try:
            images.open_image(file)
            files.append(file)
        except SfumatoError as error:
            leave(left, str(error))
    return files


def evaluate(
    asked: Sequence[Subject],
    networks: Networks,
    source: Runs | Path,
    left: list[str],
    done: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """All measures as plain data. source: runs to make pictures by, or a folder of made ones.

    Means are over subjects, and so are their intervals. left: what is left out, and why; done:
    called after each prompt.
    """
    rows: list[dict[str, Any]] = []
    for one in asked:
        place = source.note(one) if isinstance(source, Runs) else source / one.name
        try:
            photos = [pixels(shot.picture) for shot in read_shots(one.folder)]
        except SfumatoError as error:
            leave(left, str(error))
            continue
        if not place.exists():
            leave(left, f"{one.name}: no {place}")
            continue
        facts: dict[str, Any] = {}
        if isinstance(source, Runs):
            files, alone, facts = source.pictures(one, done)
        else:
            files, alone = there(one, place, left)
        pairs = [(text, made) for text, made in zip(one.prompts(), files, strict=True) if made]
        if not pairs:
            continue
        found, ceilings = measured(networks, photos, pairs, alone)
        facts |= {"CLIP reads": [text for text, _ in pairs], "real": ceilings}
        facts |= {"photos": len(photos), "pictures": sum(len(made) for _, made in pairs)}
        facts |= {"measures": {name: asdict(value) for name, value in found.items()}}
        rows.append({"name": one.name, "class": one.noun, **facts})
    if not rows:
        raise SfumatoError(f"eval: no subject could be measured: {'; '.join(left)}")
    means, real = {}, {}
    for name, network in MEASURES.items():
        values = [row["measures"][name]["value"] for row in rows if name in row["measures"]]
        apart = [row["real"][name] for row in rows if name in row["real"]]
        if values:
            means[name] = asdict(spread(values))
        else:
            absent = getattr(networks, network) is None
            leave(left, f"{name}: no {'--' + network if absent else 'pictures enough'}")
        if apart:
            real[name] = asdict(spread(apart))
    made = {"subjects": rows, "mean": means, "real": real, "left out": left}
    return {"protocol": "dreambooth", **made}


def cell(value: Mapping[str, Any] | None) -> str:
    """A value with its interval; a single number has none."""
    if value is None:
        return "-"
    interval = " [{low:.3f}, {high:.3f}]" if value["n"] > 1 else ""
    return ("{value:.3f}" + interval).format(**value)


def table(report: Mapping[str, Any]) -> str:
    """The report for people: a row for each subject, the mean, the photos with each other."""
    names = [name for name in MEASURES if name in report["mean"]]
    lines = [["subject", "class", "pictures", *names]]

    def row(first: str, second: str, count: int, values: Mapping[str, Any]) -> None:
        lines.append([first, second, str(count), *(cell(values.get(name)) for name in names)])

    for one in report["subjects"]:
        row(one["name"], one["class"], one["pictures"], one["measures"])
    row("mean", "", sum(one["pictures"] for one in report["subjects"]), report["mean"])
    row("real photos", "", sum(one["photos"] for one in report["subjects"]), report["real"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in lines]
    shown.append("95 % intervals: over a subject's pictures (DIV: its prompts), over subjects")
    if "CLIP-T" in names:
        shown.append("CLIP-T is of the prompts without the subject's name")
    return "\n".join([*shown, *(f"left out: {line}" for line in report["left out"])])
