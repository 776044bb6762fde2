"""Writes: functions of a connection, each what one change of a job's state takes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sfumato.server.events import AnyEvent, Sent
from sfumato.server.jobs import File, Progress, State
from sfumato.server.store.schema import SHOWN

NEXT = "(SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'jobs')"
"""The number that a job which is inserted now gets."""


@dataclass(frozen=True)
class New:
    """A job to be inserted. phase: of a parent, `begin`, `children` or `finish`; else `begin`.

    files: names that a child's pictures have in its parent; inputs: hashes of its pictures.
    asked_by: id of the request that it came by.
    """

    id: str
    client: str
    kind: str
    request: str
    phase: str = "begin"
    state: State = State.QUEUED
    parent: str | None = None
    name: str = ""
    files: Sequence[str] = ()
    priority: int = 0
    key: str | None = None
    inputs: Sequence[str] = ()
    total: float | None = None
    asked_by: str = ""


def insert(
    connection: sqlite3.Connection, jobs: Sequence[New], events: Sequence[AnyEvent], now: float
) -> list[tuple[int, Sent]]:
    """Insert jobs with their first events; their numbers, which are their places in the queue."""
    noted = []
    for job, event in zip(jobs, events, strict=True):
        cursor = connection.execute(
            "INSERT INTO jobs (id, client, kind, state, phase, parent, name, files, priority,"
            " position, request, key, total, created, asked_by)"
            f" VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, {NEXT}, ?, ?, ?, ?, ?)",
            (job.id, job.client, job.kind, job.state, job.phase, job.parent, job.name,
             json.dumps(list(job.files)), job.priority, job.request, job.key, job.total, now,
             job.asked_by),
        )  # fmt: skip
        number = int(cursor.lastrowid or 0)
        connection.executemany(
            "INSERT OR IGNORE INTO inputs (job, sha256) VALUES (?, ?)",
            [(job.id, sha256) for sha256 in job.inputs],
        )
        connection.execute(f"{SHOWN} AND number = ?", (number,))
        noted.append((number, note(connection, event, job.client)))
    return noted


def by_key(connection: sqlite3.Connection, client: str, key: str) -> sqlite3.Row | None:
    """The job that a client submitted under an idempotency key."""
    sql = "SELECT id, request FROM jobs WHERE client = ? AND key = ?"
    row: sqlite3.Row | None = connection.execute(sql, (client, key)).fetchone()
    return row


def note(connection: sqlite3.Connection, event: AnyEvent, client: str) -> Sent:
    """Keep an event."""
    data = event.model_dump_json()
    cursor = connection.execute(
        "INSERT INTO events (job, parent, client, event, data) VALUES (?, ?, ?, ?, ?)",
        (event.job, event.parent, client, event.event, data),
    )
    return Sent(cursor.lastrowid, event.job, event.parent, client, event.event, data)


def begin(
    connection: sqlite3.Connection, id: str, attempt: int, event: AnyEvent, client: str, now: float
) -> Sent:
    """A runner begins it; what an earlier attempt made stays until it comes again, since clients
    that were told of it may be fetching it."""
    connection.execute(
        "UPDATE jobs SET state = 'running', attempt = ?, started = coalesce(started, ?),"
        " ended = NULL, error = NULL WHERE id = ?",
        (attempt, now, id),
    )
    return note(connection, event, client)


def drop_results(connection: sqlite3.Connection, id: str, places: Iterable[int]) -> None:
    """Files of an earlier attempt that the last one did not make."""
    connection.executemany(
        "DELETE FROM results WHERE job = ? AND place = ?", [(id, place) for place in places]
    )


def picture(connection: sqlite3.Connection, file: File, now: float) -> None:
    """A file that is on the disk."""
    connection.execute(
        "INSERT OR IGNORE INTO pictures (sha256, bytes, media_type, width, height, created)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (file.sha256, file.bytes, file.media_type, file.width, file.height, now),
    )


def upload(connection: sqlite3.Connection, client: str, file: File, now: float) -> None:
    """A picture that a client brought."""
    picture(connection, file, now)
    connection.execute(
        "INSERT INTO uploads (client, sha256, used) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET used = excluded.used",
        (client, file.sha256, now),
    )


def result(
    connection: sqlite3.Connection, id: str, file: File, event: AnyEvent, client: str, now: float
) -> Sent:
    """A file of a job."""
    picture(connection, file, now)
    connection.execute(
        "INSERT OR REPLACE INTO results (job, place, name, sha256, seed) VALUES (?, ?, ?, ?, ?)",
        (id, file.place, file.name, file.sha256, file.seed),
    )
    return note(connection, event, client)


def end(
    connection: sqlite3.Connection,
    id: str,
    state: State,
    error: str | None,
    progress: Progress | None,
    event: AnyEvent,
    client: str,
    now: float,
) -> Sent:
    """It has ended, so far."""
    done, total = (None, None) if progress is None else (progress.done, progress.total)
    connection.execute(
        "UPDATE jobs SET state = ?, error = ?, ended = ?, cancelling = NULL,"
        " done = coalesce(?, done), total = coalesce(?, total) WHERE id = ?",
        (state, error, now, done, total, id),
    )
    return note(connection, event, client)


def requeue(
    connection: sqlite3.Connection,
    id: str,
    phase: str,
    losses: int,
    event: AnyEvent,
    client: str,
) -> Sent:
    """It waits again."""
    connection.execute(
        "UPDATE jobs SET state = 'queued', phase = ?, losses = ?, ended = NULL, error = NULL,"
        " cancelling = NULL WHERE id = ?",
        (phase, losses, id),
    )
    return note(connection, event, client)


def parent_has(
    connection: sqlite3.Connection, id: str, done: int, event: AnyEvent, client: str
) -> Sent:
    """So many of a parent's children have ended."""
    connection.execute("UPDATE jobs SET done = ? WHERE id = ?", (done, id))
    return note(connection, event, client)


