"""What a client's own trainings have made, and which fields of methods may name it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath

from sfumato import methods
from sfumato.methods.common.kinds import DENOISER
from sfumato.methods.common.named import weights_fields
from sfumato.recipe.names import Reference
from sfumato.server.runner.protocol import WeightsInfo
from sfumato.server.store.database import Database

FILES = 200  # the newest
LETTERS = 60  # of a training's name in its file's
MADE: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "asyrp": ("shift.safetensors", ("asyrp.file", "asyrp.also")),
    "boundary": ("boundary.safetensors", ("boundary_diffusion.file",)),
    "controlnet": ("control.safetensors", ("controlnet.file",)),
    "ip_adapter": ("adapter.safetensors", ("ip_adapter.file",)),
}
"""By tuner: the file that it leaves for a method, and the fields that read it."""
ADAPTERS = ("adapter.safetensors", "pytorch_lora_weights.safetensors")
"""What the other tuners leave that runs beside a model."""
READ = (
    "SELECT j.id, j.name AS job, coalesce(j.request ->> '$.config.tuner', '') AS tuner,"
    " r.name, r.sha256, p.bytes"
    " FROM jobs j JOIN results r ON r.job = j.id JOIN pictures p USING (sha256)"
    " WHERE j.client = ? AND j.kind = 'train' AND j.state = 'done' AND r.hidden IS NULL"
    " AND r.name LIKE '%.safetensors' ORDER BY j.number DESC, r.name LIMIT ?"
)


def trained(db: Database, client: str) -> tuple[WeightsInfo, ...]:
    """Files of a client's finished trainings that methods may name, the newest first, each by the
    training's name and its hash, as recipes name them."""
    best: dict[str, WeightsInfo] = {}  # by training: of best/ and model/ the best
    for row in db.read(READ, (client, FILES)):
        fields = tuple(fields_of(row["tuner"], PurePath(row["name"]).name))
        if fields and row["id"] not in best:
            name = Reference(row["sha256"], file_name(row["job"] or row["tuner"]))
            best[row["id"]] = WeightsInfo(str(name), row["sha256"], row["bytes"], fields)
    return tuple({one.sha256: one for one in best.values()}.values())


def fields_of(tuner: str, file: str) -> Iterable[str]:
    """METHOD.FIELD of those that read a file of a tuner."""
    if tuner in MADE:
        name, fields = MADE[tuner]
        return fields if file == name else ()
    return _adapted() if file in ADAPTERS else ()


def _adapted() -> Iterator[str]:
    """Fields that take a model or an adapter."""
    for id, cls in methods.registry().items():
        for name, field in weights_fields(cls).items():
            if field.format == DENOISER:
                yield f"{id}.{name}"


def file_name(training: str) -> str:
    """What recipes call a training's file."""
    plain = re.sub(r"[^\w.-]+", "-", training).strip("-.")[:LETTERS]
    return f"{plain or 'trained'}.safetensors"
