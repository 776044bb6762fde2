"""The folder of a run: made, cleared of what was never finished, and marked when it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field

from sfumato.core.errors import SfumatoError
from sfumato.documents import read_json, read_text
from sfumato.train import checkpoint, origin
from sfumato.train.values import part

DONE = "done.json"


@part
class Done:
    """A finished run: its steps, and where its result is, from the run folder."""

    step: Annotated[int, Field(ge=0)]
    result: str


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise SfumatoError(f"{folder}: cannot be made ({reason}); give another -o") from None


def clear(folder: Path, recipe: str) -> None:
    """Leave no row of a run that never came to its first checkpoint; and no recipe of another use
    is overwritten. recipe: the text of the one that is run now."""
    file = folder / origin.RECIPE
    if not file.exists():
        return
    own = (folder / origin.FILE).exists() or not file.stat().st_size
    if not own and read_text(file) != recipe:
        raise SfumatoError(
            f"{file}: is another recipe, of which there is no run here; remove it, or give "
            "another -o"
        )
    for name in ("log.csv", "heldout.csv", DONE):
        (folder / name).unlink(missing_ok=True)


def is_finished(folder: Path, step: int) -> bool:
    """Whether the run was finished at this step, and its result is there."""
    file = folder / DONE
    if not file.exists():
        return False
    done = read_json(Done, file)
    return done.step == step and (folder / done.result).exists()


def finish(folder: Path, step: int, result: str) -> None:
    """Mark the run as finished. result: where it is, from the folder."""
    checkpoint.put_text(folder / DONE, json.dumps({"step": step, "result": result}))
