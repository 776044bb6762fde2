"""A server with a runner that needs no network, as a process of its own.

FOLDER PORT PAUSE, and of its TLS CERTIFICATE KEY.
"""

from __future__ import annotations

import sys
from pathlib import Path

from helpers.served import StubWork
from sfumato.server import serving
from sfumato.server.runner.process import ProcessRunner
from sfumato.server.runner.protocol import Runner
from sfumato.server.settings import Address, Settings


class Stubs(serving.Offered):
    """One runner's process."""

    def runners(self) -> list[Runner]:
        return [ProcessRunner("stub", StubWork(float(sys.argv[3])))]


if __name__ == "__main__":
    certificate, key = sys.argv[4:] or (None, None)
    settings = Settings(Path(sys.argv[1]), floor=0, drain=5, secure=certificate is not None)
    address = Address(port=int(sys.argv[2]), certfile=certificate, keyfile=key)
    serving.serve(settings, address, Stubs())
