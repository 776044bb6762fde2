"""`sfumato train`: train by a recipe."""

from __future__ import annotations

from pathlib import Path

from sfumato.cli.options import argument, keyword
from sfumato.cli.verb import Verb
from sfumato.cli.verbs.shared import DEBUG, DEVICE, QUIET
from sfumato.core.errors import SfumatoError

OPTIONS = (
    argument("recipe", "a training recipe; recipes/ holds the project's own"),
    keyword("data", str | None, None, "--data", text="packed set, or folder with captions"),
    keyword("output", str | None, None, "-o", "--output", text="run folder; runs/NAME"),
    keyword("steps", int | None, None, "--steps", text="replaces the recipe's optim.steps"),
    keyword("until", int | None, None, "--until", text="stop after this step, to go on later"),
    DEVICE,
    QUIET,
    DEBUG,
)


def train(
    recipe: str,
    data: str | None,
    output: str | None,
    steps: int | None,
    until: int | None,
    device: str,
    quiet: bool,
) -> None:
    """Train; the run folder on stdout."""
    from sfumato.cli.remote.chosen import chosen
    from sfumato.train import program

    for option, value in (("--data", data), ("--output", output)):
        if value == "":
            raise SfumatoError(f"{option}: is empty; give a folder, or leave it out")
    pictures, target = (None if folder is None else Path(folder) for folder in (data, output))
    if (server := chosen()) is not None:
        from sfumato.cli.remote import teaching

        teaching.check(device)
        config, folder = program.asked(Path(recipe), target, steps)
        teaching.taught(server, config, pictures, folder, until, quiet)
        print(folder)
        return
    print(program.train(Path(recipe), pictures, target, steps, until, device, quiet))


TRAIN = Verb(
    "train",
    train,
    "Train by a recipe; started again, it goes on from its last checkpoint.",
    OPTIONS,
    ("recipes/base-32.toml", "mine.toml --data my-pictures/ --until 1000"),
)