def expanded(
    connection: sqlite3.Connection, parent: str, jobs: Sequence[New], events: Sequence[AnyEvent],
    now: float,
) -> list[tuple[int, Sent]]:  # fmt: skip
    """A parent's children; those of an attempt that was lost are forgotten."""
    connection.execute("DELETE FROM jobs WHERE parent = ?", (parent,))
    connection.execute(
        "UPDATE jobs SET phase = 'children', total = ?, done = 0 WHERE id = ?",
        (len(jobs), parent),
    )
    return insert(connection, jobs, events, now)


def cancelling(connection: sqlite3.Connection, ids: Iterable[str], when: str) -> None:
    """They are to stop."""
    connection.executemany(
        "UPDATE jobs SET cancelling = ? WHERE id = ?", [(when, id) for id in ids]
    )


def place(connection: sqlite3.Connection, id: str, position: float, priority: int) -> None:
    """Where it stands in the queue."""
    connection.execute(
        "UPDATE jobs SET position = ?, priority = ? WHERE id = ?", (position, priority, id)
    )


def paused(connection: sqlite3.Connection, client: str, value: bool) -> None:
    """Whether a client's jobs wait for its word."""
    connection.execute(
        "INSERT INTO clients (name, paused) VALUES (?, ?)"
        " ON CONFLICT DO UPDATE SET paused = excluded.paused",
        (client, int(value)),
    )


def fact(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Something that the server remembers of itself."""
    connection.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (name, value))


def cost(
    connection: sqlite3.Connection, model: str, size: str, device: str, seconds: float,
    table: str = "costs",
) -> None:  # fmt: skip
    """Take a run's seconds a network call into their running mean; durations: a step, with all."""
    connection.execute(
        f"INSERT INTO {table} (model, size, device, seconds, samples) VALUES (?, ?, ?, ?, 1)"
        " ON CONFLICT DO UPDATE SET seconds = 0.7 * seconds + 0.3 * excluded.seconds,"
        " samples = samples + 1",
        (model, size, device, seconds),
    )


def forget(connection: sqlite3.Connection, ids: Sequence[str]) -> list[str]:
    """Forget ended jobs and their children; hashes of files that nobody holds any more."""
    connection.executemany("DELETE FROM jobs WHERE id = ?", [(id,) for id in ids])
    return unheld(connection)


def unheld(connection: sqlite3.Connection) -> list[str]:
    """Forget pictures that no job and no upload holds; their hashes."""
    rows = connection.execute(
        "DELETE FROM pictures WHERE"
        " NOT EXISTS (SELECT 1 FROM uploads u WHERE u.sha256 = pictures.sha256)"
        " AND NOT EXISTS (SELECT 1 FROM inputs i WHERE i.sha256 = pictures.sha256)"
        " AND NOT EXISTS (SELECT 1 FROM results r WHERE r.sha256 = pictures.sha256)"
        " RETURNING sha256"
    ).fetchall()
    return [row[0] for row in rows]
