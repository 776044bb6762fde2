"""The app served to browsers, without a request to any other host.

With `no_cdn` Flet may still ask a CDN for one script of Rive, which is not used here: the page's
policy forbids whatever is not of this server.
"""

from __future__ import annotations

from typing import Any

import flet as ft

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: "
    "blob:; worker-src 'self' blob:; frame-ancestors 'none'"
)


def serve(main: Any, port: int) -> None:
    """At this port of this machine."""
    import uvicorn

    app: Any = ft.run(
        main, no_cdn=True, export_asgi_app=True, web_renderer=ft.WebRenderer.CANVAS_KIT
    )

    async def closed(scope: Any, receive: Any, send: Any) -> None:
        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"content-security-policy", POLICY.encode()))
            await send(message)

        await app(scope, receive, answer if scope["type"] == "http" else send)

    print(f"http://127.0.0.1:{port}", flush=True)
    uvicorn.run(closed, port=port, log_level="warning")
