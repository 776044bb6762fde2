"""Recipe: everything needed to make a picture again, as data; and the store its inputs are kept in.

JSON with a schema number. Knows no models and runs nothing (that is models.run). A recipe may come
from anywhere, so it names pictures by their hash and weights by a bare name (`Name`): paths are
typed by the user, here and now, and never read from a document.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    TypeAdapter,
    WithJsonSchema,
    with_config,
)
from typing_extensions import TypedDict

from sfumato import documents
from sfumato.core.errors import SfumatoError
from sfumato.core.frame import SIDES, sides
from sfumato.core.ranges import LENGTH, PICTURES, SEEDS, STEPS, Range
from sfumato.core.solvers import ALIASES, SOLVERS, solver
from sfumato.core.spacing import NAMES, declared

SCHEMA = 1
STRENGTH = Range(-1000, 1000)  # of an adapter
PLACES = 1000  # files and folders of weights whose place is remembered
STORE_BYTES = 1 << 30  # the oldest inputs go when the store grows beyond this
RECIPE_BYTES = 256 << 20  # of a recipe's JSON, its embedded pictures included
PICTURE_BYTES = 1 << 30
STALE = 3600  # seconds after which a part of a write that never ended is removed

HUB = re.compile(
    r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*)?", re.ASCII
)
"""org/name or org/name@revision."""


def bare(text: str) -> str:
    """A name that a document gives to weights: of a file or folder, or the hub's org/name.

    Raises SfumatoError where it is a path.
    """
    if text in ("", ".", "..") or len(text.encode(errors="replace")) > 255:
        raise SfumatoError(f"{text!r:.80} {NOT_BARE}")
    if not HUB.fullmatch(text) and PATH.search(text):
        raise SfumatoError(f"{text!r:.80} {NOT_BARE}")
    return text


PATH = re.compile(r"[\x00-\x1f\x7f/\\]|^~|^[A-Za-z]:")
NOT_BARE = (
    "is no bare name; a recipe names weights by their own name, without folders, or as org/name"
)


def _bare(text: str) -> str:
    try:
        return bare(text)
    except SfumatoError:
        raise ValueError(NOT_BARE) from None


Text = Annotated[str, Field(max_length=LENGTH)]
Short = Annotated[str, Field(max_length=1000)]
Name = Annotated[str, AfterValidator(_bare)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Range(ge=0, le=1 << 62)]


def _read_here(schema: int) -> int:
    if schema != SCHEMA:
        raise SfumatoError(
            f"is a recipe of schema {schema!r:.20}, this version reads {SCHEMA}; update sfumato"
        )
    return schema


def _solver(value: Any) -> Any:
    if not isinstance(value, str | Mapping):
        raise SfumatoError(f"solver {value!r:.60} must be a name, or an object with its options")
    solver(value)
    return value


class _SolverSchema:
    """JSON Schema of a solver: its id, or an object with the fields of its class."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        objects = []
        for name, make in SOLVERS.items():
            kind: Any = getattr(make, "func", make)
            made = TypeAdapter(kind).json_schema()
            own = {"solver": {"const": name}, **made.get("properties", {})}
            objects.append(
                {"type": "object", "properties": own, "required": ["solver"],
                 "additionalProperties": False}
            )  # fmt: skip
        return {"anyOf": [{"enum": [*SOLVERS, *ALIASES, None]}, *objects]}


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    name = entry.get("method")
    if not isinstance(name, str):
        raise SfumatoError(f"methods: method {name!r:.60} must be a name")
    return entry


