"""HTTP as benchmarks/server.py needs it: no more work in the client than bytes and clocks.

A client library takes longer for a request than the server that is measured. Loopback alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from array import array
from typing import Any

HOST = "127.0.0.1"
KEPT = re.compile(rb"^id: (\d+)\nevent: ([a-z]+)\n", re.MULTILINE)
STEPPED = re.compile(rb'"eta_s":([0-9.]+)')


class Line:
    """A connection that is kept open, for one request after the other."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body."""
        if self.reader is None or self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(HOST, self.port)
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}:{self.port}\r\n"
        if data:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        self.writer.write(f"{head}\r\n".encode() + data)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", answer)
        rest = await self.reader.readexactly(int(length[1])) if length else b""
        return int(answer[9:12]), rest

    async def get(self, path: str) -> Any:
        status, body = await self.ask("GET", path)
        if status != 200:
            raise SystemExit(f"GET {path}: {status} {body[:200]!r}")
        return json.loads(body)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


class Listener(asyncio.Protocol):
    """One stream of all events: counts what is kept, and times the steps as they come."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.numbers = hashlib.sha256()
        self.last = 0
        self.disordered = 0
        self.counts: dict[bytes, int] = {}
        self.delays = array("d")
        self.rest = b""
        self.cut = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(f"GET /v1/events HTTP/1.1\r\nHost: {HOST}:{self.port}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        whole, _, self.rest = (self.rest + data).rpartition(b"\n\n")
        for number, event in KEPT.findall(whole):
            self.counts[event] = self.counts.get(event, 0) + 1
            self.disordered += int(number) <= self.last
            self.last = int(number)
            self.numbers.update(number + b" ")
        self.delays.extend(now - float(moment) for moment in STEPPED.findall(whole))

    def connection_lost(self, exc: Exception | None) -> None:
        self.cut = True
