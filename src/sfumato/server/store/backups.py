"""Backups: a copy of database and pictures of a server that may be at work, and the way back."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from sfumato.claims import claimed
from sfumato.core.errors import SfumatoError
from sfumato.server.store.database import FILE, READER_WAITS, Database, connect
from sfumato.server.store.files import Files, sync
from sfumato.server.store.trouble import trouble

PICTURES = "pictures"


def backup(folder: Path, target: Path) -> Path:
    """Copy a server's folder into a new one; whole or not at all."""
    if not (folder / FILE).is_file():
        raise SfumatoError(f"{folder}: holds no server's database; give --folder")
    _new(target)
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        source = connect(folder / FILE, READER_WAITS)
        try:
            source.execute("VACUUM INTO ?", (str(part / FILE),))
        finally:
            source.close()
        _copy(folder, part)
        part.rename(target)
        sync(target.resolve().parent)
    except (sqlite3.Error, OSError) as error:
        raise SfumatoError(f"{target}: {trouble(error)}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def restore(source: Path, folder: Path) -> Path:
    """Make a server's folder of a backup; one that holds a server is refused."""
    if not (source / FILE).is_file():
        raise SfumatoError(f"{source}: is no backup; it has no {FILE}")
    if (folder / FILE).exists():
        raise SfumatoError(f"{folder}: holds a server's jobs; move it away, or give --folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with claimed(folder, "a server is at work in it; stop it first"):
            _copy(source, folder)
            part = folder / f"{FILE}.part"
            shutil.copyfile(source / FILE, part)
            part.rename(folder / FILE)
            sync(folder)
            Database(folder).close()  # refused here where it is damaged
    except OSError as error:
        raise SfumatoError(f"{folder}: {trouble(error)}") from None
    return folder


def _new(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SfumatoError(f"{target}: is there already; give a new folder")
    if target.exists():
        target.rmdir()


def _copy(source: Path, target: Path) -> None:
    """The files that the copied database names; what came later is not in it."""
    known = sqlite3.connect(f"file:{(target if (target / FILE).exists() else source) / FILE}"
                            "?mode=ro", uri=True)  # fmt: skip
    try:
        hashes = [row[0] for row in known.execute("SELECT sha256 FROM pictures")]
    finally:
        known.close()
    there, here = Files(target / PICTURES), source / PICTURES
    missing = []
    for sha256 in hashes:
        file = there.path(sha256)
        file.parent.mkdir(exist_ok=True)
        try:
            shutil.copyfile(here / sha256[:2] / sha256, file)
        except FileNotFoundError:
            missing.append(sha256)
            continue
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    if missing:
        raise SfumatoError(
            f"{source}: {len(missing)} pictures that its jobs name are not there; try again"
        )
