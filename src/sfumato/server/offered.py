"""What a server offers: models and weights, by the names and hashes that recipes give.

Where these lead is a runner's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from sfumato import methods
from sfumato.methods import Method
from sfumato.methods.common.kinds import DENOISER, WORDS
from sfumato.methods.common.named import weights_fields
from sfumato.recipe.names import WEIGHTS, Reference
from sfumato.server.runner.protocol import ModelInfo, WeightsInfo


@dataclass(frozen=True)
class Catalogue:
    """What is offered. models: by name; files: weights that methods may name."""

    models: Mapping[str, ModelInfo]
    files: tuple[WeightsInfo, ...] = ()

    def names(self, field: str, format: str) -> list[str]:
        """What METHOD.FIELD may name here."""
        names = [one.name for one in self.files if field in one.fields]
        if format == DENOISER:
            names += [name for model in self.models.values() for name in model.adapters]
            names += self.models
        return list(dict.fromkeys(names))

    def offers(self, field: str, format: str, value: str) -> bool:
        """Whether METHOD.FIELD may name it so: by a name or a hash."""
        reference = Reference.of(value)
        if reference is None:
            return value in WORDS or value in self.names(field, format)
        return any(one.sha256 == reference.sha256 and field in one.fields for one in self.files)

    def lack(self, cls: type[Method]) -> str:
        """Why no job can use a method; "" where one can."""
        for name, field in weights_fields(cls).items():
            if field.required and not self.names(f"{cls.id}.{name}", field.format):
                return (
                    f"{cls.id}: needs weights ({name}) that this server does not offer; start it "
                    f"with --weights {cls.id}=FILE"
                )
        return ""

    def fields(self, cls: type[Method]) -> dict[str, Any]:
        """The schema of a method's fields, those of weights with what they may name here."""
        schema = methods.schema(cls)
        for name, field in weights_fields(cls).items():
            schema["properties"][name]["offered"] = self.names(f"{cls.id}.{name}", field.format)
        return schema


def own_weights(value: str) -> Reference | None:
    """What may be a file of a client's own training: no name that would be read as another kind."""
    reference = Reference.of(value)
    kind = "" if reference is None else PurePath(reference.name).suffix.lower()
    return None if kind in WEIGHTS and kind != ".safetensors" else reference
