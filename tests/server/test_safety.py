"""Who may do what: clients see their own alone, and nothing that is wrong gets in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import httpx

from helpers.refused import SHA, TOKENS, claimed_png, png, refusal, uploaded
from helpers.served import (
    StubRunner,
    client_of,
    in_loop,
    picture,
    recipe_job,
    served,
    submitted,
    until_ended,
)
from sfumato.server.settings import Limits


@in_loop
async def test_clients_see_their_own_alone(tmp_path: Path) -> None:
    """Jobs, events, files, uploads and the queue of another are not there."""
    async with (
        served(tmp_path, tokens=TOKENS) as service,
        client_of(service, TOKENS["phone"]) as phone,
        client_of(service, TOKENS["laptop"]) as laptop,
        client_of(service) as nobody,
        client_of(service, "x" * 20) as stranger,
    ):
        job = await until_ended(phone, await submitted(phone, recipe_job(3)))
        id, made = job["id"], job["results"][0]["sha256"]
        mine = await uploaded(phone, picture(77))
        own = [f"/v1/jobs/{id}{rest}" for rest in ("", "/request", "/events", "/files/1.png")]
        for path in (*own, f"/v1/images/{made}", f"/v1/images/{mine}"):
            if not path.endswith("events"):
                assert (await phone.get(path)).status_code == 200, path
            assert (await laptop.get(path)).status_code == 404, path
            for other in (nobody, stranger):
                answer = await other.get(path)
                assert answer.status_code == 401, path
                assert answer.headers["www-authenticate"] == "Bearer"
        for path in ("cancel", "retry", "reorder"):
            assert (await laptop.post(f"/v1/jobs/{id}/{path}", json={})).status_code == 404
        assert (await laptop.delete(f"/v1/jobs/{id}")).status_code == 404
        assert (await laptop.get("/v1/jobs")).json()["jobs"] == []
        stolen = recipe_job(methods=[{"method": "sdedit", "image": {"sha256": mine}}])
        answer = await laptop.post("/v1/jobs", json=stolen)
        assert (answer.status_code, "upload it" in answer.text) == (422, True)
        await phone.post("/v1/queue/pause")
        await until_ended(laptop, await submitted(laptop, recipe_job(4)))
        assert (await nobody.get("/metrics")).status_code == 401
        assert (await nobody.get("/livez")).status_code == 200


@in_loop
async def test_a_page_gets_a_session_that_no_script_reads(tmp_path: Path) -> None:
    """Login, cookie, logout; a wrong token is refused, and guessing is slow."""
    async with served(tmp_path, tokens=TOKENS) as service, client_of(service) as client:
        answer = await client.post("/v1/session", json={"token": TOKENS["phone"]})
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert TOKENS["phone"] not in cookie
        assert (await client.get("/v1/session")).json() == {"client": "phone"}
        forged = cookie.partition("=")[2].partition(";")[0]
        await client.delete("/v1/session")
        client.cookies.clear()
        assert (await client.get("/v1/session")).status_code == 401
        body, _, signature = forged.partition(".")
        for bad in (f"{body}.{'0' * 64}", f"{body}x.{signature}", "", "é", body):
            answer = await client.get(
                "/v1/session", headers={"Cookie": f"sfumato_session={bad}".encode()}
            )
            assert answer.status_code == 401, bad
        statuses = [
            (await client.post("/v1/session", json={"token": f"guess {k}"})).status_code
            for k in range(15)
        ]
        assert statuses[0] == 401
        assert statuses[-1] == 429


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "[::1]:8642"}, 200),
        ({"Host": "127.0.0.1:80"}, 200),
        ({"Host": "127.1"}, 421),
        ({"Host": "localhost", "Origin": "http://evil.example"}, 403),
        ({"Host": "localhost", "Origin": "null"}, 403),
        ({"Host": "localhost", "Origin": "http://localhost:3000"}, 403),
        ({"Host": "localhost:1", "Origin": "http://localhost:1"}, 200),
    ],
)
@in_loop
async def test_pages_of_other_servers_are_refused(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    """A name that was bound again, or a page elsewhere, cannot use the server of this machine."""
    async with served(tmp_path) as service, client_of(service) as client:
        answer = await client.get("/v1/jobs", headers=headers)
        assert answer.status_code == status
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["x-content-type-options"] == "nosniff"


@in_loop
async def test_too_much_is_refused_for_a_while(tmp_path: Path) -> None:
    """Requests, jobs that wait, streams: 429 with Retry-After."""
    limits = Limits(rate=1, burst=30, queued=3, streams=0)
    runner = StubRunner()
    async with served(tmp_path, runner, limits=limits) as service, client_of(service) as client:
        await client.post("/v1/queue/pause")
        ids = [await submitted(client, recipe_job(seed)) for seed in range(3)]
        full = await client.post("/v1/jobs", json=recipe_job(9))
        assert (full.status_code, "queue is full" in full.text) == (429, True)
        assert full.headers["retry-after"]
        assert (await client.get(f"/v1/jobs/{ids[0]}/events")).status_code == 429
        for _ in range(30):
            answer = await client.get("/v1/jobs")
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["content-type"] == "application/problem+json"


@in_loop
async def test_thumbnails_of_a_gallery_may_come_by_the_hundred(tmp_path: Path) -> None:
    """A wall that is scrolled asks for more of them than anyone asks for anything else."""
    limits = Limits(rate=1, burst=30)
    async with served(tmp_path, limits=limits) as service, client_of(service) as client:
        path = f"/v1/images/{'0' * 64}/thumbnail"
        codes = [(await client.get(path)).status_code for _ in range(350)]
        assert codes[:280] == [404] * 280
        assert codes[-1] == 429


UPLOADS = {
    "empty": b"",
    "text": b"hello",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "pdf": b"%PDF-1.7 x",
    "zip": b"PK\x03\x04" + bytes(100),
    "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
    "tensor": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
    "html": b"<!doctype html><script>1</script>",
    "no pixels": claimed_png(0, 0),
    "bomb": claimed_png(60_000, 60_000),
    "wide": claimed_png(60_000, 1),
    "cut": png((64, 64))[:70],
    "gif and script": b"GIF89a/*" + b"\xff" * 20 + b"*/=1;alert(1)",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}


@pytest.mark.parametrize("data", UPLOADS.values(), ids=UPLOADS)
@in_loop
async def test_what_is_no_picture_is_refused(tmp_path: Path, data: bytes) -> None:
    """By its bytes, whatever it is called; nothing is written."""
    async with served(tmp_path) as service, client_of(service) as client:
        answer = await client.post("/v1/images", files={"file": ("a.png", data, "image/png")})
        assert answer.status_code in (413, 422), answer.text
        problem = answer.json()
        assert problem["detail"]
        assert "\n" not in problem["detail"]
        assert "internal" not in problem["detail"]
        assert service.kept.files.all() == []
        assert not service.kept.db.read("SELECT * FROM pictures")


@in_loop
async def test_a_picture_is_shown_as_what_it_is(tmp_path: Path) -> None:
    """A polyglot's name and claimed type change nothing; its name is no path."""
    data = png((8, 8)) + b"<script>alert(1)</script>"
    async with served(tmp_path) as service, client_of(service) as client:
        files = {"file": ("../../etc/x.html", data, "text/html")}
        file = (await client.post("/v1/images", files=files)).json()
        assert (file["media_type"], file["name"]) == ("image/png", "x.html")
        answer = await client.get(f"/v1/images/{file['sha256']}")
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def sdedit(**fields: Any) -> dict[str, Any]:
    return recipe_job(methods=[{"method": "sdedit", **fields}])


