"""Routes for who operates it: is it alive, is it ready, how is it doing."""

from __future__ import annotations

import asyncio
import math
import shutil
import time
from dataclasses import dataclass, field

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from sfumato.server.api.shared import TheCallers, TheService
from sfumato.server.jobs import View
from sfumato.server.metrics import Metrics
from sfumato.server.service import Service
from sfumato.server.store import records
from sfumato.server.store.trouble import StoreError

router = APIRouter(tags=["operation"])

LASTS = 0.5  # seconds that an answer is good for
WITHIN = 3.0  # seconds in which a write must get to the disk


class Readiness(View):
    """Whether jobs can be taken and done, and of each part what is wrong."""

    ready: bool
    wrong: tuple[str, ...]


@dataclass
class Seen:
    """What was wrong when it was last looked at."""

    at: float = -math.inf
    wrong: list[str] = field(default_factory=list)


async def metered(request: Request, callers: TheCallers) -> None:
    """Figures are of all clients, and for any who has a token."""
    callers.caller(request)


@router.get("/livez", operation_id="isAlive", response_class=PlainTextResponse)
async def alive() -> str:
    """The server answers."""
    return "ok\n"


@router.get("/readyz", operation_id="isReady", response_model=Readiness,
            responses={503: {"description": "not ready", "model": Readiness}})  # fmt: skip
async def ready(service: TheService, request: Request) -> Response:
    """Jobs can be kept and done: the disk takes writes and has room, a runner is alive, and the
    server is not being stopped."""
    seen: Seen = request.app.state.seen
    if time.monotonic() - seen.at > LASTS:  # whoever asks, it is written once in a while
        seen.wrong, seen.at = await troubles(service), time.monotonic()
    wrong = seen.wrong
    readiness = Readiness(ready=not wrong, wrong=tuple(wrong))
    return JSONResponse(readiness.model_dump(), 503 if wrong else 200)


async def troubles(service: Service) -> list[str]:
    kept, wrong = service.kept, []
    if kept.closing:
        wrong.append("the server is being stopped")
    try:
        async with asyncio.timeout(WITHIN):
            await kept.db.write(lambda c: records.fact(c, "ready", str(kept.now())))
    except (StoreError, TimeoutError) as error:
        wrong.append(str(error) or f"the database takes more than {WITHIN:g} s")
    if kept.trouble and kept.trouble not in wrong:
        wrong.append(kept.trouble)
    if not any(runner.alive for runner in service.dispatcher.runners.values()):
        wrong.append("no runner is alive")
    free = shutil.disk_usage(kept.files.folder).free
    if free < service.settings.floor:
        wrong.append(f"only {free >> 20} MiB are free on the disk")
    return wrong


@router.get("/metrics", operation_id="getMetrics", response_class=PlainTextResponse,
            dependencies=[Depends(metered)])  # fmt: skip
async def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    gauges: Metrics = request.app.state.metrics
    return PlainTextResponse(gauges.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
