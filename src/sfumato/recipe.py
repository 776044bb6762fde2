"""Recipe: everything needed to make a picture again, as data; and the store its inputs are kept in.

JSON with a schema number. Knows no models and runs nothing (that is models.run).
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError

SCHEMA = 1
PLACES = 1000  # files and folders of weights whose place is remembered
STORE_BYTES = 1 << 30  # the oldest inputs go when the store grows beyond this


@dataclass(frozen=True)
class Recipe:
    """What a user asked for, and under `run` and `versions` what ran.

    methods: entries {"method": id, field: value}; pictures among the values are {"sha256", "name"}.
    run: dtype, device, batch, index in the batch, calls of each stage, work size, start level.
    embedded: inputs by hash, base64, only when asked for. parents: recipes this one came from.
    """

    model: str
    prompt: str = ""
    negative: str = ""
    label: int | None = None
    stages: int | None = None
    seed: int = 0
    n: int = 1
    steps: int | None = None
    solver: str | Mapping[str, Any] | None = None
    spacing: str | tuple[float, ...] | None = None
    size: int | tuple[int, int] | str | None = None
    adapters: tuple[Any, ...] = ()
    methods: tuple[Mapping[str, Any], ...] = ()
    run: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    embedded: Mapping[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_data(self) -> dict[str, Any]:
        data = asdict(self)
        order = ["schema", *(f.name for f in fields(self) if f.name != "schema")]
        empty = {"embedded"} if not self.embedded else set()
        return {name: data[name] for name in order if name not in empty}

    def to_json(self, indent: int | None = None) -> str:
        return json.dumps(self.to_data(), ensure_ascii=False, indent=indent)

    @classmethod
    def from_data(cls, data: Any, where: str = "recipe") -> Recipe:
        """Read a recipe's JSON object; unknown keys and newer schemas are refused."""
        if not isinstance(data, Mapping) or "model" not in data:
            raise SfumatoError(f"{where}: is not a sfumato recipe (no model in it)")
        if data.get("schema", SCHEMA) != SCHEMA:
            raise SfumatoError(
                f"{where}: recipe of schema {data['schema']}, this version reads {SCHEMA}; "
                "update sfumato"
            )
        known = {f.name for f in fields(cls)}
        if wrong := sorted(set(data) - known):
            raise SfumatoError(f"{where}: unknown key {wrong[0]!r}; known are {sorted(known)}")
        values = dict(data)
        for name in ("adapters", "methods", "parents", "size", "spacing"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        for name, kind in (("seed", int), ("n", int), ("prompt", str), ("negative", str)):
            if name in values and type(values[name]) is not kind:
                raise SfumatoError(f"{where}: {name} = {values[name]!r} must be {kind.__name__}")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "recipe") -> Recipe:
        try:
            data = json.loads(text)
        except ValueError as error:
            raise SfumatoError(f"{where}: is not JSON ({error})") from None
        return cls.from_data(data, where)

    @property
    def id(self) -> str:
        """Digest of what was asked for, whatever ran: what children name among their parents."""
        data = {**self.to_data(), "run": {}, "versions": {}, "embedded": {}}
        text = json.dumps(data, sort_keys=True, ensure_ascii=False)
        return f"sha256 {sha256(text.encode()).hexdigest()}"

    def inputs(self) -> list[tuple[str, str]]:
        """(sha256, name) of every picture among the methods' values."""
        return [
            (value["sha256"], value["name"])
            for entry in self.methods
            for value in entry.values()
            if isinstance(value, Mapping) and "sha256" in value
        ]

    def parameters(self) -> str:
        """The text other tools show: prompt, negative prompt, one line of settings (A1111 form)."""
        cfg = next((m for m in self.methods if m.get("method") == "cfg"), {})
        start = self.run.get("start", {})
        size = self.run.get("size")
        settings = {
            "Steps": self.steps if self.steps is not None else self.run.get("steps"),
            "Sampler": self.solver["solver"] if isinstance(self.solver, Mapping) else self.solver,
            "CFG scale": cfg.get("scale"),
            "Seed": self.seed + int(self.run.get("index", 0)),
            "Size": f"{size[0]}x{size[1]}" if size else None,
            "Model": self.model,
            "Denoising strength": f"{start['t0']:g}" if start.get("t0", 1) < 1 else None,
            "Version": f"sfumato {self.versions.get('sfumato', '')}".strip(),
        }
        line = ", ".join(f"{key}: {value}" for key, value in settings.items() if value is not None)
        negative = [f"Negative prompt: {self.negative}"] if self.negative else []
        return "\n".join([self.prompt, *negative, line])