@with_config(ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class Adapter(TypedDict):
    """An adapter that was composed: its name, the digest of its file, its strength."""

    file: Name
    sha256: Digest
    scale: Annotated[float, STRENGTH]


class Level(TypedDict, total=False):
    """The start level in three units."""

    t0: Annotated[float, Range(0, 1)]
    ratio: float
    alpha_bar: float


@with_config(ConfigDict(strict=True, extra="allow"))
class Ran(TypedDict, total=False):
    """What ran: parts of a run may add reports of their own."""

    dtype: Short
    device: Short
    batch: Annotated[int, PICTURES]
    index: Annotated[int, Range(0, PICTURES.le)]
    calls: list[Count]
    evaluations: dict[str, Count]
    work_size: list[Count]
    size: Annotated[list[Count], Field(min_length=2, max_length=2)] | None
    start: Level
    threads: Count


Steps = Annotated[int, STEPS]
Entry = Annotated[dict[str, JsonValue], AfterValidator(_entry)]
Solved = Annotated[Any, PlainValidator(_solver), _SolverSchema()]
Times = Annotated[
    Any,
    PlainValidator(declared),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(NAMES)},
                {"type": "string"},
                {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}},
                {"type": "null"},
            ]
        }
    ),
]
_SIDE = {"type": "integer", "minimum": SIDES.ge, "maximum": SIDES.le}
Sides = Annotated[
    Any,
    PlainValidator(sides),
    WithJsonSchema(
        {
            "anyOf": [
                _SIDE,
                {"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2},
                {"enum": ["input", "native", None]},
            ]
        }
    ),
]


@dataclass(frozen=True)
class Recipe:
    """What a user asked for, and under `run` and `versions` what ran.

    methods: entries {"method": id, field: value}; pictures among the values are {"sha256", "name"}.
    run: dtype, device, batch, index in the batch, calls of each stage, work size, start level.
    embedded: inputs by hash, base64, only when asked for. parents: recipes this one came from.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False
    )

    schema: Annotated[int, AfterValidator(_read_here)] = field(default=SCHEMA, kw_only=True)
    model: Name
    prompt: Text = ""
    negative: Text = ""
    label: Count | None = None
    stages: Annotated[int, Range(1, 100)] | None = None
    seed: Annotated[int, SEEDS] = 0
    n: Annotated[int, PICTURES] = 1
    steps: Steps | None = None
    solver: Solved | None = None
    spacing: Times = None
    size: Sides = None
    adapters: Annotated[tuple[Adapter, ...], Field(max_length=100)] = ()
    methods: Annotated[tuple[Entry, ...], Field(max_length=100)] = ()
    run: Ran = field(default_factory=Ran)
    versions: dict[Short, Short] = field(default_factory=dict)
    parents: Annotated[tuple[Short, ...], Field(max_length=1000)] = ()
    embedded: dict[Digest, str] = field(default_factory=dict)

    def to_data(self) -> dict[str, Any]:
        data = asdict(self)
        if not self.embedded:
            del data["embedded"]
        return data

    def to_json(self, indent: int | None = None) -> str:
        return json.dumps(self.to_data(), ensure_ascii=False, indent=indent)

    @classmethod
    def from_data(cls, data: Any, where: str = "recipe") -> Recipe:
        """Read a recipe's JSON object; what is unknown, of another type or out of range is
        refused."""
        return documents.parse_data(reader(), data, where).checked(where)

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "recipe") -> Recipe:
        if len(text) > RECIPE_BYTES:
            raise SfumatoError(f"{where}: is larger than {RECIPE_BYTES >> 20} MiB")
        return documents.parse_json(reader(), text, where).checked(where)

    def checked(self, where: str) -> Recipe:
        """Itself, if the picture that it was kept in is one of its batch."""
        if (index := self.run.get("index", 0)) >= self.n:
            raise SfumatoError(f"{where}: run.index = {index}: its batch has {self.n}")
        return self

    @property
    def id(self) -> str:
        """Digest of what was asked for, whatever ran: what children name among their parents."""
        data = {**self.to_data(), "run": {}, "versions": {}, "embedded": {}}
        text = json.dumps(data, sort_keys=True, ensure_ascii=False)
        return f"sha256 {sha256(text.encode()).hexdigest()}"

    def inputs(self) -> list[tuple[str, str]]:
        """(sha256, name) of every picture among the methods' values."""
        return [
            (str(value["sha256"]), str(value.get("name", "image")))
            for entry in self.methods
            for value in entry.values()
            if isinstance(value, Mapping) and "sha256" in value
        ]

    def parameters(self) -> str:
        """The text other tools show: prompt, negative prompt, one line of settings (A1111 form)."""
        cfg = next((m for m in self.methods if m.get("method") == "cfg"), {})
        start: Any = self.run.get("start") or {}
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


@cache
def reader() -> TypeAdapter[Recipe]:
    """What reads a recipe, and describes one."""
    return TypeAdapter(Recipe)


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

    An entry that was damaged is written anew. SFUMATO_STORE=0 and `unstored` keep nothing. False
    when the disk does not allow it.
    """
    if not _storing.get() or os.environ.get("SFUMATO_STORE") == "0":
        return True
    path = _stored(sha256(data).hexdigest())
    try:
        if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
            os.utime(path)
            return True
        _write(path, data)
    except OSError:
        return False
    _bound(home() / "store", spare=path)
    return True


def _stored(digest: str) -> Path:
    return home() / "store" / digest[:2] / digest


def _write(path: Path, data: bytes) -> None:
    """A whole file in the place of what is there; nothing stays of a write that fails.

    Nor, after a while, of one whose program was killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{path.stem}.*.part"):
        _stale(left)
    handle, part = tempfile.mkstemp(".part", f"{path.name}.", path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _stale(part: Path) -> None:
    with suppress(OSError):  # another program may have done so
        if time.time() - part.stat().st_mtime > STALE:
            part.unlink(missing_ok=True)


def _bound(folder: Path, spare: Path) -> None:
    """Remove the oldest inputs beyond STORE_BYTES, and parts that a killed program left."""
    files = []
    for file in folder.glob("*/*"):
        with suppress(OSError):  # another program bounds the same store
            found = file.stat()
            if file.suffix == ".part":
                _stale(file)
            else:
                files.append((found.st_mtime, found.st_size, file))
    total = sum(size for _, size, _ in files)
    for _, size, file in sorted(files):
        if total <= STORE_BYTES:
            return
        if file != spare:
            with suppress(OSError):
                file.unlink(missing_ok=True)
            total -= size


def encoded(data: bytes) -> str:
    """An input as a recipe embeds it."""
    return base64.b64encode(data).decode()


def fetch(digest: str, name: str, embedded: Mapping[str, str], folders: Iterable[Path]) -> bytes:
    """An input's bytes: embedded, in the store, or a file of that name and hash in the folders."""
    if digest in embedded:
        try:
            data = base64.b64decode(embedded[digest], validate=True)
        except (binascii.Error, ValueError) as error:
            raise SfumatoError(f"input {name}: embedded, but not as base64 ({error})") from None
        if sha256(data).hexdigest() == digest:
            return data
    own = Path(name).name
    for path in (_stored(digest), *(folder / own for folder in folders if own)):
        with suppress(SfumatoError):  # a pipe, a film, no right to read it: it is not that input
            data = documents.read_bytes(path, PICTURE_BYTES)
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
    try:
        path = Path(given).expanduser()
        if not given or not path.exists():
            return given
    except (OSError, RuntimeError, ValueError):  # a text that cannot be a path
        return given
    path = path.parent.resolve() / path.name  # a link of the hub's cache keeps its own name
    if _storing.get() and os.environ.get("SFUMATO_STORE") != "0":
        known = _places()
        if known.pop(path.name, None) != str(path) or len(known) >= PLACES:
            known = dict(list(known.items())[1 - PLACES :])
        with suppress(OSError):  # a recipe is read without it too, as long as the file is beside it
            data = json.dumps(known | {path.name: str(path)}, indent=1).encode()
            _write(home() / "places.json", data)
    return path.name


def placed(name: str, folders: Iterable[Path]) -> Path | None:
    """Weights that a recipe calls so: in the folders, else where they were last used from here.

    None for what is not there, and for the hub's org/name.
    """
    if "/" in bare(name):
        return None
    paths = [folder / name for folder in folders]
    if name in (remembered := _places()):
        paths.append(Path(remembered[name]))
    return next((path for path in paths if path.is_file() or path.is_dir()), None)


def _places() -> dict[str, str]:
    """Where weights were last used from here; a damaged file counts as none, and is replaced."""
    try:
        found = documents.read_json(dict[str, str], home() / "places.json")
    except SfumatoError:
        return {}
    return {name: place for name, place in found.items() if Path(place).is_absolute()}


beside: ContextVar[tuple[Path, ...]] = ContextVar("sfumato_beside", default=())
"""Folders of the recipe that is being composed."""


def located(name: str) -> str:
    """The path of weights that the recipe being composed calls so; else the name as it is."""
    folders, name = beside.get(), unshadowed(name)
    path = placed(name, folders) if folders else None
    return name if path is None else str(path)


def unshadowed(name: str) -> str:
    """A document's name; the hub's org/name where a path of this machine reads the same is refused.

    What loads it would take the path for typed.
    """
    if "/" in bare(name) and os.path.lexists(name):
        raise SfumatoError(
            f"{name!r:.80} is the hub's name in a recipe, and a path in the working folder too; "
            "run it from another folder"
        )
    return name
