"""Routes of jobs: submit, look, listen, cancel, retry, reorder, forget."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi import Request as HttpRequest
from pydantic import BaseModel
from starlette.responses import Response

from sfumato.server import requests
from sfumato.server.api.bodies import body, described
from sfumato.server.api.shared import Client, Id, TheService
from sfumato.server.jobs import Job, JobPage, Kind, State, View
from sfumato.server.requests import JobRequest
from sfumato.server.service import PAGE, Service

router = APIRouter(prefix="/v1", tags=["jobs"])


@router.post(
    "/jobs", status_code=202, operation_id="submitJob",
    openapi_extra=described(JobRequest),
)  # fmt: skip
async def submit(
    service: TheService,
    client: Client,
    request: Annotated[JobRequest, Depends(body(JobRequest))],
    response: Response,
    http: HttpRequest,
    key: Annotated[
        str | None,
        Header(alias="Idempotency-Key", min_length=1, max_length=200, pattern=r"^[ -~]+$",
               description="the same key and job give the job of then"),
    ] = None,
) -> Job:  # fmt: skip
    """Submit a job. It is on the disk when this answers."""
    job = await service.submit(client, request, key, http.scope["sfumato.request"])
    response.headers["location"] = f"{service.settings.root_path}/v1/jobs/{job.id}"
    return job


@router.get("/jobs", operation_id="listJobs")
async def listed(
    service: TheService,
    client: Client,
    state: Annotated[State | None, Query(description="those in this state")] = None,
    kind: Annotated[Kind | None, Query(description="those of this kind")] = None,
    parent: Annotated[
        str | None, Query(pattern="^[0-9a-f]{20}$", description="children of that job")
    ] = None,
    before: Annotated[
        int | None, Query(ge=1, le=1 << 62, description="`next` of the page before")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = 50,
) -> JobPage:
    """Jobs, the newest first, without children unless their parent is named."""
    return service.jobs(client, state, kind, parent, before, limit)


@router.get("/jobs/{id}", operation_id="getJob")
async def one(service: TheService, client: Client, id: Id) -> Job:
    """A job."""
    return service.job(client, id)


@router.get("/jobs/{id}/request", operation_id="getJobRequest", response_model=JobRequest)
async def request_of(service: TheService, client: Client, id: Id) -> Response:
    """What was asked for, to be posted again."""
    return json_of(service.request(client, id))


@router.post(
    "/jobs/{id}/cancel", operation_id="cancelJob",
    openapi_extra=described(requests.CancelRequest),
)  # fmt: skip
async def cancel(
    service: TheService,
    client: Client,
    id: Id,
    wanted: Annotated[requests.CancelRequest, Depends(body(requests.CancelRequest))],
) -> Job:
    """Stop a job now, within a network call, or after the picture at work; files made are kept.

    A training comes to its end then, after the step at work, with what it has learned.
    """
    return await service.cancel(client, id, wanted.when)


@router.post("/jobs/{id}/retry", operation_id="retryJob")
async def retry(service: TheService, client: Client, id: Id) -> Job:
    """Try a job again that failed, was cancelled or interrupted."""
    return await service.retry(client, id)


@router.post(
    "/jobs/{id}/reorder", operation_id="reorderJob",
    openapi_extra=described(requests.ReorderRequest),
)  # fmt: skip
async def reorder(
    service: TheService,
    client: Client,
    id: Id,
    wanted: Annotated[requests.ReorderRequest, Depends(body(requests.ReorderRequest))],
) -> Job:
    """Put a job that waits elsewhere in the queue."""
    return await service.reorder(client, id, wanted)


@router.delete("/jobs/{id}", status_code=204, operation_id="deleteJob")
async def delete(service: TheService, client: Client, id: Id) -> None:
    """Forget a job that has ended, and the files that only it holds."""
    await service.delete(client, id)


class QueueView(View):
    """A client's queue."""

    paused: bool
    waiting: int
    running: int


def queue_of(service: Service, client: str) -> QueueView:
    queue = service.kept.queue
    running = sum(entry.client == client for entry in queue.running())
    return QueueView(paused=client in queue.paused, waiting=queue.count(client), running=running)


def json_of(value: BaseModel) -> Response:
    return Response(value.model_dump_json(), media_type="application/json")


@router.get("/queue", operation_id="getQueue")
async def queue(service: TheService, client: Client) -> QueueView:
    """Whether the client's jobs may begin, and how many wait."""
    return queue_of(service, client)


@router.post("/queue/pause", operation_id="pauseQueue")
async def pause(service: TheService, client: Client) -> QueueView:
    """Begin none of the client's jobs; what runs goes on."""
    await service.pause(client, True)
    return queue_of(service, client)


@router.post("/queue/resume", operation_id="resumeQueue")
async def resume(service: TheService, client: Client) -> QueueView:
    """Begin jobs again."""
    await service.pause(client, False)
    return queue_of(service, client)


@router.get("/queue/export", operation_id="exportQueue", response_model=requests.Exported)
async def export(service: TheService, client: Client) -> Response:
    """Requests of all jobs that have not ended, to be posted again, here or elsewhere."""
    return json_of(service.export(client))