BAD: dict[str, Any] = {
    "no json": b"{",
    "not utf-8": b'{"recipe": "\xff"}',
    "array": [],
    "null": None,
    "text": "x",
    "deep": b'{"recipe":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
    "empty": {},
    "kind": {"kind": "shell", "command": "rm"},
    "kind list": {"kind": ["recipe"], **recipe_job()},
    "unknown field": {**recipe_job(), "path": "/etc/passwd"},
    "no model": {"recipe": {"prompt": "x"}},
    "model path": recipe_job(model="/etc/passwd"),
    "model up": recipe_job(model="../emoji"),
    "model unknown": recipe_job(model="other"),
    "model hub": recipe_job(model="org/name"),
    "long prompt": recipe_job(prompt="x" * 10_001),
    "10 MB prompt": recipe_job(prompt="x" * (10 << 20)),
    "surrogate": b'{"recipe": {"model": "emoji", "prompt": "\\ud800"}}',
    "prompt number": recipe_job(prompt=1),
    "seed text": recipe_job(seed="7"),
    "seed float": recipe_job(seed=1.5),
    "seed bool": recipe_job(seed=True),
    "seed huge": recipe_job(seed=1 << 70),
    "n zero": recipe_job(n=0),
    "n negative": recipe_job(n=-1),
    "n many": recipe_job(n=4096),
    "steps zero": recipe_job(steps=0),
    "steps many": recipe_job(steps=10**9),
    "size zero": recipe_job(size=0),
    "size wide": recipe_job(size=[60_000, 1]),
    "size huge": recipe_job(size=8192 * 3),
    "size word": recipe_job(size="big"),
    "solver": recipe_job(solver="none"),
    "solver option": recipe_job(solver={"solver": "ddim", "eta": float("nan")}),
    "spacing": recipe_job(spacing=[2, 0]),
    "nan": b'{"kind":"sweep","recipe":{"model":"emoji"},"over":"steps=1,2","choose":NaN}',
    "infinity": sdedit(image={"sha256": SHA}, t0=float("inf")),
    "method unknown": recipe_job(methods=[{"method": "exec"}]),
    "method no name": recipe_job(methods=[{}]),
    "method import": recipe_job(methods=[{"method": "os:system"}]),
    "method field": sdedit(image={"sha256": SHA}, path="x"),
    "no image": sdedit(),
    "image path": sdedit(image="/etc/passwd"),
    "image not here": sdedit(image={"sha256": SHA}),
    "image no hash": sdedit(image={"sha256": "../../x"}),
    "image name": sdedit(image={"sha256": SHA, "name": "../x"}),
    "t0 out": sdedit(image={"sha256": SHA}, t0=2),
    "weights path": recipe_job(methods=[{"method": "diffstyler", "art": "/etc/passwd"}]),
    "adapter": recipe_job(adapters=[{"file": "x.safetensors", "sha256": SHA, "scale": 1.0}]),
    "adapter nan": recipe_job(adapters=[{"file": "x", "sha256": SHA, "scale": float("nan")}]),
    "two cfg": recipe_job(methods=[{"method": "cfg", "scale": 2}, {"method": "cfg", "scale": 3}]),
    "embedded": recipe_job(embedded={SHA: "AAAA"}),
    "index": recipe_job(run={"index": 3}),
    "schema": recipe_job(schema=99),
    "priority": {**recipe_job(), "priority": 10**6},
    "search": {**recipe_job(), "search": ["__class__.x"]},
    "sweep no axis": {"kind": "sweep", **recipe_job()},
    "sweep axis": {"kind": "sweep", **recipe_job(), "over": "os.system=1,2"},
    "sweep one": {"kind": "sweep", **recipe_job(), "over": "steps=1"},
    "sweep many": {"kind": "sweep", **recipe_job(), "over": "cfg.scale=0:9:1000",
                   "prompts": ["a", "b", "c"]},
    "sweep weights": {
        "kind": "sweep", **recipe_job(), "over": "controlnet.file=/etc/passwd|/etc/hosts",
    },
    "sweep pictures": {"kind": "sweep", **recipe_job(), "over": "sdedit.image=/etc/passwd|b"},
    "sweep secrets": {"kind": "sweep", **recipe_job(), "over": "stego.key=one|two"},
    "sweep seeds": {"kind": "sweep", **recipe_job(), "over": "steps=1,2", "seeds": 1000},
    "sweep choose": {"kind": "sweep", **recipe_job(), "over": "steps=1,2", "choose": 7},
    "batch empty": {"kind": "batch", "rows": []},
    "batch row": {"kind": "batch", "rows": [recipe_job(), recipe_job(model="other")]},
    "train path": {"kind": "train", "config": {"tuner": "dreambooth", "name": "x",
                   "subject": {"pictures": "/etc"}}, "pictures": [{"sha256": SHA}]},
    "train tuner": {"kind": "train", "config": {"tuner": "os"}, "pictures": [{"sha256": SHA}]},
    "train none": {"kind": "train", "config": {}, "pictures": []},
}  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, httpx.Response]:
    """Of one server to all bad bodies, after which it is as it was."""
    found = {}

    @in_loop
    async def ask() -> None:
        folder = tmp_path_factory.mktemp("bad")
        async with served(folder) as service, client_of(service) as client:
            for name, body in BAD.items():
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                headers = {"Content-Type": "application/json"}
                found[name] = await client.post("/v1/jobs", content=data, headers=headers)
                planned = await client.post("/v1/plan", content=data, headers=headers)
                if planned.status_code < 400:
                    found[name] = planned
            for table in ("jobs", "events", "pictures", "uploads", "inputs"):
                assert not service.kept.db.read(f"SELECT * FROM {table}"), table
            assert service.kept.files.all() == []
            await until_ended(client, await submitted(client, recipe_job()))

    ask()
    return found


