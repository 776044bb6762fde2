"""Folders of trainings: what one keeps from an attempt to the next, on this machine alone."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path


class Runs:
    """A folder for each training that has not come to its end, by the job's id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, id: str) -> Path:
        """Where a job's is, or would be."""
        return self.folder / id

    def remove(self, id: str) -> None:
        """Nothing is to go on from there any more."""
        shutil.rmtree(self.path(id), ignore_errors=True)

    def bytes(self) -> int:
        """What they take."""
        total = 0
        for file in self.folder.rglob("*"):
            with suppress(OSError):  # of one that has gone meanwhile
                total += file.lstat().st_size
        return total

    def retain(self, known: Collection[str]) -> None:
        """Remove those of other jobs than these."""
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            if folder.name not in known:
                self.remove(folder.name)
