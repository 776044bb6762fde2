"""Files of a run: each is written beside the old one and put in its place at once.

What is killed at any moment leaves either the old or the new file, never half of one. A checkpoint
is one safetensors file with a note.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.documents import check_regular, parse_json
from sfumato.train.values import part

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

SHARD = 15 * 2**20
"""Largest file of exported weights, in bytes."""


def write(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
    """Save tensors and a JSON note atomically."""
    put(path, tensors, {"note": json.dumps(note)})


def put(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Save tensors with a header beside the file, then in its place; a full disk leaves the old."""
    dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with beside(path) as temporary:
        save_file(dense, temporary, dict(header) or None)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Where to write the file; it takes the other's place when it is whole. Its folder is made."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
    except SfumatoError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """While active, what the disk refuses is an error that names the file or folder."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, shutil.Error):  # of a folder's files, each with its reason
            first: object = error.args[0][0][-1]
        else:
            first = error
        reason = getattr(first, "strerror", None) or f"{first!s:.200}"
        raise SfumatoError(
            f"{path}: could not be written ({reason}); what was there is kept, free some space and "
            "give the same command again"
        ) from None


def put_text(path: Path, text: str) -> None:
    """A text file, written only where it says something else."""
    data = text.encode()
    with suppress(OSError):
        if path.read_bytes() == data:
            return
    with beside(path) as temporary:
        temporary.write_bytes(data)


def put_picture(path: Path, picture: PILImage) -> None:
    """A page of pictures, as PNG."""
    with beside(path) as temporary:
        picture.save(temporary, "PNG")


@part
class Note:
    """What a checkpoint says of itself: steps done, seconds taken, the last measures; ceiling: a
    loss above it is no healthy one (0: not known yet)."""

    step: Annotated[int, Field(ge=0, le=10**9)]
    seconds: Annotated[float, Field(ge=0)] = 0.0
    measures: dict[str, Annotated[float, Field(allow_inf_nan=True)]] = field(default_factory=dict)
    ceiling: Annotated[float, Field(ge=0)] = 0.0


def read(path: Path) -> tuple[dict[str, Tensor], Note]:
    """Tensors and note of a checkpoint."""
    check_regular(path)
    try:
        with safe_open(path, "pt") as file:
            note = parse_json(Note, (file.metadata() or {}).get("note", "{}"), str(path))
            return {name: file.get_tensor(name) for name in file.keys()}, note  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise SfumatoError(
            f"{path}: damaged or no checkpoint of sfumato ({error}); begin anew in another folder"
        ) from None


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
    names = [f"{stem}-{k + 1}-of-{len(shards)}.safetensors" for k in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        put(folder / name, shard, {})
    for old in folder.glob(f"{stem}-*-of-*.safetensors"):
        if old.name not in names:
            old.unlink()
    return names
