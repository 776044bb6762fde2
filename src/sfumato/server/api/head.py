"""Protocol: HTTP as uvicorn reads it, whose heads are bounded and whose refusals are Problems."""

from __future__ import annotations

from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sfumato.server.api.problems import problem

HEAD = 64 << 10
"""Bytes of a request's first line and headers, which are in memory before any route sees them."""


class Protocol(HttpToolsProtocol):
    """Of one connection. unread: bytes of a head that has not ended."""

    unread: int | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.unread is not None and not self.transport.is_closing():
            self.unread += len(data)
            if self.unread > HEAD:
                self.refuse(431, f"the headers have more than {HEAD:,} bytes", "headers")

    def on_message_begin(self) -> None:
        self.unread = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self.unread = None
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "what was sent is no HTTP request", "request")

    def refuse(self, status: int, detail: str, part: str) -> None:
        """Answer, and close the connection."""
        answer = problem(status, detail, part, connection="close")
        head = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
        head += [name + b": " + value for name, value in answer.raw_headers]
        self.transport.write(b"\r\n".join([*head, b"", bytes(answer.body)]))
        self.transport.close()
