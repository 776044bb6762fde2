"""What a pipeline of compat is: where its weights come from, its scheduler, its LoRA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfumato.compat.schedulers import Scheduler
from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.ranges import real
from sfumato.models.loaders.library import load
from sfumato.models.model import Model
from sfumato.recipe.fields import STRENGTH


@dataclass
class State:
    """loras: name -> file and strength, those of strength 0 are not there. Weights are read when
    they are first needed."""

    source: str
    device: str
    dtype: str
    scheduler: Scheduler
    interrupt: bool = False
    loras: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    plain: Model | None = None
    adapted: Model | None = None

    @property
    def model(self) -> Model:
        """With its LoRA."""
        if self.plain is None:
            self.plain = load(self.source, device=self.device, dtype=self.dtype)
        if self.adapted is None:
            model = self.plain
            for file, scale in self.loras.values():
                model = model.adapt(file, scale) if scale else model
            self.adapted = model
        return self.adapted

    def moved(self, device: str, dtype: str) -> None:
        """To another device or number format; what was read is read again."""
        if (device, dtype) != (self.device, self.dtype):
            self.device, self.dtype = device, dtype
            self.plain = self.adapted = None

    def add(self, source: Any, weight_name: str | None, name: str | None) -> None:
        """A LoRA of a file, or of a folder and a file's name in it; it must fit."""
        if not isinstance(source, str | Path):
            raise SfumatoError(f"load_lora_weights: {source!r:.60}: give a file or a folder")
        file = str(source) if weight_name is None else str(Path(source) / weight_name)
        own = f"default_{len(self.loras)}" if name is None else str(name)
        if own in self.loras:
            raise SfumatoError(f"load_lora_weights: {quoted(own)} is there already")
        before = self.model
        self.adapted = before.adapt(file)
        self.loras = {**self.loras, own: (file, 1.0)}

    def weigh(self, names: Any, weights: Any) -> None:
        """The strengths of some; all others have none."""
        chosen = [names] if isinstance(names, str) else list(names)
        given = list(weights) if isinstance(weights, list | tuple) else [weights] * len(chosen)
        if len(given) != len(chosen):
            raise SfumatoError(f"set_adapters: {len(given)} weights for {len(chosen)} names")
        for name in chosen:
            if name not in self.loras:
                known = ", ".join(self.loras) or "none"
                raise SfumatoError(f"set_adapters: no {quoted(str(name))}; there are {known}")
        scales = {
            name: real(1.0 if scale is None else scale, "set_adapters: weight", STRENGTH)
            for name, scale in zip(chosen, given, strict=True)
        }
        self.loras = {name: (file, scales.get(name, 0.0)) for name, (file, _) in self.loras.items()}
        self.adapted = None

    def drop(self) -> None:
        """Without any."""
        self.loras, self.adapted = {}, self.plain
