"""What a finished run says of what it learned: run.json in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from sfumato.documents import read_json
from sfumato.train.values import foreign

FILE = "run.json"
Text = Annotated[str, Field(max_length=10_000)]


@foreign
class RunNote:
    """name: what the subject is called; noun: its class; prompt: how it was spoken of; model: what
    learned it; file: what was written, or a line about it; word: the file of a word beside it."""

    name: Annotated[str, Field(min_length=1, max_length=1000)]
    noun: Text
    prompt: Text = ""
    model: Text | None = None
    file: Text = ""
    word: Text = ""


def read(folder: Path) -> RunNote:
    """What the run of a folder says."""
    return read_json(RunNote, folder / FILE)
