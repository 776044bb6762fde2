"""Weights that methods bring: small files that they read themselves, and what a run records of any.

No file here imports torch when it is loaded.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from sfumato import documents
from sfumato.core.context import Run
from sfumato.core.errors import SfumatoError
from sfumato.core.source import Origin
from sfumato.recipe.places import called

if TYPE_CHECKING:
    from torch import Tensor

SMALL = 256 << 20
"""Bytes of a file that a method reads by itself."""


def opened(name: str) -> tuple[dict[str, Tensor], Origin]:
    """The tensors of a method's own safetensors file, and where they come from."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    file = documents.expanded(name)
    data = documents.read_bytes(file, SMALL)
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise SfumatoError(f"{file.name}: is no safetensors file ({error!s:.80})") from None
    wide = {key: v if v.is_complex() else v.float() for key, v in tensors.items()}
    if odd := next((key for key, value in wide.items() if not value.isfinite().all()), None):
        raise SfumatoError(f"{file.name}: {odd} has values that are not finite; make it anew")
    return tensors, Origin(called(str(file)), sha256(data).hexdigest())


def read(run: Run, method: str, field: str, name: str) -> dict[str, Tensor]:
    """The same on the run's device, recorded."""
    tensors, origin = opened(name)
    record(run, method, field, origin)
    return {key: value.to(run.device) for key, value in tensors.items()}


def record(run: Run, method: str, field: str, origin: Origin | None) -> None:
    """Into the recipe's `run`, under "weights": {"method.field": {"name", "sha256"}}; of others
    under "method.field 2" and so on."""
    if origin is not None:
        entry = {"name": origin.name, "sha256": origin.sha256}
        weights, key = run.report.setdefault("weights", {}), f"{method}.{field}"
        same = [name for name in weights if name.partition(" ")[0] == key]
        if entry not in (weights[name] for name in same):
            weights[f"{key} {len(same) + 1}" if same else key] = entry
