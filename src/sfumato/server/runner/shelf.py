"""Shelf: weights that methods may name at a runner, by the names and hashes of recipes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sfumato.core.errors import SfumatoError
from sfumato.documents import is_there
from sfumato.models.files import hub
from sfumato.models.files.adapter_folders import FILES
from sfumato.models.files.digests import files_of, weights_digest
from sfumato.recipe.names import WEIGHTS, Reference
from sfumato.recipe.places import Find, called, naming_by
from sfumato.server.offering import Offering
from sfumato.server.runner.protocol import WeightsInfo


@dataclass
class Shelf:
    """Weights of an offer. Those that a recipe calls by another name have a link of that name here,
    the same as long as the runner lives, since models keep what was loaded by its path."""

    offerings: Sequence[Offering] = ()
    links: dict[str, Reference] = field(default_factory=dict)

    @cached_property
    def folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="sfumato-weights-")

    @cached_property
    def files(self) -> tuple[WeightsInfo, ...]:
        """Each with its hash. SfumatoError where one is not there."""
        return tuple(_info(one) for one in self.offerings)

    @cached_property
    def sources(self) -> dict[str, str]:
        """By hash."""
        pairs = zip(self.files, self.offerings, strict=True)
        return {info.sha256: one.source for info, one in pairs}

    @property
    def places(self) -> dict[str, Path]:
        """Where each lies, by its hash."""
        return {sha256: path_of(source) for sha256, source in self.sources.items()}

    def finder(self, inputs: Mapping[str, Path]) -> Find:
        """Where a recipe's names lead. inputs: files that came with the task, by hash."""
        by_name = {one.name: one.source for one in self.offerings}

        def find(name: str) -> str | None:
            reference = Reference.of(name)
            if reference is None:
                return by_name.get(name)
            if (source := self.sources.get(reference.sha256)) is not None:
                same = reference.name in ("", Path(source).name)
                return source if same else self._linked(reference, path_of(source))
            if (file := inputs.get(reference.sha256)) is None:
                raise SfumatoError(f"weights {name:.200}: not offered by this server")
            own = reference.name or f"{reference.sha256}.safetensors"
            return self._linked(Reference(reference.sha256, own), file)

        return find

    def _linked(self, reference: Reference, target: Path) -> str:
        """A link of the reference's name; a folder that holds one, where the name is a folder's."""
        named = link = Path(self.folder.name) / reference.sha256 / reference.name
        if target.is_file() and named.suffix.lower() not in WEIGHTS:
            link = named / FILES[0]
        link.parent.mkdir(parents=True, exist_ok=True)
        if not (link.is_symlink() and link.readlink() == target.absolute()):
            link.unlink(missing_ok=True)
            link.symlink_to(target.absolute())
        self.links[str(named)] = reference
        return str(named)

    @contextmanager
    def named(self) -> Iterator[None]:
        """While active, recipes name weights so that they lead here again."""
        with naming_by(lambda text: str(self.links.get(text) or called(text))):
            yield


def path_of(source: str) -> Path:
    """Where an offering lies. SfumatoError where it does not."""
    path = Path(source) if is_there(Path(source)) else hub.find(source)
    if path is None:
        hint = f"`sfumato models pull {source}`" if hub.is_name(source) else "put it there"
        raise SfumatoError(f"weights {source}: not here; {hint}")
    return path


def _info(one: Offering) -> WeightsInfo:
    path = path_of(one.source)
    size = sum(file.stat().st_size for file in files_of(path))
    return WeightsInfo(one.name, weights_digest(path), size, one.fields)
