"""`sfumato serve`: the job server; its backups."""

from __future__ import annotations

from dataclasses import asdict, fields
from inspect import Parameter
from pathlib import Path
from typing import Any, get_type_hints

from sfumato.cli.options import argument, keyword
from sfumato.cli.verb import Group, Verb
from sfumato.cli.verbs.shared import DEBUG, OFFLOAD, QUIET
from sfumato.core.errors import SfumatoError
from sfumato.documents import is_folder
from sfumato.server.settings import Address, Limits, Retention, Settings

GIB = 1 << 30


def options_of(kind: type[Any]) -> tuple[Parameter, ...]:
    """Options of the fields that the command line sets."""
    hints = get_type_hints(kind)
    return tuple(
        keyword(
            field.name, hints[field.name], field.default, field.metadata["flag"],
            text=field.metadata["text"],
        )
        for field in fields(kind)
        if "flag" in field.metadata
    )  # fmt: skip


def given(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Their values."""
    return {option.name: values[option.name] for option in options_of(kind)}


KEPT = Retention()
FOLDER = keyword(
    "folder", str | None, None, "--folder", text="jobs and pictures; SFUMATO_HOME/server"
)
OPTIONS = (
    FOLDER,
    *options_of(Address),
    keyword("models", list[str], [], "--model", text="offered to clients; repeatable; emoji"),
    keyword("adapters", list[str], [], "--adapter", text="file offered to clients; repeatable"),
    keyword(
        "weights",
        list[str],
        [],
        "--weights",
        text="METHOD=FILE that methods may name; a folder, org/name; repeatable",
    ),
    keyword("data", str | None, None, "--data", text="packed set that trainings learn from"),
    keyword("devices", list[str], [], "--device", text="one runner for each; repeatable; auto"),
    OFFLOAD,
    keyword("ray", str | None, None, "--ray", text="cluster HOST:PORT or auto; a runner a GPU"),
    keyword("tokens", str | None, None, "--tokens", text='TOML file of CLIENT = "TOKEN"'),
    keyword("names", list[str], [], "--host-name", text="name it is reached by; repeatable"),
    keyword("https", bool, False, "--https", text="its proxy speaks https; cookies need it then"),
    keyword("days", float, KEPT.days, "--days", text="how long ended jobs stay; 0 for ever"),
    keyword(
        "gib",
        float,
        (KEPT.bytes or 0) / GIB,
        "--gib",
        text="of pictures; the oldest go beyond; 0 for no end",
    ),
    keyword(
        "limits",
        list[str],
        [],
        "--limit",
        text="NAME=NUMBER of what a client may ask for; docs/server.md; repeatable",
    ),
    *options_of(Settings),
    keyword("resume", bool, False, "--resume", text="go on at once after a crash"),
    keyword("browser", bool, False, "--open", text="the studio, in this machine's browser"),
    keyword("qr", bool, False, "--qr", text="the studio's address as a code for a phone"),
    QUIET,
    DEBUG,
)


def needed() -> None:
    """SfumatoError where the extra is not installed."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise SfumatoError(
            f"serve: {error.name} is not installed; pip install 'sfumato[server]'"
        ) from None


def folder_of(folder: str | None) -> Path:
    from sfumato.home import home

    if folder == "":
        raise SfumatoError("--folder: is empty; give a folder, or leave it out")
    return (home() / "server" if folder is None else Path(folder)).resolve()


def limits_of(texts: list[str]) -> Limits:
    """NAME=NUMBER, each of a field of Limits."""
    known = {name: type(value) for name, value in asdict(Limits()).items()}
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        if name not in known or not equals:
            raise SfumatoError(f"--limit {text}: write NAME=NUMBER of {', '.join(known)}")
        try:
            values[name] = known[name](number)
        except ValueError:
            raise SfumatoError(f"--limit {text}: {number!r} is no number") from None
        if not 0 < values[name] < 1e15:
            raise SfumatoError(f"--limit {text}: give more than 0")
    return Limits(**values)


def serve(**values: Any) -> None:
    """Serve until it is stopped; the address on stdout."""
    needed()
    from sfumato.server import serving
    from sfumato.server.offering import offerings
    from sfumato.server.runner.library import named_models
    from sfumato.server.scale.fleet import connected
    from sfumato.server.welcome import Welcome

    address, settings = Address(**given(Address, values)), settings_of(values)
    files, devices = files_of(values), devices_of(values)
    fleet = None if values["ray"] is None else connected(values["ray"])
    offered = serving.Offered(
        named_models(values["models"] or ["emoji"]), devices, files, fleet,
        None if values["data"] is None else Path(values["data"]).resolve(),
        offerings(values["weights"], files),
        offload_of(values["offload"]),
    )  # fmt: skip
    welcome = Welcome(
        outside_of(values), settings.root_path, not settings.root_path, values["browser"]
    )
    serving.serve(
        settings, address, offered,
        resume=values["resume"], quiet=values["quiet"], welcome=welcome,
    )  # fmt: skip


