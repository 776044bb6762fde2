"""What a pipeline of compat is: where its weights come from, its scheduler, its LoRA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfumato.compat.schedulers import Scheduler
from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.ranges import real
from sfumato.documents import is_there
from sfumato.models.adapters import locate
from sfumato.models.files import hub
from sfumato.models.files.adapter_files import read_adapter
from sfumato.models.files.adapter_folders import only_file
from sfumato.models.files.learned_words import words_of
from sfumato.models.loaders.library import load
from sfumato.models.model import Model
from sfumato.recipe.fields import STRENGTH


@dataclass
class State:
    """loras: name -> file and strength, those of strength 0 are not there; fused: the same of those
    that stay when they are unloaded. learned: files of words. enabled: whether LoRA act; tiled:
    whether the autoencoder works by tiles. Weights are read when they are first needed."""

    source: str
    device: str
    dtype: str
    scheduler: Scheduler
    offload: str = "none"
    interrupt: bool = False
    loras: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    fused: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    learned: tuple[str, ...] = ()
    enabled: bool = True
    tiled: bool = False
    plain: Model | None = None
    adapted: Model | None = None

    @property
    def model(self) -> Model:
        """With its LoRA and learned words."""
        if self.plain is None:
            self.plain = load(
                self.source, device=self.device, dtype=self.dtype, offload=self.offload
            )
            if self.tiled:
                self.tile(True)
        if self.adapted is None:
            model = self.plain
            free = self.loras if self.enabled else {}
            for file, scale in {**free, **self.fused}.values():
                model = model.adapt(file, scale) if scale else model
            for file in self.learned:
                model = model.adapt(file)
            self.adapted = model
        return self.adapted

    def tile(self, tiled: bool) -> None:
        """Whether the autoencoder works by tiles, now and when it is read again."""
        plain = self.plain or self.model
        net: Any = getattr(plain.space, "autoencoder", None)
        if not hasattr(net, "enable_tiling"):
            raise SfumatoError(f"{type(net).__name__}: works on whole pictures alone; leave it out")
        self.tiled = tiled
        (net.enable_tiling if tiled else net.disable_tiling)()

    def moved(self, device: str, dtype: str, offload: str = "none") -> None:
        """To another device, number format or way of being there; what was read is read again."""
        if (device, dtype, offload) != (self.device, self.dtype, self.offload):
            self.device, self.dtype, self.offload = device, dtype, offload
            self.plain = self.adapted = None

    def add(self, source: Any, weight_name: str | None, name: str | None) -> None:
        """A LoRA of a file, or of a folder or org/name and a file's name in it; it must fit."""
        file = _file(source, weight_name, "load_lora_weights")
        there = {**self.loras, **self.fused}
        free = (f"default_{k}" for k in range(len(self.loras), len(self.loras) + len(there) + 1))
        own = next(one for one in free if one not in there) if name is None else name
        if not isinstance(own, str) or not own:
            raise SfumatoError(f"load_lora_weights: adapter_name = {own!r:.60}: give a text")
        if own in there:
            raise SfumatoError(f"load_lora_weights: {quoted(own)} is there already")
        if self._words(file):
            raise SfumatoError(f"load_lora_weights: {file}: holds words; load_textual_inversion "
                               "reads them")  # fmt: skip
        self.model.adapt(file)
        self.loras, self.adapted = {**self.loras, own: (file, 1.0)}, None

    def _words(self, file: str) -> bool:
        """Whether a file is one of learned words."""
        path = locate(self.model, file)
        path = only_file(path) if path.is_dir() else path
        return bool(words_of(read_adapter(path)[0], path))

    def weigh(self, names: Any, weights: Any) -> None:
        """The strengths of some; all others have none."""
        chosen = self._known(names, "set_adapters")
        strengths = list(weights) if isinstance(weights, list | tuple) else [weights] * len(chosen)
        if len(strengths) != len(chosen):
            raise SfumatoError(f"set_adapters: {len(strengths)} weights for {len(chosen)} names")
        scales = {
            name: real(1.0 if scale is None else scale, "set_adapters: weight", STRENGTH)
            for name, scale in zip(chosen, strengths, strict=True)
        }
        self.loras = {name: (file, scales.get(name, 0.0)) for name, (file, _) in self.loras.items()}
        self.adapted = None

    def _known(self, names: Any, asked: str) -> list[str]:
        chosen = [names] if isinstance(names, str) else names
        if not isinstance(chosen, list | tuple) or not all(isinstance(n, str) for n in chosen):
            raise SfumatoError(f"{asked}: {names!r:.60}: give a name, or a list of names")
        for name in chosen:
            if name not in self.loras:
                known = ", ".join(self.loras) or "none"
                raise SfumatoError(f"{asked}: no {quoted(str(name))}; there are {known}")
        if len({*chosen}) < len(chosen):
            raise SfumatoError(f"{asked}: {names!r:.60}: has a name twice; give each once")
        return [*chosen]

    @property
    def active(self) -> list[str]:
        return [name for name, (_, scale) in self.loras.items() if scale]

    def delete(self, names: Any) -> None:
        gone = self._known(names, "delete_adapters")
        self.loras = {name: one for name, one in self.loras.items() if name not in gone}
        self.adapted = None

    def enable(self, enabled: bool) -> None:
        """Whether LoRA act; those that were fused do."""
        self.enabled, self.adapted = enabled, None

    def fuse(self, scale: Any) -> None:
        """Keep those that are there, at so many times their strengths."""
        times = real(scale, "fuse_lora: lora_scale", STRENGTH)
        fused = {
            name: (file, real(own * times, "fuse_lora: strength", STRENGTH))
            for name, (file, own) in self.loras.items()
        }
        self.fused, self.adapted = {**self.fused, **fused}, None

    def unfuse(self) -> None:
        self.fused, self.adapted = {}, None

    def drop(self) -> None:
        """Without any but those that were fused."""
        self.loras, self.adapted = {}, None

    def learn(self, source: Any, weight_name: str | None) -> None:
        """Words of a file."""
        file = _file(source, weight_name, "load_textual_inversion")
        if not self._words(file):
            raise SfumatoError(f"load_textual_inversion: {file}: holds no learned words")
        self.model.adapt(file)
        self.learned, self.adapted = (*self.learned, file), None

    def forget(self) -> None:
        self.learned, self.adapted = (), None


def _file(source: Any, weight_name: str | None, asked: str) -> str:
    if not isinstance(source, str | Path):
        raise SfumatoError(f"{asked}: {source!r:.60}: give a file or a folder")
    if weight_name is not None and not isinstance(weight_name, str):
        raise SfumatoError(f"{asked}: weight_name = {weight_name!r:.60}: give a file's name")
    place = source if is_there(Path(source)) else hub.find(str(source)) or source
    return str(place) if weight_name is None else str(Path(place) / weight_name)


@dataclass(frozen=True)
class Autoencoder:
    """What scripts switch of a pipeline's autoencoder."""

    state: State

    def enable_tiling(self) -> None:
        """A large picture by parts that overlap, which differ from the whole at their edges."""
        self.state.tile(True)

    def disable_tiling(self) -> None:
        self.state.tile(False)

    def enable_slicing(self) -> None:
        """Pictures go through it one by one anyway."""

    def disable_slicing(self) -> None:
        """Pictures go through it one by one whatever was said."""
