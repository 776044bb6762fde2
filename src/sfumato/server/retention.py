"""Retention: what has ended goes by its age, and the oldest where pictures take too much."""

from __future__ import annotations

import asyncio
import logging
import sqlite3

from sfumato.server.service import Service
from sfumato.server.store import records
from sfumato.server.store.trouble import StoreError

EVERY = 600.0  # seconds
AT_ONCE = 200  # jobs that are forgotten in one transaction
DAY = 86_400
UNUSED = 2 * DAY  # seconds that an upload stays which no job holds

UNDONE = 3600.0  # seconds in which a picture that was deleted can be restored

log = logging.getLogger("sfumato.server")

ENDED = "SELECT j.id FROM jobs j WHERE j.parent IS NULL AND j.state NOT IN ('queued', 'running')"


async def retain(service: Service) -> None:
    """Forget what is too old or too much, now and then."""
    while True:
        try:
            await tidy(service)
        except StoreError as error:
            log.error("cannot tidy: %s", error)
        await asyncio.sleep(EVERY)


async def tidy(service: Service) -> int:
    """Forget it once; how many jobs were."""
    kept, keeping = service.kept, service.settings.retention
    gone = 0
    if keeping.days is not None:
        until = kept.now() - keeping.days * DAY
        gone += await _forget(service, f"{ENDED} AND j.ended < ?", (until,))

    def unused(connection: sqlite3.Connection) -> list[str]:
        until = kept.now() - UNUSED
        connection.execute("DELETE FROM uploads WHERE used < ?", (until,))
        connection.execute("DELETE FROM results WHERE hidden < ?", (kept.now() - UNDONE,))
        return records.unheld(connection)

    await service.remove(await kept.db.write(unused))
    while keeping.bytes is not None and size_of(service) > keeping.bytes:
        forgotten = await _forget(service, f"{ENDED} ORDER BY j.ended", (), once=True)
        if not forgotten:
            break
        gone += forgotten
    return gone


async def _forget(service: Service, sql: str, values: tuple[float, ...], once: bool = False) -> int:
    total = 0
    few = 10 if once else AT_ONCE
    while rows := service.kept.db.read(f"{sql} LIMIT {few}", values):
        await service.forget([row["id"] for row in rows])
        total += len(rows)
        if once:
            break
    return total


def size_of(service: Service) -> int:
    """Bytes of all pictures, and of what trainings keep."""
    row = service.kept.db.one("SELECT coalesce(sum(bytes), 0) AS n FROM pictures")
    return (int(row["n"]) if row else 0) + service.kept.runs.bytes()
