"""The studio's page as the server gives it: its headers, its size, below a path, behind tokens."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

pytest.importorskip("fastapi")

import segno

from helpers.program import fails
from helpers.served import client_of, in_loop, served
from sfumato.server import welcome
from sfumato.server.api.page import FOLDER, POLICY

BUDGET = 150_000  # bytes of the whole page, gzipped


@in_loop
async def test_the_page_is_served_with_a_policy_that_keeps_others_out(tmp_path: Path) -> None:
    async with served(tmp_path) as service, client_of(service) as client:
        page = await client.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["content-security-policy"] == POLICY
        assert "unsafe" not in POLICY
        assert "http" not in POLICY
        assert page.headers["cache-control"] == "no-cache"
        again = await client.get("/", headers={"If-None-Match": page.headers["etag"]})
        assert again.status_code == 304
        assert not again.content
        for name in re.findall(r'(?:src|href)="(\./[^"]+)"', page.text):  # below any path
            file = await client.get(f"/{name}")
            assert file.status_code == 200, name
            kept = "immutable" in file.headers["cache-control"]
            assert kept == name.startswith("./assets/"), name
        assert (await client.get("/assets/none.js")).status_code == 404
        assert (await client.post("/")).status_code == 405
        assert "/" not in (await client.get("/openapi.json")).json()["paths"]


@in_loop
async def test_the_page_needs_no_token_and_the_api_does(tmp_path: Path) -> None:
    settings = {"tokens": {"phone": "a-token-of-letters"}, "root_path": "/sfumato"}
    async with served(tmp_path, **settings) as service, client_of(service) as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/v1/jobs")).status_code == 401
        answer = await client.post("/v1/session", json={"token": "a-token-of-letters"})
        assert answer.status_code == 200
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "Path=/sfumato" in cookie


def test_the_page_is_small_and_has_no_inline_script() -> None:
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    assert files, "there is no page; `make studio` builds it"
    size = sum(len(gzip.compress(file.read_bytes(), 9)) for file in files)
    assert size < BUDGET, f"{size:,} bytes gzipped"
    text = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]* src=)", text)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)


def test_a_code_for_a_phone_holds_the_address(app: Any, tmp_path: Path) -> None:
    """Every second row of a code is a row of signs, dark where the code is dark."""
    url = "http://192.0.2.7:8642/"
    rows = welcome.code(url).splitlines()
    assert {len(row) for row in rows} == {len(rows[0])}
    assert set("".join(rows)) <= set("█▀▄ ")
    upper = [[sign in "▄ " for sign in row] for row in rows]
    made = [list(map(bool, row)) for row in segno.make(url, micro=False).matrix_iter(border=2)]
    assert upper == made[::2]


def test_a_phone_is_told_an_address_that_it_reaches(
    app: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no phone reaches 127.0.0.1" in fails(app, 1, "serve", "--qr")
    assert welcome.reachable("127.0.0.1", ["studio.example"]) == "studio.example"
    monkeypatch.setattr(welcome, "own_address", lambda: None)
    assert "give --host-name" in fails(app, 1, "serve", "--qr", "--host", "0.0.0.0")
    welcome.Welcome("https://studio.example", "/sfumato", port=False).say("http://127.0.0.1:8642")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "http://127.0.0.1:8642"
    assert said[-1] == "https://studio.example/sfumato/"
    welcome.Welcome("http://192.0.2.7").say("http://0.0.0.0:8642")
    assert capsys.readouterr().out.splitlines()[-1] == "http://192.0.2.7:8642/"


def test_the_studio_is_opened_where_this_machine_reaches_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: Queue[str] = Queue()
    monkeypatch.setattr("webbrowser.open", lambda url: asked.put(url) is None)
    welcome.Welcome(browser=True).say("http://0.0.0.0:8642")
    assert asked.get(timeout=5) == "http://127.0.0.1:8642/"
