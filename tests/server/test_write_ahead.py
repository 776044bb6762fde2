"""The write-ahead log: whatever moment a power cut comes at, each commit is there again."""

from __future__ import annotations

import shutil
import sqlite3
from functools import partial
from pathlib import Path

import pytest

from helpers.served import in_loop
from sfumato.core.errors import SfumatoError
from sfumato.server.store import database, records
from sfumato.server.store.database import FILE, Database


def facts(folder: Path) -> set[int]:
    with sqlite3.connect(folder / FILE) as connection:
        return {int(row[0]) for row in connection.execute("SELECT name FROM facts")}


@in_loop
async def test_a_commit_is_there_whatever_moment_the_power_is_cut_at(tmp_path: Path) -> None:
    """The files as they are then, also while another thread makes checkpoints."""
    db = Database(tmp_path)
    for k in range(4 * database.APART + 9):
        await db.write(partial(records.fact, name=f"{k}", value="x" * 2000))
        if k % 17 == 0:
            left = tmp_path / f"left-{k}"
            left.mkdir()
            for name in (f"{FILE}-wal", FILE):  # the log first, as a checkpoint may come between
                shutil.copy(tmp_path / name, left)
            assert facts(left) == set(range(k + 1))
    db.close()
    assert facts(tmp_path) == set(range(4 * database.APART + 9))


def test_a_folder_that_is_none_is_a_line(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match=FILE):
        Database(tmp_path / "none")
