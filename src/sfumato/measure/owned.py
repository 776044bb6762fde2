"""Folders of one kind of experiment: a file in each says whose it is, and another's is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel

from sfumato import documents
from sfumato.claims import FILE as CLAIM
from sfumato.core.errors import SfumatoError
from sfumato.images.destination import check_file
from sfumato.images.writing import write_new

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class Owned(Generic[T]):
    """What folders of an experiment hold.

    what: its name in messages; file: the file that says whose a folder is; kind: what stands in
    it; limit: the most bytes of it.
    """

    what: str
    file: str
    kind: type[T]
    limit: int = documents.LIMIT

    def parse(self, text: bytes) -> T:
        """The file's text as a value."""
        return documents.parse_json(self.kind, text, self.file)

    def check_free(self, folder: Path) -> None:
        """Make the folder, or take one that is empty or holds such an experiment."""
        try:
            new = not folder.exists() or (folder / self.file).exists()
            if not new and not (folder.is_dir() and {f.name for f in folder.iterdir()} <= {CLAIM}):
                raise SfumatoError(
                    f"{folder}: is not empty and holds no {self.what}; choose another folder"
                )
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the name
            reason = getattr(error, "strerror", None) or error
            raise SfumatoError(
                f"{folder}: cannot be made ({reason}); choose another folder"
            ) from None

    def hold(self, folder: Path, mine: T, text: bytes) -> None:
        """Make the folder this experiment's, whose file's text is `text`; another's is refused."""
        file = folder / self.file
        if not file.exists():
            check_file(file)
            try:
                write_new(file, text)
            except OSError as error:
                raise SfumatoError(
                    f"{file}: could not be written ({error.strerror}); free some space"
                ) from None
        kept = documents.read_json(self.kind, file, self.limit)
        if kept != mine:
            what = next(n for n in self.kind.model_fields if getattr(kept, n) != getattr(mine, n))
            raise SfumatoError(
                f"{folder}: holds a {self.what} of other {what}; choose another folder, or remove "
                "it"
            )
