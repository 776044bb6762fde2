"""serve(): the application under uvicorn, until a signal; then it drains."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import FastAPI
from pydantic import Field

from sfumato import documents
from sfumato.core.errors import SfumatoError
from sfumato.server import logs
from sfumato.server.api.app import create_app
from sfumato.server.api.head import Protocol
from sfumato.server.offering import Offering
from sfumato.server.runner.library import Offer
from sfumato.server.runner.process import ProcessRunner
from sfumato.server.runner.protocol import Runner
from sfumato.server.scale.fleet import Fleet
from sfumato.server.scale.runners import runners as actors
from sfumato.server.server import Server
from sfumato.server.settings import Address, Settings
from sfumato.server.welcome import Welcome

log = logging.getLogger("sfumato.server")

SWITCH = 0.0005  # seconds that the writer's thread may keep the event loop waiting

Token = Annotated[str, Field(min_length=16, max_length=1000, pattern=r"^[!-~]+$")]
ClientName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


@dataclass(frozen=True)
class Offered:
    """What runners do tasks with: models by the name of recipes, devices, files of adapters.

    fleet: a cluster whose nodes are used in the place of devices. data: the packed set of
    trainings, None where `sfumato data` puts it. weights: what methods may name. offload: what of
    models lies in main memory while a device does not use it.
    """

    models: Mapping[str, str] = field(default_factory=lambda: {"emoji": "emoji"})
    devices: tuple[str, ...] = ("auto",)
    adapters: tuple[Path, ...] = ()
    fleet: Fleet | None = None
    data: Path | None = None
    weights: tuple[Offering, ...] = ()
    offload: str = "none"

    def runners(self) -> Sequence[Runner]:
        offer = Offer(
            self.models, adapters=self.adapters, data=self.data, weights=self.weights,
            offload=self.offload,
        )  # fmt: skip
        if self.fleet is not None:
            return actors(self.fleet, offer)
        return [ProcessRunner(device, replace(offer, device=device)) for device in self.devices]


def read_tokens(path: Path) -> dict[str, str]:
    """A TOML file of client = "token"; each token of 16 characters or more."""
    tokens = documents.read_toml(dict[ClientName, Token], path)
    if not tokens:
        raise SfumatoError(f'{path}: has no token; write lines such as phone = "…"')
    if len(set(tokens.values())) < len(tokens):
        raise SfumatoError(f"{path}: two clients have the same token; give each its own")
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise SfumatoError(f"{path}: others may read it; chmod 600 {path}")
    return tokens


def serve(settings: Settings, address: Address, offered: Offered, *, resume: bool = False,
          quiet: bool = False, welcome: Welcome | None = None) -> None:  # fmt: skip
    """Serve until SIGINT or SIGTERM. SfumatoError where it cannot begin. quiet: no welcome."""
    if not address.loopback and not settings.tokens:
        raise SfumatoError(
            f"--host {address.host}: whoever reaches it could use it; give --tokens FILE"
        )
    if (address.certfile is None) != (address.keyfile is None):
        raise SfumatoError("--certfile and --keyfile: go together; give both")
    for file in (address.certfile, address.keyfile):
        if file is not None and not documents.is_file(Path(file)):
            raise SfumatoError(f"{file}: no such file; check the path")
    if address.certfile is not None:
        check_certificate(address.certfile, address.keyfile)
    with logs.json_lines(quiet):
        listening = bound(address)
        server = Server(settings, offered.runners, resume)
        asyncio.run(_serve(server, address, listening, None if quiet else welcome or Welcome()))


def check_certificate(certfile: str, keyfile: str | None) -> None:
    """Before anything else begins, as uvicorn reads them last; a key's password nobody can type."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certfile, keyfile, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        why = getattr(error, "reason", None) or str(error)
        raise SfumatoError(
            f"--certfile {certfile}, --keyfile {keyfile}: cannot be used ({why:.80}); give a "
            "certificate and its own key as PEM, the key without a password"
        ) from None


def bound(address: Address) -> socket.socket:
    """The port, before anything else begins."""
    kind = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # asyncio sends at once (TCP_NODELAY) only where the socket names its protocol
    listening = socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address.host, address.port))
    except OSError as error:
        raise SfumatoError(
            f"{address.host}, port {address.port}: cannot be listened on ({error.strerror}); give "
            "another --port or --host"
        ) from None
    listening.set_inheritable(False)
    return listening


class Web(uvicorn.Server):
    """uvicorn's server, which leaves signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(
    server: Server, address: Address, listening: socket.socket, welcome: Welcome | None
) -> None:
    sys.setswitchinterval(SWITCH)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with server.running() as service:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        app = create_app(service)
        app.openapi()  # takes a while, in which nobody should wait
        web = Web(web_config(app, address, server.settings))
        gc.collect()
        gc.freeze()  # what stays is not looked at again and again, while clients wait
        listening.listen()  # whoever has read the address is not refused
        task = asyncio.create_task(web.serve([listening]))
        port = listening.getsockname()[1]
        log.info("listening", extra={"url": replace(address, port=port).url})
        if welcome is not None:
            welcome.say(replace(address, port=port).url)
        await stop.wait()
        log.info("stopping; jobs at work get %g s to end", server.settings.drain)
        for number in (signal.SIGINT, signal.SIGTERM):  # a second one does not wait
            loop.add_signal_handler(number, service.dispatcher.hurry.set)
        await service.dispatcher.drain(server.settings.drain)
        service.kept.hub.close()
        web.should_exit = True
        await task


def web_config(app: FastAPI, address: Address, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app, http=Protocol, log_config=None, access_log=False, lifespan="off", server_header=False,
        ssl_certfile=address.certfile, ssl_keyfile=address.keyfile, proxy_headers=False,
        root_path=settings.root_path, timeout_graceful_shutdown=2, ws="none",
    )  # fmt: skip
