"""The content store: the inputs of runs by their digest, so that a run can be made again."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from sfumato import documents
from sfumato.core.errors import SfumatoError
from sfumato.home import home, put, remove_stale, storing

STORE_BYTES = 1 << 30  # the oldest inputs go when the store grows beyond this
PICTURE_BYTES = 1 << 30


def keep(data: bytes) -> bool:
    """Put an input into the content store, so that `run` finds it when its file is gone.

    An entry that was damaged is written anew. SFUMATO_STORE=0 and `unstored` keep nothing. False
    when the disk does not allow it.
    """
    if not storing():
        return True
    path = _stored(sha256(data).hexdigest())
    try:
        if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
            os.utime(path)
            return True
        put(path, data)
    except OSError:
        return False
    _bound(home() / "store", spare=path)
    return True


def _stored(digest: str) -> Path:
    return home() / "store" / digest[:2] / digest


def _bound(folder: Path, spare: Path) -> None:
    """Remove the oldest inputs beyond STORE_BYTES, and parts that a killed program left."""
    files = []
    for file in folder.glob("*/*"):
        with suppress(OSError):  # another program bounds the same store
            status = file.stat()
            if file.suffix == ".part":
                remove_stale(file)
            else:
                files.append((status.st_mtime, status.st_size, file))
    total = sum(size for _, size, _ in files)
    for _, size, file in sorted(files):
        if total <= STORE_BYTES:
            return
        if file != spare:
            with suppress(OSError):
                file.unlink(missing_ok=True)
            total -= size


def encoded(data: bytes) -> str:
    """An input as a recipe embeds it."""
    return base64.b64encode(data).decode()


def fetch(digest: str, name: str, embedded: Mapping[str, str], folders: Iterable[Path]) -> bytes:
    """An input's bytes: embedded, in the store, or a file of that name and hash in the folders."""
    if digest in embedded:
        try:
            data = base64.b64decode(embedded[digest], validate=True)
        except (binascii.Error, ValueError) as error:
            raise SfumatoError(f"input {name}: embedded, but not as base64 ({error})") from None
        if sha256(data).hexdigest() == digest:
            return data
    own = Path(name).name
    for path in (_stored(digest), *(folder / own for folder in folders if own)):
        with suppress(SfumatoError):  # a pipe, a film, no right to read it: it is not that input
            data = documents.read_bytes(path, PICTURE_BYTES)
            if sha256(data).hexdigest() == digest:
                return data
    raise SfumatoError(
        f"input {name} (sha256 {digest[:12]}…): not embedded, not in the store, and no such file "
        "beside the recipe or in the working folder; put it there"
    )
