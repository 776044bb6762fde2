"""Pictures of a folder that is gone on with: each must be what would be made again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sfumato.core.errors import SfumatoError
from sfumato.core.interrupts import undisturbed
from sfumato.images.picture import Picture
from sfumato.models.replay import read_recipe
from sfumato.models.result import save_new
from sfumato.recipe import Recipe


def are_kept(files: Sequence[Path], wanted: Recipe) -> bool:
    """Whether all pictures of a cell are there; one of another recipe is refused, by what differs
    first."""
    for k, file in enumerate(files):
        if not file.is_file():
            continue
        kept = read_recipe(file)
        differs = _difference(kept, wanted)
        if not differs and kept.run.get("index", k) != k:
            differs = f"picture {kept.run['index']} of its batch"
        if differs:
            raise SfumatoError(
                f"{file}: is a picture of another recipe ({differs}); remove it, or choose another "
                "folder"
            )
    return all(file.is_file() for file in files)


def _difference(kept: Recipe, wanted: Recipe) -> str:
    """The first field of what was asked for that is written otherwise; "" if none is."""
    if kept.id == wanted.id:
        return ""
    was, asked = kept.to_data(), wanted.to_data()
    ran = ("run", "versions", "embedded")  # of these an id says nothing
    fields = (name for name in {**asked, **was} if name not in ran)
    return next(name for name in fields if json.dumps(was.get(name), sort_keys=True)
                != json.dumps(asked.get(name), sort_keys=True))  # fmt: skip


def save_missing(pictures: Sequence[Picture], files: Sequence[Path]) -> str:
    """Write those pictures of a cell that are not there; what could not be written, in words."""
    trouble = []
    with undisturbed():
        for picture, file in zip(pictures, files, strict=True):
            if not file.is_file():
                written = save_new(picture, file)
                trouble += [written.trouble] if written.trouble else []
    return "; ".join(trouble)
