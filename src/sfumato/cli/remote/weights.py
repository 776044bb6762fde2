"""Weights that methods name, as a server knows them: what lies here by hash, the rest by name."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sfumato.cli.remote.server import Server
from sfumato.core.errors import SfumatoError, quoted
from sfumato.methods import Method, to_data
from sfumato.methods.common.kinds import DENOISER, WORDS
from sfumato.methods.common.named import weights_fields
from sfumato.models.files import hub
from sfumato.models.files.adapter_folders import is_adapter, only_file
from sfumato.models.files.digests import weights_digest
from sfumato.recipe.names import Reference

Recorded = Mapping[tuple[str, str], str]
"""sha256 of weights that a run recorded, by METHOD.FIELD and name."""


def referred(server: Server, method: Method, recorded: Recorded) -> dict[str, Any]:
    """A method's entry in a recipe for that server.

    SfumatoError where it does not offer the weights that the method names.
    """
    entry = to_data(method)
    for name, field in weights_fields(type(method)).items():
        value = getattr(method, name)
        names = Names(server, f"{method.id}.{name}", field.format, recorded)
        if isinstance(value, tuple):
            entry[name] = [names.told(one) for one in value]
        elif value is not None:
            entry[name] = names.told(value)
    return entry


class Names:
    """How one field names weights at a server."""

    def __init__(self, server: Server, field: str, format: str, recorded: Recorded) -> None:
        self.server, self.field, self.recorded = server, field, recorded
        self.files = [one for one in server.weights if field in one.fields]
        self.adapters = format == DENOISER
        self.models = [*server.models] if self.adapters else []
        adapters = {name for model in server.models.values() for name in model.adapters}
        self.known = {one.name for one in self.files} | {*self.models}
        self.known |= adapters if self.adapters else set()

    def told(self, value: str) -> str:
        if value in WORDS or Reference.of(value) is not None:
            return value
        path, name = place(value)
        if path is None:
            return self._named(value)
        if self.adapters and path.is_dir() and is_adapter(path):
            path = only_file(path)
        sha256 = weights_digest(path)
        for one in self.files:
            if one.sha256 == sha256:
                return name if name == one.name else self._by_hash(sha256, name, path)
        own = path.suffix == ".safetensors" and path.is_file()
        if own and self.server.has(sha256):  # of a training there
            return self._by_hash(sha256, name, path)
        if name in self.models:
            return name
        raise self._missing(f"{quoted(name)} (sha256 {sha256[:12]}…)")

    def _by_hash(self, sha256: str, name: str, path: Path) -> str:
        """name: what a run here would record, if that is no org/name."""
        return str(Reference(sha256, path.name if "/" in name else name))

    def _named(self, value: str) -> str:
        """Of what does not lie here."""
        sha256 = self.recorded.get((self.field, value))
        if value not in self.known and any(one.sha256 == sha256 for one in self.files):
            return str(Reference(sha256 or "", value))
        if value not in self.known:
            raise self._missing(quoted(value))
        return value

    def _missing(self, what: str) -> SfumatoError:
        url = self.server.connection.url
        offers = f"it offers {', '.join(sorted(self.known))}" if self.known else "it offers none"
        return SfumatoError(f"{self.field} = {what}: not offered by {url}; {offers}")


def place(value: str) -> tuple[Path | None, str]:
    """Where weights lie on this machine, if they do; and what a recipe calls them."""
    with suppress(OSError, RuntimeError, ValueError):  # a text that cannot be a path
        path = Path(value).expanduser()
        return (path, path.name) if path.exists() else (hub.find(value), value)
    return None, value
