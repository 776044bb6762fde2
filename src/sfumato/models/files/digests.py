"""One hash of weights, be they a file or a folder, by which two machines know them again."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from sfumato.core.errors import SfumatoError
from sfumato.models.files.hashes import files_digest
from sfumato.models.files.pipeline import weight_files
from sfumato.recipe.names import WEIGHTS


def files_of(path: Path) -> list[Path]:
    """The files that weights consist of: a file itself, what is loaded of a part's folder, else
    all weights below it. SfumatoError where there are none."""
    if path.is_file():
        return [path]
    try:
        return weight_files(path)
    except SfumatoError:
        files = (file for file in path.rglob("*") if file.suffix.lower() in WEIGHTS)
        weights = sorted(file for file in files if file.is_file())
    if not weights:
        raise SfumatoError(f"{path}: holds no weights, which end in {', '.join(WEIGHTS)}")
    return weights


def weights_digest(path: Path) -> str:
    """sha256 of a file; of a folder, that of its files' hashes, as runs record it."""
    files = [(file, file.stat()) for file in files_of(path)]
    return _digest(tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in files))


@lru_cache(maxsize=256)
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Read once as long as sizes and times stay, as a batch asks for each row."""
    return files_digest([file for file, _, _ in files])