@pytest.mark.parametrize("name", BAD)
def test_a_bad_body_is_one_sentence(answers: dict[str, httpx.Response], name: str) -> None:
    """A 4xx that says what is wrong; nothing is kept (the fixture looks)."""
    refusal(answers[name])


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/jobs/..%2f..%2fetc", {}, 404),
        ("GET", "/v1/jobs/xyz", {}, 422),
        ("GET", f"/v1/jobs/{'0' * 20}", {}, 404),
        ("GET", f"/v1/images/{'0' * 64}", {}, 404),
        ("GET", "/v1/images/..%2fserver.db", {}, 404),
        ("GET", f"/v1/jobs/{'0' * 20}/files/../../server.db", {}, 422),
        ("GET", "/v1/jobs?limit=0", {}, 422),
        ("GET", "/v1/jobs?limit=99999", {}, 422),
        ("GET", "/v1/jobs?before=x", {}, 422),
        ("GET", "/v1/jobs?before=99999999999999999999999", {}, 422),
        ("GET", "/v1/jobs?state=lost", {}, 422),
        ("GET", "/v1/events", {"Last-Event-ID": "x"}, 422),
        ("GET", "/v1/events", {"Last-Event-ID": "9" * 30}, 422),
        ("PUT", "/v1/jobs", {}, 405),
        ("POST", "/v1/jobs", {"Content-Type": "text/plain"}, 415),
        ("POST", "/v1/images", {"Content-Type": "application/json"}, 422),
        ("POST", "/v1/images", {"Content-Type": "multipart/form-data"}, 400),
        ("GET", "/server.db", {}, 404),
    ],
)
@in_loop
async def test_a_bad_request_is_a_problem(
    tmp_path: Path, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """Paths, queries and headers that lead nowhere."""
    async with served(tmp_path) as service, client_of(service) as client:
        answer = await client.request(method, path, headers=headers)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert "\n" not in answer.json()["detail"]


@in_loop
async def test_masks_that_do_not_fit_are_refused_at_once(tmp_path: Path) -> None:
    """A mask of another size, and one that lets nothing change."""
    async with served(tmp_path) as service, client_of(service) as client:
        image = await uploaded(client, png((64, 64)))
        small = await uploaded(client, png((8, 9), "white"))
        black = await uploaded(client, png((64, 64), "black"))
        for mask in (small, black):
            body = sdedit(image={"sha256": image}, mask={"sha256": mask, "name": "m.png"})
            answer = await client.post("/v1/jobs", json=body)
            assert answer.status_code == 422, answer.text
            assert "mask" in answer.json()["detail"]
        fine = sdedit(image={"sha256": image, "name": "a.png"}, t0=0.4)
        assert (await client.post("/v1/jobs", json=fine)).status_code == 202


@in_loop
async def test_bodies_of_unknown_length_are_counted(tmp_path: Path) -> None:
    """Chunks without an end are cut off at the limit."""
    limits = Limits(body=1000, upload=1000)

    async def chunks() -> Any:
        for _ in range(1000):
            yield b" " * 1000

    async with served(tmp_path, limits=limits) as service, client_of(service) as client:
        headers = {"Content-Type": "application/json"}
        answer = await client.post("/v1/jobs", content=chunks(), headers=headers)
        assert answer.status_code == 413, answer.text
        answer = await client.post("/v1/images", files={"file": ("a.png", b"x" * 100_000)})
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"
