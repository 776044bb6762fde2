"""Checkpoints: one safetensors file, written beside the old one and put in its place at once.

What is killed at any moment leaves either the old or the new file, never half of one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sfumato.core.errors import SfumatoError

SHARD = 15 * 2**20
"""Largest file of exported weights, in bytes."""


def write(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
    """Save tensors and a JSON note atomically."""
    put(path, tensors, {"note": json.dumps(note)})


def put(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Save tensors with a header beside the file, then in its place; a full disk leaves the old."""
    part = path.with_name(f".{path.name}.part")
    dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(dense, part, dict(header))
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise SfumatoError(
            f"{path}: could not be written ({error}); what was there is kept, free some space and "
            "give the same command again"
        ) from None


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and note of a checkpoint."""
    try:
        with safe_open(path, "pt") as file:
            note = json.loads((file.metadata() or {}).get("note", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, note  # noqa: SIM118
    except SafetensorError as error:
        raise SfumatoError(f"{path}: damaged or no checkpoint of sfumato ({error})") from None


def write_shards(
    folder: Path, stem: str, tensors: Mapping[str, Tensor], limit: int = SHARD
) -> list[str]:
    """Save as STEM-k-of-n.safetensors of at most `limit` bytes each; their names."""
    shards: list[dict[str, Tensor]] = [{}]
    room = limit - 2**18  # the header's share
    used = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if size > room:
            raise SfumatoError(f"{stem}: tensor {name} alone is larger than {limit} bytes")
        if used + size > room:
            shards.append({})
            used = 0
        shards[-1][name] = tensor.detach().cpu().contiguous()
        used += size
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{stem}-*-of-*.safetensors"):
        old.unlink()
    names = [f"{stem}-{k + 1}-of-{len(shards)}.safetensors" for k in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / name)
    return names