def phone_of(values: dict[str, Any]) -> str | None:
    """The name by which a phone comes, where its code is wanted."""
    from sfumato.server.welcome import reachable

    return reachable(values["host"], values["names"]) if values["qr"] else None


def outside_of(values: dict[str, Any]) -> str | None:
    """The address without its port, of the same."""
    phone = phone_of(values)
    safe = values["https"] or values["certfile"] is not None
    return None if phone is None else f"http{'s' if safe else ''}://{phone}"


def settings_of(values: dict[str, Any]) -> Settings:
    """What is not about models and devices; SfumatoError where it is out of range."""
    from sfumato.server import serving

    root_path, tokens, days = values["root_path"], values["tokens"], values["days"]
    phone = phone_of(values)
    if root_path and (not root_path.startswith("/") or root_path.endswith("/")):
        raise SfumatoError(f"--root-path {root_path}: write it such as /sfumato")
    for name in ("days", "gib", "drain"):
        if not 0 <= values[name] < 1e9:
            raise SfumatoError(f"--{name} {values[name]:g}: give 0 or more")
    if not 0 <= values["port"] <= 65535:
        raise SfumatoError(f"--port {values['port']}: must be 0 to 65,535")
    return Settings(
        folder=folder_of(values["folder"]),
        tokens=serving.read_tokens(Path(tokens)) if tokens is not None else {},
        hosts=(*values["names"], values["host"], *((phone,) if phone else ())),
        limits=limits_of(values["limits"]),
        retention=Retention(days or None, int(values["gib"] * GIB) or None),
        secure=values["https"] or values["certfile"] is not None,
        **given(Settings, values),
    )


def files_of(values: dict[str, Any]) -> tuple[Path, ...]:
    """Files of adapters, and the packed set's folder is there too."""
    files = tuple(Path(file).resolve() for file in values["adapters"])
    for file in files:
        if not file.exists():
            raise SfumatoError(f"--adapter {file}: no such file; check the path")
    if values["data"] is not None and not is_folder(Path(values["data"])):
        raise SfumatoError(f"--data {values['data']}: no such folder; check the path")
    return files


def devices_of(values: dict[str, Any]) -> tuple[str, ...]:
    """One runner for each."""
    if values["ray"] is not None and values["devices"]:
        raise SfumatoError("--device: goes without --ray, which has a runner for each GPU")
    devices = tuple(values["devices"] or ["auto"])
    if len(set(devices)) < len(devices):
        raise SfumatoError("--device: is given twice; give each once")
    return devices


def offload_of(offload: str) -> str:
    """Checked before a runner is started; the runner knows its device."""
    from sfumato.models.devices import OFFLOADS

    if offload not in OFFLOADS:
        raise SfumatoError(f"--offload {offload:.60}: must be {', '.join(OFFLOADS)}")
    return offload


def backup(target: str, folder: str | None, quiet: bool) -> None:
    """Copy jobs and pictures of a server, which may be at work."""
    from sfumato.server.store import backups

    print(backups.backup(folder_of(folder), Path(target)))


def restore(source: str, folder: str | None, quiet: bool) -> None:
    """Put a copy where a server will find it."""
    from sfumato.server.store import backups

    print(backups.restore(Path(source), folder_of(folder)))


BACKUP = Verb(
    "backup",
    backup,
    "Copy jobs and pictures into a new folder; the server may be at work.",
    (argument("target", "a new folder"), FOLDER, QUIET, DEBUG),
    ("copy/", "copy/ --folder /srv/sfumato"),
    where="machine",
)
RESTORE = Verb(
    "restore",
    restore,
    "Put such a copy into a new folder, from which a server goes on.",
    (argument("source", "a folder that backup made"), FOLDER, QUIET, DEBUG),
    ("copy/", "copy/ --folder /srv/sfumato"),
    where="machine",
)
SERVE = Group(
    "serve",
    "Take jobs over HTTP; back them up.",
    ("--open", "--host 0.0.0.0 --tokens tokens.toml --host-name studio.example"),
    lambda: (BACKUP, RESTORE),
    Verb("serve", serve, "Take jobs over HTTP.", OPTIONS, where="machine"),
)
