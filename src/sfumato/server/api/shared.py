"""What all routes depend on: the service, and the client who calls.

Asynchronous, as FastAPI hands what is not to another thread, which takes longer than the rest.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request

from sfumato.server.api.callers import Callers
from sfumato.server.service import Service


async def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def callers_of(request: Request) -> Callers:
    callers: Callers = request.app.state.callers
    return callers


async def client_of(request: Request, callers: Annotated[Callers, Depends(callers_of)]) -> str:
    """The client; refused where it is nobody's, or comes too often."""
    client = callers.caller(request)
    request.scope["sfumato.client"] = client
    return client


TheService = Annotated[Service, Depends(service_of)]
TheCallers = Annotated[Callers, Depends(callers_of)]
Client = Annotated[str, Depends(client_of)]
Id = Annotated[str, Path(pattern="^[0-9a-f]{20}$", description="of a job")]
Hash = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of a file's bytes")]
