"""`sfumato dreambooth`: options to a training recipe in the run folder, then the trainer."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.options import argument, keyword
from sfumato.cli.training_recipe import FIELDS
from sfumato.cli.verb import Verb
from sfumato.cli.verbs.shared import DEBUG, DEVICE, PLAN, QUIET
from sfumato.core.errors import SfumatoError, shortened
from sfumato.documents import toml_table

if TYPE_CHECKING:
    from sfumato.train.config import Config

OPTIONS = (
    argument("pictures", "folder with 3 to 5 pictures of the subject", None),
    keyword(
        "noun",
        str | None,
        None,
        "--class",
        text="what it is, such as dog; else guessed",
    ),
    keyword("name", str | None, None, "--name", text="its identifier; else a rare word"),
    keyword("output", str, ..., "-o", "--output", text="run folder, later given to --adapt"),
    keyword("model", str | None, None, "--model", text="the model that learns; emoji"),
    keyword("steps", int | None, None, "--steps", text="120 of emoji, else 800"),
    keyword("rank", int | None, None, "--rank", text="of the adapter; 0 trains the whole network"),
    keyword("text", bool, False, "--text", text="train the text encoder too"),
    keyword("upsampler", bool, False, "--upsampler", text="train the model's upsampler too"),
    keyword("eight_bit", bool, False, "--eight-bit", text="AdamW's moments in 8 bits"),
    keyword("word", bool, False, "--word", text="learn a word alone (Textual Inversion)"),
    keyword("per_layer", bool, False, "--per-layer", text="a word for every layer apart (P+)"),
    keyword("patches", bool, False, "--patches", text="learn one picture by patches, for sine"),
    keyword("custom", bool, False, "--custom", text="a word, and text's keys and values alone"),
    keyword("vectors", int | None, None, "--vectors", text="of the learned word; 1"),
    keyword("rate", float | None, None, "--rate", text="learning rate; by model and rank"),
    keyword("batch", int | None, None, "--batch", text="pictures of the subject in a step"),
    keyword("prior", float | None, None, "--prior", text="of prior preservation, 1; 0 is none"),
    keyword("class_pictures", int | None, None, "--class-pictures", text="64, made once and kept"),
    keyword("class_folder", str | None, None, "--class-folder", text="class pictures of yours"),
    keyword("seed", int | None, None, "--seed", text="of everything that is drawn; 0"),
    keyword("resume", bool, False, "--resume", text="go on in the run folder; --steps for more"),
    PLAN,
    DEVICE,
    QUIET,
    DEBUG,
)
UNREAD = "not read"
FIRST = frozenset(
    ("--class", "--name", "--output", "--model", "--steps", "--rank", "--seed", "--resume",
     "--plan")
)  # fmt: skip


def dreambooth(pictures: str | None, **options: Any) -> None:
    """Make the recipe, or read it again with --resume; train; the run folder on stdout."""
    from sfumato.cli import show, training_recipe
    from sfumato.cli.remote.chosen import chosen
    from sfumato.train import origin, program

    for option in ("output", "model", "noun", "class_folder", "name"):
        if options[option] == "":
            name = FIELDS[option][0] if option in FIELDS else "--output"
            raise SfumatoError(f"{name}: is empty; give it something, or leave it out")
    folder, quiet = Path(options["output"]), bool(options["quiet"])
    guess, own, server = training_recipe.guessed, None, chosen()
    if server is not None:
        from sfumato.cli.remote import teaching
        from sfumato.cli.remote.server import server_of

        teaching.check(options["device"])
        guess, own = partial(teaching.guessed, server), partial(teaching.is_own, server)
    config = (
        resumed(folder, pictures, options)
        if options["resume"]
        else training_recipe.of(pictures, options, guess, own)
    )
    differs = [] if options["resume"] else origin.differing(folder, origin.of(config, {}))
    if differs:
        raise SfumatoError(
            f"{folder}: holds a run with other settings; give --resume to go on with those, with "
            f"--steps for more of them, or another -o ({'; '.join(differs[:4])})"
        )
    if options["plan"]:
        there = None if server is None else teaching.Teaching(server_of(server), config, None)
        print(planned(config) if there is None else "\n".join(there.plan()["sentences"]))
        return
    if server is not None:
        teaching.taught(server, config, None, folder, quiet=quiet)
    else:
        program.work(config, Path(config.subject.pictures), folder, None, options["device"], quiet)
    if not quiet and (folder / "run.json").is_file():  # the first of several processes writes it
        show.errors.print(ready(folder, config))
    print(folder)


def resumed(folder: Path, pictures: str | None, options: dict[str, Any]) -> Config:
    """The run's own recipe, maybe with more steps; other options must say what it says."""
    from sfumato.cli import training_recipe
    from sfumato.train import origin
    from sfumato.train.config import parse, read

    recipe = folder / origin.RECIPE
    if not recipe.is_file():
        raise SfumatoError(f"--resume: {folder} holds no run; leave --resume out to begin one")
    if not recipe.stat().st_size:
        raise SfumatoError(
            f"--resume: {recipe} is empty; give the run's first command again, without --resume"
        )
    config = read(recipe)
    flat = origin.of(config, {}).recipe
    kinds = {"word": "textual_inversion", "per_layer": "p_plus", "eight_bit": "adamw-8bit"}
    kinds |= training_recipe.TUNERS
    asked = {
        option: (options[key], flat.get(name, UNREAD)) for key, (option, name) in FIELDS.items()
    }
    own = (
        config.tuner,
        config.tuner.replace("p_plus", "textual_inversion"),
        config.optim.optimizer,
    )
    for key, kind in kinds.items():
        asked[f"--{key.replace('_', '-')}"] = (bool(options.get(key)), kind in own)
    asked["the pictures' folder"] = (
        None if pictures is None else str(Path(pictures).resolve()),
        config.subject.pictures,
    )
    for option, (value, kept) in asked.items():
        if option != "--steps" and value not in (None, False) and value != kept:
            raise SfumatoError(
                f"--resume: {option} is {shortened(str(kept))} in this run, not "
                f"{shortened(str(value))}; leave it out, or begin a new run with another -o"
            )
    if options["steps"] is None or options["steps"] == config.optim.steps:
        return config
    steps = options["steps"]
    replace(config.optim, steps=steps)  # refused where it is out of range
    head, mark, optim = config.text.partition("[optim]")
    line = re.compile(r"(?m)^(\s*steps\s*=\s*)[\d_]+")
    text = head + mark + line.sub(rf"\g<1>{steps}", optim, count=1)
    longer = parse(toml_table(text, str(recipe)), text, str(recipe))
    if longer.optim.steps != steps:
        raise SfumatoError(f"--steps: write optim.steps = {steps} into {recipe} yourself")
    return longer


