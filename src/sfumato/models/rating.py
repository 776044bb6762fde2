"""Heads that rate a CLIP's vectors, fitted to what people said of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.core.source import Origin
from sfumato.documents import expanded
from sfumato.home import home
from sfumato.models.files.checkpoint import read_state_dict
from sfumato.models.files.hashes import file_digest

if TYPE_CHECKING:
    from sfumato.models.model import Model


@dataclass(frozen=True, eq=False)
class Head:
    """Ratings of a CLIP's unit vectors (..., E) -> (...): w . (scale v) + b. name: of its file."""

    weight: Tensor
    bias: Tensor
    scale: float
    name: str = ""
    origin: Origin | None = None

    @property
    def width(self) -> int:
        return len(self.weight)

    def __call__(self, vectors: Tensor) -> Tensor:
        rating: Tensor = (vectors * self.scale) @ self.weight + self.bias
        return rating


def head_of(tensors: Mapping[str, Tensor], name: str, device: str = "cpu") -> Head:
    """A linear head: keys linear.* read vectors of length sqrt(E) (SAC), bare keys unit ones (AVA).

    name: of the file, for errors.
    """
    prefix = "linear." if "linear.weight" in tensors else ""
    weight, bias = tensors.get(f"{prefix}weight"), tensors.get(f"{prefix}bias")
    if weight is None or bias is None or weight.ndim != 2 or len(weight) != 1 or len(bias) != 1:
        raise SfumatoError(
            f"{name}: no head of ratings; one has weight (1, width) and bias (1), or the same as "
            "linear.weight and linear.bias"
        )
    scale = weight.shape[1] ** 0.5 if prefix else 1.0
    return Head(weight[0].float().to(device), bias[0].float().to(device), scale, name)


def rating_of(model: Model, name: str | None) -> Head | None:
    """By a file, else the last of SFUMATO_HOME."""
    candidates = sorted([*home().glob("sac_*"), *home().glob("ava_*")])
    file = expanded(name) if name else candidates[-1] if candidates else None
    if file is None:
        return None
    head = head_of(read_state_dict(file), file.name, model.choice.device)
    return replace(head, origin=Origin(file.name, file_digest(file)))
