"""What is said once the server listens: its address, a code of it for a phone, a browser opened."""

from __future__ import annotations

import logging
import socket
import threading
import webbrowser
from dataclasses import dataclass

from sfumato.core.errors import SfumatoError

log = logging.getLogger("sfumato.server")

ANY = ("0.0.0.0", "::")


@dataclass(frozen=True)
class Welcome:
    """outside: the address without its port by which a phone comes, if its code is wanted.

    path: below which the page is; port: whether the outside address has the server's port, which it
    has not behind a proxy. browser: whether the page is opened in this machine's own.
    """

    outside: str | None = None
    path: str = ""
    port: bool = True
    browser: bool = False

    def say(self, url: str) -> None:
        """On stdout; url: of the server that listens."""
        print(url, flush=True)
        if self.outside is not None:
            port = f":{url.rpartition(':')[2]}" if self.port else ""
            phone = f"{self.outside}{port}{self.path}/"
            print(f"{code(phone)}\n{phone}", flush=True)
        if self.browser:
            local = url.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
            threading.Thread(target=opened, args=(f"{local}/",), daemon=True).start()


def opened(url: str) -> None:
    """In a thread, as some browsers are waited for."""
    if not webbrowser.open(url):
        log.warning("no browser could be opened", extra={"url": url})


def code(url: str) -> str:
    """A QR code in half blocks, light on dark as a terminal is."""
    try:
        import segno
    except ImportError:
        raise SfumatoError("--qr: segno is not installed; pip install 'sfumato[server]'") from None
    rows = [list(row) for row in segno.make(url, micro=False).matrix_iter(border=2)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    signs = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}
    return "\n".join(
        "".join(signs[int(bool(a)), int(bool(b))] for a, b in zip(*pair, strict=True))
        for pair in zip(rows[::2], rows[1::2], strict=True)
    )


def own_address() -> str | None:
    """Of this machine in its network; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address: str = probe.getsockname()[0]
        except OSError:
            return None
    return None if address.startswith("127.") else address


def reachable(host: str, names: list[str]) -> str:
    """The host by which a phone comes; SfumatoError where none can."""
    if names:
        return names[0]
    if host in ANY:
        address = own_address()
        if address is None:
            raise SfumatoError("--qr: this machine has no address in a network; give --host-name")
        return address
    if host == "localhost" or host.startswith("127.") or host == "::1":
        raise SfumatoError(
            f"--qr: no phone reaches {host}; give --host 0.0.0.0 and --tokens FILE, or --host-name"
        )
    return host
