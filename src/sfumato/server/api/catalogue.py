"""Routes of what there is: methods, models, plans."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import JsonValue

from sfumato import methods
from sfumato.server.api.bodies import body, described
from sfumato.server.api.shared import Client, TheService
from sfumato.server.jobs import View
from sfumato.server.offered import Catalogue
from sfumato.server.requests import JobRequest
from sfumato.server.runner.protocol import ModelInfo, WeightsInfo

router = APIRouter(prefix="/v1", tags=["catalogue"])


class MethodInfo(View):
    """A method: fields is the JSON Schema of its fields, which are a form's; those that name
    weights (format weights or denoiser) have what they may name here as `offered`. unavailable: why
    no job can use it here, empty where one can."""

    id: str
    name: str
    text: str
    verb: bool
    slot: str | None
    presets: dict[str, dict[str, JsonValue]]
    fields: dict[str, JsonValue]
    unavailable: str = ""


class Methods(View):
    """All installed methods."""

    methods: tuple[MethodInfo, ...]


class Models(View):
    """All models that are offered, the first one the default. weights: files and folders that
    methods may name, by name or hash; those of the client's own trainings by both."""

    models: tuple[ModelInfo, ...]
    weights: tuple[WeightsInfo, ...]


class Plan(View):
    """What a job would do. calls: network calls, of a cascade those of each stage; seconds: about
    how long they take; work: share of the operations that is left; weights, memory: bytes of the
    weights, and at least what comes on top of them; peaks: both together by what is offloaded;
    sentences: the same as one would say it; notes:
    lines that a run says before it begins; children: jobs of a sweep or a batch, of
    which `first` is the first one's plan; nouns: what a training's pictures show, where its recipe
    does not say."""

    prompt: str | None = None
    calls: int | tuple[int, ...] | None = None
    times: tuple[float, ...] | None = None
    solver: JsonValue = None
    work_size: tuple[int, ...] | None = None
    size: tuple[int, int] | None = None
    edited: float | None = None
    seconds: float | None = None
    work: float | None = None
    weights: int | None = None
    memory: int | None = None
    peaks: dict[str, JsonValue] | None = None
    methods: tuple[dict[str, JsonValue], ...] | None = None
    recipe: dict[str, JsonValue] | None = None
    sentences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    nouns: tuple[str, ...] = ()
    children: int | None = None
    first: dict[str, JsonValue] | None = None


@router.get("/methods", operation_id="listMethods")
async def listed(service: TheService, client: Client) -> Methods:
    """Every installed method with the schema of its fields, and whether it can be used here."""
    catalogue = service.catalogue_of(client)
    return Methods(methods=tuple(info(cls, catalogue) for cls in methods.registry().values()))


def info(cls: type[methods.Method], catalogue: Catalogue) -> MethodInfo:
    text = " ".join((cls.__doc__ or "").split("\n\n")[0].split())
    presets: Any = {name: dict(values) for name, values in cls.presets.items()}
    return MethodInfo(
        id=cls.id, name=cls.__name__, text=text, verb=cls.verb, slot=cls.slot, presets=presets,
        fields=catalogue.fields(cls), unavailable=catalogue.lack(cls),
    )  # fmt: skip


@router.get("/models", operation_id="listModels")
async def offered(service: TheService, client: Client) -> Models:
    """The models that jobs may name, and weights that their methods may."""
    catalogue = service.catalogue_of(client)
    return Models(models=tuple(catalogue.models.values()), weights=catalogue.files)


@router.post("/plan", operation_id="planJob", openapi_extra=described(JobRequest))
async def plan(
    service: TheService,
    client: Client,
    request: Annotated[JobRequest, Depends(body(JobRequest))],
) -> Plan:
    """What a job would do: calls, sizes, seconds, memory. Nothing is run or kept."""
    return Plan.model_validate_json(json.dumps(await service.plan(client, request)))
