"""What a server finds when it starts: open jobs go on, and after a crash they wait for a word."""

from __future__ import annotations

import logging
import sqlite3
from functools import partial

from sfumato.server.jobs import State
from sfumato.server.kept import Kept
from sfumato.server.queue import Entry
from sfumato.server.states import States, entry_of
from sfumato.server.store import records

CLEAN = "stopped"
"""Fact that says whether the last server was stopped, "yes", or died."""

log = logging.getLogger("sfumato.server")


async def recover(kept: Kept, states: States, resume: bool = False) -> bool:
    """Fill the queue from the table; whether the last server died.

    Then every client's queue that has jobs is paused, unless `resume`.
    """
    stopped = kept.db.one("SELECT value FROM facts WHERE name = ?", (CLEAN,))
    crashed = stopped is not None and stopped["value"] != "yes"
    latest = kept.db.one("SELECT max(created) AS at FROM jobs")
    kept.latest = float(latest["at"] or 0) if latest else 0.0
    await kept.surely(partial(records.fact, name=CLEAN, value="no"))
    await _clear_files(kept)
    rows = kept.db.read(
        "SELECT * FROM jobs WHERE state IN ('queued', 'running')"
        " ORDER BY parent IS NOT NULL, number"
    )
    for row in kept.db.read("SELECT name FROM clients WHERE paused"):
        kept.queue.pause(row["name"], True)
    if crashed and rows and not resume:
        for client in sorted({row["client"] for row in rows}):
            await kept.surely(partial(records.paused, client=client, value=True))
            kept.queue.pause(client, True)
        log.warning("the last server died; the queue is paused until its clients resume it")
    entries = {row["id"]: entry_of(row) for row in rows}
    for entry in entries.values():
        if (parent := entries.get(entry.parent or "")) is not None:
            parent.open += 1
    for entry in entries.values():
        kept.queue.open[entry.id] = entry
        if entry.phase == "children":
            sql = "SELECT count(*) AS n FROM jobs WHERE parent = ?"
            counted = kept.db.one(sql, (entry.id,))
            entry.total = int(counted["n"]) if counted else 0
        elif entry.state is State.QUEUED:
            kept.queue.add(entry)
    for entry in list(entries.values()):
        await _go_on(kept, states, entry)
    return crashed


async def _go_on(kept: Kept, states: States, entry: Entry) -> None:
    if entry.phase == "children":
        if entry.cancelling is not None:
            await states.cancel(entry, entry.cancelling)
        elif entry.open == 0:
            await states.children_ended(entry)
    elif entry.state is State.RUNNING:
        await states.lost(entry, "the server was lost")


async def _clear_files(kept: Kept) -> None:
    """Remove files that were put down for a row that was never written, and folders that no
    training needs."""

    def clear(connection: sqlite3.Connection) -> None:
        known = {row[0] for row in connection.execute("SELECT sha256 FROM pictures")}
        for sha256 in kept.files.all():
            if sha256 not in known:
                kept.files.remove(sha256)
        sql = "SELECT id FROM jobs WHERE kind = 'train' AND state != 'done'"
        kept.runs.retain({row[0] for row in connection.execute(sql)})

    await kept.surely(clear)
