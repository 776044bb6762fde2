"""`sfumato models`: what is here, and pull, export, convert."""

from __future__ import annotations

import json
from dataclasses import asdict
from inspect import Parameter
from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.options import argument
from sfumato.cli.verb import Group, Verb
from sfumato.cli.verbs.shared import AS_JSON, DEBUG, QUIET

HEADINGS = {
    "bundled": "Here, with the program",
    "cached": "Here, in SFUMATO_HOME/models",
    "pulled": "Here, pulled from the hub",
}
SUGGESTED = (
    "  to fetch one: sfumato models pull ORG/NAME, such as",
    "    stable-diffusion-v1-5/stable-diffusion-v1-5      anything, 512 px; about 4 GB",
    "    stabilityai/stable-diffusion-xl-base-1.0         anything, 1024 px; about 14 GB",
    "    google/ddpm-celebahq-256                         faces without words, 256 px; 0.5 GB",
    "    openai/clip-vit-large-patch14                    the words that a single file lacks",
)


def listed(as_json: bool, quiet: bool) -> None:
    """What can be loaded."""
    from sfumato.models.loaders import library

    models = library.entries()
    if as_json:
        print(json.dumps([asdict(entry) for entry in models]))
        return
    headings = {**HEADINGS, **{entry.source: entry.source for entry in models if entry.source}}
    for group, heading in headings.items():
        mine = [entry for entry in models if group == (entry.source or entry.where)]
        if mine or group == "pulled":
            print(f"{heading[:1].upper()}{heading[1:]}:")
        wide = max((len(entry.name) for entry in mine), default=0)
        for entry in mine:
            print(f"  {entry.name:{wide}}  {entry.title}")
        if group == "pulled":
            print(*([] if mine else ["  none yet"]), *SUGGESTED, sep="\n")
    print('To take one: sfumato generate "red apple" --model NAME, or its file or folder')


def pull(names: list[str], as_json: bool, quiet: bool) -> None:
    """Fetch models from the hub into its cache; the folders on stdout."""
    from sfumato.models.files import hub  # no more: the others load torch, which takes a while

    folders = {name: str(hub.pull(name)) for name in names}
    if as_json:
        print(json.dumps(folders))
        return
    for folder in folders.values():
        print(folder)


def export(name: str, folder: str, as_json: bool, quiet: bool) -> None:
    """Copy a model into a folder to carry."""
    from sfumato.models.loaders import export

    copy = export.export(name, Path(folder))
    print(json.dumps({"folder": str(copy)}) if as_json else copy)


def convert(file: str, target: str, as_json: bool, quiet: bool) -> None:
    """A pickled checkpoint as safetensors."""
    from sfumato.cli import show
    from sfumato.models.loaders import export

    converted, count = export.convert(Path(file), Path(target))
    if as_json:
        print(json.dumps({"file": str(converted), "tensors": count}))
        return
    show.errors.print(f"{count} tensors", highlight=False)
    print(converted)


NAMES = Parameter(
    "names",
    Parameter.POSITIONAL_OR_KEYWORD,
    annotation=Annotated[list[str], typer.Argument(help="org/name or org/name@revision")],
)
OPTIONS = (AS_JSON, QUIET, DEBUG)
PULL = Verb(
    "pull",
    pull,
    "Fetch from the hub: goes on where it stopped, verifies every file.",
    (NAMES, *OPTIONS),
    ("org/name", "org/name@revision another/name"),
    where="machine",
)
EXPORT = Verb(
    "export",
    export,
    "Copy a model into a new folder that loads anywhere, without a network.",
    (
        argument("name", "bundled name, folder, file or org/name"),
        argument("folder", "a new folder"),
        *OPTIONS,
    ),
    ("emoji carried/", "org/name carried/"),
    where="machine",
)
CONVERT = Verb(
    "convert",
    convert,
    "A pickled checkpoint as safetensors; nothing in it is run.",
    (
        argument("file", "a .pt, .ckpt or .bin file"),
        argument("target", "a new .safetensors file"),
        *OPTIONS,
    ),
    ("model.ckpt model.safetensors", "vae.pt vae.safetensors --json"),
    where="machine",
)
MODELS = Group(
    "models",
    "List models; pull, export and convert them.",
    ("", "pull stable-diffusion-v1-5/stable-diffusion-v1-5"),
    lambda: (PULL, EXPORT, CONVERT),
    Verb("models", listed, "What can be loaded.", OPTIONS, where="machine"),
)
