"""Pictures and other files, each under the hash of its bytes: whole on the disk, or not there.

A file whose row is not written yet is pending, and is not removed meanwhile.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

from sfumato.server.store.trouble import StoreError, trouble


class Files:
    """A folder of files by hash; what is put there is synced before it has its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        for first in range(256):  # now, since each is a sync when it comes with a picture
            (self.folder / f"{first:02x}").mkdir(exist_ok=True)
        sync(self.folder)
        self.lock = threading.Lock()
        self.pending: Counter[str] = Counter()
        for part in self.folder.glob("*.part"):  # of a server that was killed
            part.unlink(missing_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the file of that hash is, or would be."""
        return self.folder / sha256[:2] / sha256

    def put(self, data: bytes) -> str:
        """Keep the bytes; their hash, pending until `release`. StoreError on a full disk."""
        digest = hashlib.sha256(data).hexdigest()
        with self.lock:
            self.pending[digest] += 1
        try:
            self._write(digest, data)
        except OSError as error:
            self.release(digest)
            raise trouble(error) from None
        return digest

    def release(self, sha256: str) -> None:
        """Its row is written, or never will be."""
        with self.lock:
            self.pending[sha256] -= 1
            if self.pending[sha256] <= 0:
                del self.pending[sha256]

    def _write(self, digest: str, data: bytes) -> None:
        target = self.path(digest)
        if target.is_file() and target.stat().st_size == len(data):
            return
        part = self.folder / f"{digest}.{threading.get_ident()}.part"
        try:
            with part.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        sync(target.parent)

    def get(self, sha256: str) -> bytes:
        """The bytes; StoreError where the file is damaged or gone."""
        try:
            data = self.path(sha256).read_bytes()
        except OSError as error:
            raise StoreError(f"picture {sha256[:12]}…: cannot be read ({error.strerror})") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreError(f"picture {sha256[:12]}…: is damaged on the server's disk")
        return data

    def remove(self, sha256: str) -> None:
        """Remove a file of which there is no row, unless one is coming."""
        with self.lock:
            if sha256 not in self.pending:
                with suppress(OSError):
                    self.path(sha256).unlink(missing_ok=True)

    def all(self) -> list[str]:
        """Hashes of all files."""
        return [file.name for file in self.folder.glob("??/*")]


def sync(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system knows how."""
    with suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
