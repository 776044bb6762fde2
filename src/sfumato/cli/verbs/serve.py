"""`sfumato serve`: the job server; its backups."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.options import argument, keyword
from sfumato.cli.verb import Group, Verb
from sfumato.cli.verbs.shared import DEBUG, QUIET
from sfumato.core.errors import SfumatoError

if TYPE_CHECKING:
    from sfumato.server.settings import Limits

FOLDER = keyword(
    "folder", str | None, None, "--folder", text="jobs and pictures; SFUMATO_HOME/server"
)
OPTIONS = (
    FOLDER,
    keyword("host", str, "127.0.0.1", "--host", text="address to listen on; others need --tokens"),
    keyword("port", int, 8642, "--port", text="0 takes a free one"),
    keyword("models", list[str], [], "--model", text="offered to clients; repeatable; emoji"),
    keyword("adapters", list[str], [], "--adapter", text="file offered to clients; repeatable"),
    keyword("devices", list[str], [], "--device", text="one runner for each; repeatable; auto"),
    keyword("ray", str | None, None, "--ray", text="cluster HOST:PORT or auto; a runner a GPU"),
    keyword("tokens", str | None, None, "--tokens", text='TOML file of CLIENT = "TOKEN"'),
    keyword("names", list[str], [], "--host-name", text="name it is reached by; repeatable"),
    keyword("certfile", str | None, None, "--certfile", text="TLS certificate"),
    keyword("keyfile", str | None, None, "--keyfile", text="its key"),
    keyword("root_path", str, "", "--root-path", text="path that a proxy puts in front"),
    keyword("https", bool, False, "--https", text="that proxy speaks https; cookies need it then"),
    keyword("days", float, 90.0, "--days", text="how long ended jobs stay; 0 for ever"),
    keyword("gib", float, 50.0, "--gib", text="of pictures; the oldest go beyond; 0 for no end"),
    keyword(
        "limits",
        list[str],
        [],
        "--limit",
        text="NAME=NUMBER of what a client may ask for; docs/server.md; repeatable",
    ),
    keyword("drain", float, 30.0, "--drain", text="seconds that running jobs get when it stops"),
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
    from sfumato.server.settings import Limits

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


def serve(
    folder: str | None,
    host: str,
    port: int,
    models: list[str],
    adapters: list[str],
    devices: list[str],
    ray: str | None,
    tokens: str | None,
    names: list[str],
    certfile: str | None,
    keyfile: str | None,
    root_path: str,
    https: bool,
    days: float,
    gib: float,
    limits: list[str],
    drain: float,
    resume: bool,
    browser: bool,
    qr: bool,
    quiet: bool,
) -> None:
    """Serve until it is stopped; the address on stdout."""
    needed()
    from sfumato.server import serving
    from sfumato.server.runner.library import named_models
    from sfumato.server.scale.fleet import connected
    from sfumato.server.settings import Retention, Settings
    from sfumato.server.welcome import Welcome, reachable

    if root_path and (not root_path.startswith("/") or root_path.endswith("/")):
        raise SfumatoError(f"--root-path {root_path}: write it such as /sfumato")
    for name, value in (("--days", days), ("--gib", gib), ("--drain", drain)):
        if not 0 <= value < 1e9:
            raise SfumatoError(f"{name} {value:g}: give 0 or more")
    if not 0 <= port <= 65535:
        raise SfumatoError(f"--port {port}: must be 0 to 65,535")
    files = tuple(Path(file).resolve() for file in adapters)
    for file in files:
        if not file.exists():
            raise SfumatoError(f"--adapter {file}: no such file; check the path")
    chosen = tuple(devices or ["auto"])
    if len(set(chosen)) < len(chosen):
        raise SfumatoError("--device: is given twice; give each once")
    if ray is not None and devices:
        raise SfumatoError("--device: goes without --ray, which has a runner for each GPU")
    phone = reachable(host, names) if qr else None
    settings = Settings(
        folder=folder_of(folder),
        tokens=serving.read_tokens(Path(tokens)) if tokens is not None else {},
        hosts=(*names, host, *((phone,) if phone else ())),
        limits=limits_of(limits),
        retention=Retention(days or None, int(gib * (1 << 30)) or None),
        secure=https or certfile is not None,
        root_path=root_path,
        drain=drain,
    )
    fleet = None if ray is None else connected(ray)
    offered = serving.Offered(named_models(models or ["emoji"]), chosen, files, fleet)
    address = serving.Address(host, port, certfile, keyfile)
    outside = None if phone is None else f"http{'s' if settings.secure else ''}://{phone}"
    welcome = Welcome(outside, root_path, port=not root_path, browser=browser)
    serving.serve(settings, address, offered, resume=resume, quiet=quiet, welcome=welcome)


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
