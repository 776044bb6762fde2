"""What clients send that is wrong, pictures above all, and what an answer to it has to be."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from typing import Any

import httpx
from PIL import Image

TOKENS = {"phone": "p" * 20, "laptop": "l" * 20}
SHA = "a" * 64
"""Of no picture."""
INSIDE = ("internal", "Traceback", "pydantic", "errors.", "\n")
"""Words that no answer has."""


def png(size: tuple[int, int], colour: Any = "red", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    body = kind + data
    return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def claimed_png(width: int, height: int) -> bytes:
    """A few bytes that say they are a picture of that size."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 2, 0, 0, 0))
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


async def uploaded(
    client: httpx.AsyncClient, data: bytes, headers: Mapping[str, str] | None = None
) -> str:
    """The hash of a picture that is taken."""
    answer = await client.post("/v1/images", files={"file": ("a.png", data)}, headers=headers)
    assert answer.status_code == 201, answer.text
    sha256: str = answer.json()["sha256"]
    return sha256


def refusal(answer: httpx.Response) -> dict[str, Any]:
    """The problem that a refusal says, in one sentence for those who are outside."""
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == answer.status_code
    assert 10 < len(problem["detail"]) < 700
    for word in INSIDE:
        assert word not in problem["detail"]
    return problem