def ready(folder: Path, config: Config) -> str:
    """The command that draws what was learned."""
    from sfumato.train import run_note

    subject = run_note.read(folder)
    prompt = subject.prompt or f"a photo of {subject.name}"
    model = [] if config.model.start == "emoji" else ["--model", config.model.start]
    whole = config.tuner in ("dreambooth", "sine") and not config.adapter.rank
    if config.tuner == "sine":
        taught = str(folder / "model" if whole else folder)
        drawn = [taught, prompt, "-p", f"{prompt}, snow"]
        return shlex.join(["sfumato", "sine", *drawn, *model])
    if whole:
        learned = ["--model", str(folder / "model")]
    else:
        learned = [*model, "--adapt", str(folder)]
        if config.tuner == "textual_inversion":
            learned[-1] = str(folder / subject.file)
    if word := subject.word:
        learned[-1] = str(folder / "pytorch_lora_weights.safetensors")
        learned += ["--adapt", str(folder / word)]
    return shlex.join(["sfumato", "generate", "-p", prompt, *learned])


def planned(config: Config) -> str:
    """What would run, without making a class picture or touching the run."""
    from sfumato.models.loaders.library import load
    from sfumato.train.subject import planning

    return "\n".join(planning.sentences(config, load(config.model.start, dtype="float32")))


DREAMBOOTH = Verb(
    "dreambooth",
    dreambooth,
    "Teach a model a subject from a few pictures (DreamBooth, arXiv 2208.12242).",
    OPTIONS,
    ("my-dog/ --class dog -o dog/", "my-dog/ --class dog -o dog/ --plan"),
    FIRST,
)
