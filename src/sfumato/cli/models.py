"""`sfumato models`: what is here, and pull, export, convert."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from sfumato.cli import show
from sfumato.models import hub  # the others load torch, which a pull need not wait for


def listed(as_json: bool, quiet: bool) -> None:
    """What can be loaded."""
    from sfumato.models import library

    found = library.entries()
    if as_json:
        print(json.dumps([asdict(entry) for entry in found]))
        return
    for entry in found:
        print(f"{entry.name:32} {entry.where:8} {entry.title}")


def pull(names: list[str], as_json: bool, quiet: bool) -> None:
    """Fetch models from the hub into its cache; the folders on stdout."""
    folders = {name: str(hub.pull(name)) for name in names}
    if as_json:
        print(json.dumps(folders))
        return
    for folder in folders.values():
        print(folder)


def export(name: str, folder: str, as_json: bool, quiet: bool) -> None:
    """Copy a model into a folder to carry."""
    from sfumato.models import carry

    made = carry.export(name, Path(folder))
    print(json.dumps({"folder": str(made)}) if as_json else made)


def convert(file: str, target: str, as_json: bool, quiet: bool) -> None:
    """A pickled checkpoint as safetensors."""
    from sfumato.models import carry

    made, count = carry.convert(Path(file), Path(target))
    if as_json:
        print(json.dumps({"file": str(made), "tensors": count}))
        return
    show.errors.print(f"{count} tensors", highlight=False)
    print(made)
