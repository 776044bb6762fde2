"""The database: how it is opened, read, and written by one thread in groups.

Every write is a function of a connection. The writer takes all that wait, gives each a savepoint,
and commits them together: one sync of the disk serves many. Those for which nobody waits do so a
little, so that fewer syncs are at work when somebody does. Checkpoints of the
write-ahead log are made by a thread of their own, so that no commit waits for their two syncs.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sfumato.core.errors import SfumatoError
from sfumato.server.store.gallery import folded
from sfumato.server.store.schema import migrate
from sfumato.server.store.trouble import StoreError, trouble

T = TypeVar("T")

FILE = "server.db"
GROUP = 512  # writes of a transaction at most
SMOOTH = 0.2  # weight of a new sample of what a commit takes
COMPANY, PATIENCE = 4.0, 0.01
"""How long writes for which nobody waits do, for others to share their sync: so many times what a
commit takes of late, and at most so many seconds."""
CACHE = 512  # KiB of pages that a connection keeps; the system keeps the file's anyway
WRITER_WAITS, READER_WAITS = 5.0, 0.5  # seconds for another program's lock
APART = 32  # groups between checkpoints, which are made beside the writer
LONGEST_LOG = 8000  # pages of the log at which the writer makes one itself, as the other is behind
CHECKED = 64 << 20  # bytes up to which a database is checked whole when it is opened

Write = Callable[[sqlite3.Connection], Any]
Waiting = tuple[Write, "asyncio.Future[Any]", asyncio.AbstractEventLoop, bool]


def connect(path: Path, waits: float) -> sqlite3.Connection:
    """A connection whose commits are on the disk when they return."""
    connection = sqlite3.connect(
        path, timeout=waits, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.row_factory = sqlite3.Row
    connection.create_function("folded", 1, folded, deterministic=True)
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA cache_size=-{CACHE}")
    connection.execute("PRAGMA trusted_schema=OFF")
    return connection


class Database:
    """The open database of a folder. SfumatoError where it is damaged, locked or another's."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        try:
            self.writer = connect(self.path, WRITER_WAITS)
            self.writer.execute("PRAGMA journal_mode=WAL")
            self._check()
            migrate(self.writer, str(self.path))
            self.reader = connect(self.path, READER_WAITS)
            self.reader.execute("PRAGMA query_only=ON")
            self.checkpointer = connect(self.path, READER_WAITS)
            self.writer.execute(f"PRAGMA wal_autocheckpoint={LONGEST_LOG}")
        except sqlite3.Error as error:
            raise SfumatoError(f"{self.path}: {trouble(error)}") from None
        self.takes = 0.0
        self.waiting: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._write_all, name="sfumato-writer", daemon=True)
        self.thread.start()
        self.due: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.checkpointing = threading.Thread(
            target=self._checkpoint_all, name="sfumato-checkpoints", daemon=True
        )
        self.checkpointing.start()

    def _check(self) -> None:
        if self.path.stat().st_size <= CHECKED:
            verdict = self.writer.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError("database disk image is malformed")

    async def write(self, work: Callable[[sqlite3.Connection], T], hurry: bool = True) -> T:
        """What `work` gives, once it is on the disk. StoreError where it does not get there.

        hurry: somebody waits for it; otherwise it waits a little for company.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self.waiting.put((work, future, loop, hurry))
        return await future

    def read(self, sql: str, values: Any = ()) -> list[sqlite3.Row]:
        """Rows of what has been committed."""
        try:
            return self.reader.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise trouble(error) from None

    def one(self, sql: str, values: Any = ()) -> sqlite3.Row | None:
        """The first row."""
        rows = self.read(sql, values)
        return rows[0] if rows else None

    def close(self) -> None:
        """Write what waits, and close; the write-ahead log is folded in."""
        self.waiting.put(None)
        self.thread.join()
        self.due.put(False)
        self.checkpointing.join()
        self.checkpointer.close()
        self.reader.close()
        with suppress(sqlite3.Error):
            self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.writer.close()

    def _write_all(self) -> None:
        ended, groups = False, 0
        while not ended:
            groups += 1
            if groups % APART == 0:
                self.due.put(True)
            group = self._gathered()
            ended = None in group
            self._commit([item for item in group if item is not None])

    def _gathered(self) -> list[Waiting | None]:
        """What waits, in its order, once somebody waits for any of it or its patience is over."""
        group = [self.waiting.get()]
        until = time.monotonic() + min(COMPANY * self.takes, PATIENCE)
        with suppress(queue.Empty):
            while len(group) < GROUP:
                last, left = group[-1], until - time.monotonic()
                if last is None or last[3] or left <= 0:
                    until = 0.0
                    group.append(self.waiting.get_nowait())
                else:
                    group.append(self.waiting.get(timeout=left))
        return group

    def _checkpoint_all(self) -> None:
        while self.due.get():
            with suppress(sqlite3.Error):  # the disk's trouble, which the writer says
                self.checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _commit(self, group: list[Waiting]) -> None:
        """All of a group in one transaction; what one of them raises is its alone."""
        results: list[tuple[Any, BaseException | None]] = []
        try:
            self.writer.execute("BEGIN IMMEDIATE")
            for work, _, _, _ in group:
                alone = len(group) == 1
                results.append((work(self.writer), None) if alone else self._apart(work))
            began = time.monotonic()
            self.writer.execute("COMMIT")
            self.takes += SMOOTH * (time.monotonic() - began - self.takes)
        except (sqlite3.Error, StoreError) as error:
            with suppress(sqlite3.Error):
                self.writer.execute("ROLLBACK")
            failure = error if isinstance(error, StoreError) else trouble(error)
            results = [(None, failure)] * len(group)
        except Exception as error:  # of a write that is alone; others are in savepoints
            self.writer.execute("ROLLBACK")
            results = [(None, error)]
        for (_, future, loop, _), (result, failed) in zip(group, results, strict=True):
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(_settle, future, result, failed)

    def _apart(self, work: Write) -> tuple[Any, BaseException | None]:
        self.writer.execute("SAVEPOINT one")
        try:
            result = work(self.writer)
        except sqlite3.OperationalError:  # of the disk, and so of the whole group
            raise
        except Exception as error:  # of this write alone
            self.writer.execute("ROLLBACK TO one")
            self.writer.execute("RELEASE one")
            failed = trouble(error) if isinstance(error, sqlite3.Error) else error
            return None, failed
        self.writer.execute("RELEASE one")
        return result, None


def _settle(future: asyncio.Future[Any], result: Any, failed: BaseException | None) -> None:
    if future.cancelled():
        return
    if failed is None:
        future.set_result(result)
    else:
        future.set_exception(failed)
