"""Routes of events: of one job, and of all of a client's."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from starlette.responses import Response

from sfumato.server.api.problems import RefusedHere
from sfumato.server.api.shared import Client, Id, TheService
from sfumato.server.api.stream import EventStream
from sfumato.server.service import Service
from sfumato.server.store import reading

router = APIRouter(prefix="/v1", tags=["events"])

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "events as they happen, the data of each a JobEvent",
        "content": {"text/event-stream": {"schema": {}}},
    },
    204: {"description": "no event comes after that one"},
}


async def last_seen(
    last: Annotated[
        str | None,
        Header(alias="Last-Event-ID", description="number of the last event that was seen"),
    ] = None,
) -> int | None:
    """Checked before the stream begins, as its answer is 200."""
    if last is None or not last.strip():
        return None
    if not (last.isascii() and last.isdigit() and len(last) < 19):
        raise RefusedHere(422, f"Last-Event-ID {last!r:.40}: is no event's number", "Last-Event-ID")
    return int(last)


Last = Annotated[int | None, Depends(last_seen)]


@router.get(
    "/jobs/{id}/events", operation_id="streamJob", response_class=Response, responses=ANSWERS
)
async def of_job(service: TheService, client: Client, id: Id, last: Last) -> Response:
    """Events of a job and its children, from the first or after the last seen, until it ends."""
    job = service.job(client, id)
    if last is not None and job.state.ended:
        missed = reading.events_after(service.kept.db, last, client=client, job=id)
        if next(missed, None) is None:
            return Response(status_code=204)
    return stream(service, client, id, last or 0)


@router.get("/events", operation_id="streamEvents", response_class=Response, responses=ANSWERS)
async def of_all(service: TheService, client: Client, last: Last) -> Response:
    """Events of all the client's jobs, from now on or after the last seen."""
    if last is None:
        newest = service.kept.db.one("SELECT max(number) AS n FROM events")
        last = int(newest["n"] or 0) if newest else 0
    return stream(service, client, None, last)


def stream(service: Service, client: str, job: str | None, last: int) -> EventStream:
    kept, settings = service.kept, service.settings
    if kept.hub.count(client) >= settings.limits.streams:
        raise RefusedHere(429, f"{settings.limits.streams} streams are open; close one first")
    listener = kept.hub.listen(client, job)
    missed = reading.events_after(kept.db, last, client=client, job=job)
    return EventStream(kept.hub, listener, missed, last, settings.heartbeat, settings.patience)
