"""What a run depends on: its recipe's fields and digests of what it reads, kept in its folder.

When a run goes on, what differs is said; what would make another run of it is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from sfumato.core.errors import SfumatoError
from sfumato.documents import read_json
from sfumato.train import checkpoint
from sfumato.train.config import Config, read
from sfumato.train.values import part

FILE, RECIPE, CHECKPOINT = "origin.json", "recipe.toml", "state.safetensors"
TOKENIZER = "tokenizer.json"
LIMIT = 64 << 20

FIXED = (
    *("tuner", "own.", "model.", "adapter.", "run.seed", "optim.optimizer"),
    *("data.size", "data.crop", "data.split", "data.judged"),
    *("subject.noun", "subject.name", "subject.wording", "subject.text", "subject.vectors"),
    *("subject.upsampler",),
)
"""Beginnings of fields that stay what they are as long as a run goes on."""

FREE = (
    *("name", "run.log", "run.grid", "run.judge", "run.save_minutes", "run.prompts"),
    *("optim.compile", "subject.checkpoint"),
    # where things are; what is there has a digest
    *("subject.pictures", "subject.class_folder", "model.start", "model.tokenizer"),
)
"""Fields without an influence on the result."""

LOOSE = ("model.network.dropout",)
"""Fields of a fixed table that may change."""

KEYED = ("model.network.", "own.")
"""Beginnings of fields of tables that are free in their keys."""

ADVICE = "put that back as it was, or begin a new run with another -o"


@part
class Dependencies:
    """recipe: fields by dotted name; digests: of what the run reads, by what it is called."""

    recipe: dict[str, JsonValue]
    digests: dict[str, str]


def of(config: Config, digests: Mapping[str, str]) -> Dependencies:
    """What a run of this recipe depends on; what it does not read is no part of it."""
    without = ("text", *config.unread())
    below = tuple(f"{name}." for name in without)
    flat = {
        name: value
        for name, value in _flat(config, "")
        if name not in without and not name.startswith(below)
    }
    return Dependencies(flat, dict(digests))


def _flat(value: Any, name: str) -> Sequence[tuple[str, Any]]:
    """Fields of dataclasses and tables by dotted name, as JSON has them."""
    if is_dataclass(value):
        below = {field.name: getattr(value, field.name) for field in fields(value)}
        kind = [] if name in PARTS or not name else [(name, type(value).__name__)]
    elif isinstance(value, Mapping):
        below, kind = dict(value), []
    elif isinstance(value, tuple | list):
        return [(name, json.loads(json.dumps(value)))]
    elif isinstance(value, float) and not math.isfinite(value):
        return [(name, str(value))]
    else:
        return [(name, value if _plain(value) else getattr(value, "__name__", repr(value)))]
    joined = f"{name}." if name else ""
    return [*kind, *(pair for key, each in below.items() for pair in _flat(each, joined + key))]


PARTS = tuple(field.name for field in fields(Config))


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def digest(data: bytes) -> str:
    """Enough of a SHA-256 to tell files apart."""
    return sha256(data).hexdigest()[:24]


def tokenizer(folder: Path) -> dict[str, str]:
    """Digest of a run's own tokenizer, where it has one."""
    file = folder / TOKENIZER
    return {TOKENIZER: digest(file.read_bytes())} if file.is_file() else {}


def kept(folder: Path) -> Dependencies | None:
    """What the run in a folder was begun with, as far as the folder knows it."""
    if (folder / FILE).exists():
        return read_json(Dependencies, folder / FILE, LIMIT)
    try:  # a run of an earlier version, which kept its recipe alone
        return of(read(folder / RECIPE), {})
    except SfumatoError:
        return None


def differing(folder: Path, now: Dependencies) -> list[str]:
    """Fields of the recipe that are not as they were when the run in the folder was begun."""
    before = kept(folder) if (folder / CHECKPOINT).exists() else None
    if before is None:
        return []
    return [
        f"{name} is {_text(value)}, was {_text(before.recipe[name])}"
        for name, value in now.recipe.items()
        if name not in FREE and before.recipe.get(name, value) != value
    ]


def going_on(folder: Path, now: Dependencies, *, whole: bool = True) -> list[str]:
    """Lines about what differs from the run in the folder; refused where it cannot go on.

    whole: now has all digests; else only those that it has are compared.
    """
    if not (folder / CHECKPOINT).exists():
        return []
    before = kept(folder)
    if before is None:
        return [f"{folder}: does not say what it was begun with; all is taken as it is now"]
    free_changes: list[str] = []
    refused: list[str] = []
    for line in differing(folder, now):
        name = line.split(" ", 1)[0]
        fixed = name.startswith(FIXED) and name not in LOOSE
        (refused if fixed else free_changes).append(line)
    # of a table that is free in its keys, such as a network's, one may be gone
    gone = [n for n in before.recipe if n.startswith(KEYED) and n not in now.recipe]
    new = [n for n in now.recipe if n.startswith(KEYED) and n not in before.recipe]
    refused += [f"{name} is left out, was {_text(before.recipe[name])}" for name in gone]
    refused += [f"{name} is {_text(now.recipe[name])}, was left out" for name in new]
    if now.digests and not before.digests:
        free_changes.append(
            "its pictures and model were not recorded; they are taken to be what they are now"
        )
    elif now.digests:
        refused += _differences(before.digests, now.digests, whole)
    if refused:
        more = f"; and {len(refused) - 6} more" if len(refused) > 6 else ""
        raise SfumatoError(
            f"{folder}: holds a run that cannot go on with this: {'; '.join(refused[:6])}{more}; "
            f"{ADVICE}"
        )
    return [f"{folder}: goes on, but {line}" for line in free_changes]


def _differences(before: Mapping[str, str], now: Mapping[str, str], whole: bool) -> list[str]:
    lines = [f"{name} has changed" for name in now if before.get(name, now[name]) != now[name]]
    if not whole:  # what is looked at early may be more than the run reads
        return lines
    lines += [f"{name} is new" for name in now if name not in before]
    return lines + [f"{name} is gone" for name in before if name not in now]


def _text(value: JsonValue) -> str:
    return f"{value!r:.60}" if not isinstance(value, float) else f"{value:g}"


def begin(folder: Path, config: Config, now: Dependencies) -> None:
    """Record what the run goes on with."""
    checkpoint.put_text(folder / RECIPE, config.text)
    record = {"recipe": now.recipe, "digests": now.digests}
    checkpoint.put_text(folder / FILE, json.dumps(record, indent=0, ensure_ascii=False))
