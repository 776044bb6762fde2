"""The studio's page: files of the package, read once, with headers that keep other hosts out.

The page needs no token; what it shows does. Its addresses are relative, so that it is the same
below any path that a proxy puts in front.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parents[1] / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FOR_EVER = "public, max-age=31536000, immutable"  # of files that are named by their content
TYPES = {".webmanifest": "application/manifest+json", ".js": "text/javascript"}
SMALLEST = 1024  # bytes that are worth compressing


def install(app: FastAPI) -> None:
    """Serve the page at /, and each of its files."""
    for file in sorted(FOLDER.rglob("*")):
        if file.is_file():
            name = file.relative_to(FOLDER).as_posix()
            answer = answered(file.read_bytes(), name)
            app.router.routes.append(Route(f"/{name}", answer, include_in_schema=False))
            if name == "index.html":
                app.router.routes.append(Route("/", answer, include_in_schema=False))


def answered(data: bytes, name: str) -> Callable[[Request], Awaitable[Response]]:
    """The route of one file."""
    kind = TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0]
    media = kind or "application/octet-stream"
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    small = gzip.compress(data, 9, mtime=0) if len(data) >= SMALLEST else data
    headers = {
        "cache-control": FOR_EVER if name.startswith("assets/") else "no-cache",
        "content-security-policy": POLICY,
        "etag": tag,
        "vary": "Accept-Encoding",
    }

    async def answer(request: Request) -> Response:
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if len(small) < len(data) and "gzip" in request.headers.get("accept-encoding", ""):
            coded = {**headers, "content-encoding": "gzip"}
            return Response(small, media_type=media, headers=coded)
        return Response(data, media_type=media, headers=headers)

    return answer
