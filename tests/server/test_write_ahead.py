"""The write-ahead log: commits write over blocks that it has, and all of them are there again."""

from __future__ import annotations

import shutil
import sqlite3
from functools import partial
from pathlib import Path

import pytest

from helpers.served import in_loop
from sfumato.core.errors import SfumatoError
from sfumato.server.store import database, records, room
from sfumato.server.store.database import FILE, Database

LOG = f"{FILE}-wal"


async def write(db: Database, number: int) -> None:
    await db.write(partial(records.fact, name=f"{number}", value="x" * 2000))


def facts(folder: Path) -> set[int]:
    with sqlite3.connect(folder / FILE) as connection:
        return {int(row[0]) for row in connection.execute("SELECT name FROM facts")}


@in_loop
async def test_commits_need_no_longer_file(tmp_path: Path) -> None:
    """Many checkpoints later it is as long as it was, since it is begun again after each."""
    db = Database(tmp_path)
    size = (tmp_path / LOG).stat().st_size
    assert size >= room.MORE
    for k in range(4 * database.APART):
        await write(db, k)
        assert (tmp_path / LOG).stat().st_size == size
    db.close()
    assert facts(tmp_path) == set(range(4 * database.APART))


@in_loop
async def test_what_lies_behind_its_frames_is_not_read(tmp_path: Path) -> None:
    """The files as a power cut leaves them, at any moment: each commit, and nothing else."""
    db = Database(tmp_path / "")
    for k in range(2 * database.APART + 9):
        await write(db, k)
        if k % 37 == 0:
            left = tmp_path / f"left-{k}"
            left.mkdir()
            for name in (LOG, FILE):  # the log first: the other way a checkpoint could get between
                shutil.copy(tmp_path / name, left)
            assert facts(left) == set(range(k + 1))
    db.close()


@in_loop
async def test_a_log_that_outgrows_its_room_gets_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And goes on without, where there is none left."""
    monkeypatch.setattr(room, "MORE", 256 << 10)
    monkeypatch.setattr(database, "APART", 1000)
    db = Database(tmp_path)
    sizes = set()
    for k in range(30):
        await write(db, k)
        sizes.add((tmp_path / LOG).stat().st_size)
    assert 2 <= len(sizes) <= 10
    monkeypatch.setattr(Path, "open", _full)
    for k in range(30, 60):
        await write(db, k)
    monkeypatch.undo()
    db.close()
    assert facts(tmp_path) == set(range(60))


def _full(*arguments: object, **options: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_folder_that_is_none_is_a_line(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match=FILE):
        Database(tmp_path / "none")
