"""What a recipe records of the run that it was of, against what it is made again with."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sfumato.documents import parse_data
from sfumato.models.files.hashes import digest_of
from sfumato.models.model import Model
from sfumato.recipe import Recipe

log = logging.getLogger("sfumato")

CHANGES = {
    "0.2.0": "group norms are exact in float32, and solvers of higher order leave a state without "
    "a picture in first order: pictures differ by up to 2 levels of 255, from pure noise by more; "
    "networks of diffusers multiply by weights in oneDNN's layout on a CPU: by rounding",
}
"""What a version made otherwise than those before it: recipes of theirs are told so."""


class UsedWeights(BaseModel):
    """Weights that a method brought."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: Annotated[str, Field(max_length=1000)]
    sha256: Annotated[str, Field(max_length=100)]


class Art(BaseModel):
    """DiffStyler's second denoiser, as earlier recipes have it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    weights: Annotated[str, Field(max_length=100)]
    adapters: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=100)] = []


class RecordedRun(BaseModel):
    """What a recipe's `run` says of such weights."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    weights: Annotated[dict[str, UsedWeights], Field(max_length=1000)] = {}
    art: Art | None = None


def compare(recipe: Recipe, model: Model) -> None:
    """Say what differs from the machine that made it, since the bits may then differ."""
    recorded_version = recipe.versions.get("sfumato", "")
    for version, change in CHANGES.items():
        if recorded_version and _ordered(recorded_version) < _ordered(version):
            log.info("recipe of sfumato %s: since %s %s", recorded_version, version, change)
    recorded = recipe.versions.get("weights")
    if recorded and recorded != f"sha256 {model.weights}":
        log.warning(
            "weights of %s differ from those recorded: another picture is likely", model.name
        )


def _ordered(version: str) -> tuple[int, ...]:
    """A version's numbers, of which more are newer; letters end them."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def compare_method_weights(recorded: Mapping[str, Any], replayed: Mapping[str, Any]) -> None:
    """Say which weights that methods brought differ from those recorded."""
    current = method_weights(replayed)
    for field, (name, digest) in method_weights(recorded).items():
        if field in current and current[field][1] != digest:
            log.warning(
                "weights %s of %s differ from those recorded: another picture is likely",
                name or current[field][0], field,
            )  # fmt: skip


def method_weights(run: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """method.field -> name and sha256. Earlier recipes have "art", of DiffStyler alone."""
    document = parse_data(RecordedRun, run, "recipe: run")
    entries = {field: (weights.name, weights.sha256) for field, weights in document.weights.items()}
    if document.art is not None:
        digest = digest_of([document.art.weights, *document.art.adapters])
        entries.setdefault("diffstyler.art", ("", digest))
    return entries