def json_schema() -> dict[str, Any]:
    """JSON Schema of recipes."""
    from pydantic import TypeAdapter

    return TypeAdapter(Recipe).json_schema()


def home() -> Path:
    """Where sfumato keeps its own files: SFUMATO_HOME, else the platform's data folder."""
    if given := os.environ.get("SFUMATO_HOME"):
        return Path(given)
    from platformdirs import user_data_path

    return user_data_path("sfumato", appauthor=False)


_storing = ContextVar("sfumato_storing", default=True)


@contextmanager
def unstored() -> Iterator[None]:
    """While active, runs keep no copies of their inputs."""
    token = _storing.set(False)
    try:
        yield
    finally:
        _storing.reset(token)


def keep(data: bytes) -> bool:
    """Put an input into the content store, so that `run` finds it when its file is gone.

    SFUMATO_STORE=0 and `unstored` keep nothing. False when the disk does not allow it.
    """
    if not _storing.get() or os.environ.get("SFUMATO_STORE") == "0":
        return True
    digest = sha256(data).hexdigest()
    path = home() / "store" / digest[:2] / digest
    try:
        if path.exists():
            os.utime(path)
            return True
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{digest}.{os.getpid()}.part")
        part.write_bytes(data)
        part.replace(path)
        _bound(home() / "store", spare=path)
    except OSError:
        return False
    return True


def _bound(folder: Path, spare: Path) -> None:
    files = sorted((f.stat().st_mtime, f.stat().st_size, f) for f in folder.glob("*/*"))
    total = sum(size for _, size, _ in files)
    for _, size, file in files:
        if total <= STORE_BYTES:
            return
        if file != spare:
            file.unlink(missing_ok=True)
            total -= size


def encoded(data: bytes) -> str:
    """An input as a recipe embeds it."""
    return base64.b64encode(data).decode()


def fetch(digest: str, name: str, embedded: Mapping[str, str], folders: Iterable[Path]) -> bytes:
    """An input's bytes: embedded, in the store, or a file of that name and hash in the folders."""
    if digest in embedded:
        data = base64.b64decode(embedded[digest])
        if sha256(data).hexdigest() == digest:
            return data
    stored = home() / "store" / digest[:2] / digest
    for path in (stored, *(folder / Path(name).name for folder in folders)):
        if path.is_file():
            data = path.read_bytes()
            if sha256(data).hexdigest() == digest:
                return data
    raise SfumatoError(
        f"input {name} (sha256 {digest[:12]}…): not embedded, not in the store, and no such file "
        "beside the recipe or in the working folder; put it there"
    )


def called(given: str) -> str:
    """How a recipe calls weights: a file or folder by its own name, any other text as it is.

    Folders are nobody else's business; where it stands is remembered here, for `placed`.
    """
    path = Path(given).expanduser()
    if not given or not path.exists():
        return given
    path = path.parent.resolve() / path.name  # a link of the hub's cache keeps its own name
    if _storing.get() and os.environ.get("SFUMATO_STORE") != "0":
        known = _places()
        known.pop(path.name, None)
        known = dict(list(known.items())[1 - PLACES :]) | {path.name: str(path)}
        try:
            home().mkdir(parents=True, exist_ok=True)
            part = home() / f"places.{os.getpid()}.part"
            part.write_text(json.dumps(known, indent=1), encoding="utf-8")
            part.replace(home() / "places.json")
        except OSError:
            pass  # a recipe is read without it too, as long as the file lies beside it
    return path.name


def placed(name: str, folders: Iterable[Path]) -> Path | None:
    """Weights that a recipe calls so: in the folders, else where they were last used from here."""
    own = Path(name).name if Path(name).is_absolute() else name
    paths = [folder / own for folder in folders]
    if own in (remembered := _places()):
        paths.append(Path(remembered[own]))
    return next((path for path in paths if path.exists()), None)


def _places() -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((home() / "places.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


beside: ContextVar[tuple[Path, ...]] = ContextVar("sfumato_beside", default=())
"""Folders of the recipe that is being composed."""


def located(given: str) -> str:
    """The path of weights that the recipe being composed calls so; other text as it is."""
    folders = beside.get()
    path = placed(given, folders) if folders and not Path(given).exists() else None
    return given if path is None else str(path)
