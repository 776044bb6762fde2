"""SHA-256 of files of any size, read in blocks; what a recipe knows weights by."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from sfumato.models.files import known_digests

BLOCK = 1 << 20


def take_in(digest: Any, file: Path) -> None:
    """Update a digest of hashlib with a file's bytes."""
    with file.open("rb") as stream:
        _take_in(digest, stream)


def _take_in(digest: Any, stream: IO[bytes]) -> None:
    while block := stream.read(BLOCK):
        digest.update(block)


def file_digest(file: Path) -> str:
    """Of a file; in the hub's cache it is the name of what the link leads to."""
    name = file.resolve().name
    if file.is_symlink() and len(name) == 64 and set(name) <= set("0123456789abcdef"):
        return name
    with file.open("rb") as stream:
        status = os.fstat(stream.fileno())  # of what is read, not of what is called so by now
        if (known := known_digests.find(file, status)) is not None:
            return known
        digest = sha256()
        _take_in(digest, stream)
        known_digests.keep(file, status, os.fstat(stream.fileno()), digest.hexdigest())
    return digest.hexdigest()


def digest_of(digests: Sequence[str]) -> str:
    """One digest of several: of one, itself."""
    return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()


def files_digest(files: Sequence[Path]) -> str:
    """Of files in their order: of one, its own."""
    return digest_of([file_digest(file) for file in files])
