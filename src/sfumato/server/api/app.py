"""create_app(): the HTTP application of a service; routed(): its routes and their document."""

from __future__ import annotations

from fastapi import FastAPI

from sfumato.server.api import (
    catalogue,
    gallery,
    jobs,
    operation,
    page,
    pictures,
    problems,
    sessions,
    streams,
)
from sfumato.server.api.callers import Callers
from sfumato.server.api.document import document
from sfumato.server.api.gate import Gate
from sfumato.server.metrics import Metrics
from sfumato.server.service import Service


def routed() -> FastAPI:
    """All routes, of no service: what is described is the same for all."""
    app = FastAPI(
        title="sfumato", docs_url=None, redoc_url=None,
        separate_input_output_schemas=False, telemetry={"tracing": False},
    )  # fmt: skip
    for module in (jobs, streams, pictures, gallery, catalogue, sessions, operation):
        app.include_router(module.router)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]  # FastAPI's own way
    return app


def create_app(service: Service) -> FastAPI:
    """The app of a service that runs."""
    settings, app = service.settings, routed()
    metrics = Metrics(service.kept, service.dispatcher)
    app.state.seen = operation.Seen()
    service.kept.ended = metrics.job
    app.state.service, app.state.metrics = service, metrics
    app.state.callers = Callers.of(settings)
    problems.install(app)
    page.install(app)
    app.add_middleware(Gate, settings=settings, seen=metrics.request)
    return app
