"""Secrets of methods: texts that jobs need and that nothing keeps.

A request is kept with their digests alone. The texts are in memory until its job has ended, and go
to the runner beside the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sfumato import methods
from sfumato.core.errors import SfumatoError
from sfumato.methods.common.secret import RECORDED, SecretText, secret_fields
from sfumato.server import requests
from sfumato.server.requests import JobRequest

R = TypeVar("R", bound=requests.Row)

Texts = dict[str, str]
"""By their digests."""


@dataclass
class Secrets:
    """Of jobs that have not ended; those of a parent are its children's too."""

    held: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def hold(self, id: str, texts: Mapping[str, str]) -> None:
        if texts:
            self.held[id] = texts

    def of(self, id: str, parent: str | None) -> Mapping[str, str]:
        """What a job's methods need."""
        return self.held.get(id) or self.held.get(parent or "") or {}

    def drop(self, id: str) -> None:
        self.held.pop(id, None)


def apart(request: JobRequest) -> tuple[JobRequest, Texts]:
    """The request with digests in the place of secrets, and their texts.

    SfumatoError where one is no text.
    """
    job, texts = request.job, Texts()
    if isinstance(job, requests.BatchJob):
        rows = tuple(_row(row, texts) for row in job.rows)
        request = request if not texts else JobRequest(job.model_copy(update={"rows": rows}))
    elif isinstance(job, requests.Row):
        row = _row(job, texts)
        request = request if not texts else JobRequest(row)
    return request, texts


def _row(row: R, texts: Texts) -> R:
    entries = tuple(_entry(entry, texts) for entry in row.recipe.methods)
    if entries == tuple(row.recipe.methods):
        return row
    return row.model_copy(update={"recipe": replace(row.recipe, methods=entries)})


def _entry(entry: Mapping[str, Any], texts: Texts) -> dict[str, Any]:
    cls = methods.registry().get(str(entry.get("method")))
    told = {}
    for name in [] if cls is None else secret_fields(cls):
        value = entry.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise SfumatoError(f"{entry['method']}: {name} must be a text")
        if value and RECORDED.fullmatch(value) is None:
            told[name] = SecretText.of(value).digest
            texts[told[name]] = value
    return {**entry, **told}


def untold(request: JobRequest, texts: Mapping[str, str]) -> str | None:
    """METHOD.FIELD of a secret whose digest alone is there, as of what was recorded."""
    job = request.job
    rows = job.rows if isinstance(job, requests.BatchJob) else (job,)
    recipes = (row.recipe for row in rows if isinstance(row, requests.Row))
    for entry in (entry for recipe in recipes for entry in recipe.methods):
        cls = methods.registry().get(str(entry.get("method")))
        for name in [] if cls is None else secret_fields(cls):
            value = entry.get(name)
            if isinstance(value, str) and RECORDED.fullmatch(value) and value not in texts:
                return f"{entry['method']}.{name}"
    return None
