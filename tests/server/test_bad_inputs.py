"""Sixty requests that are wrong, each by hand: a 4xx of one sentence, and nothing is written."""

from __future__ import annotations

import asyncio
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import httpx

from helpers.refused import SHA, TOKENS, chunk, claimed_png, png, refusal, uploaded
from helpers.served import in_loop, listening, picture, recipe_job, served, submitted, until_ended
from sfumato.server.api.head import HEAD
from sfumato.server.service import Service
from sfumato.server.settings import Limits

JSON = {"Content-Type": "application/json"}


def text_bomb() -> bytes:
    """A small picture with a text of 64 MiB, packed."""
    packed = b"a\0\0" + zlib.compress(bytes(64 << 20), 9)
    whole = png((8, 8))
    return whole[:33] + chunk(b"zTXt", packed) + whole[33:]


@dataclass(frozen=True)
class Bad:
    """A request; {mine}, {theirs}, {other}, ... in its path and body are what the server has.

    about: the field that its answer names; words: of its sentence.
    """

    status: int
    about: str
    words: str
    path: str = "/v1/jobs"
    body: Any = None
    method: str = "POST"
    headers: Mapping[str, str | bytes] = field(default_factory=dict)
    files: Mapping[str, Any] | None = None


def upload(status: int, words: str, data: bytes, name: str = "a.png") -> Bad:
    return Bad(status, "file", words, "/v1/images", files={"file": (name, data, "image/png")})


def recipe(words: str, about: str = "recipe", **fields: Any) -> Bad:
    return Bad(422, about, words, body=recipe_job(**fields))


def method(words: str, about: str = "recipe", **fields: Any) -> Bad:
    return recipe(words, about, methods=[{"image": {"sha256": "{picture}"}, **fields}])


def raw(words: str, about: str, text: str) -> Bad:
    return Bad(422, about, words, body=text.encode("utf-8", "surrogatepass"))


def sweep(words: str, about: str, **fields: Any) -> Bad:
    return Bad(422, about, words, body={"kind": "sweep", **recipe_job(), "over": "steps=1,2",
                                        **fields})  # fmt: skip


def get(status: int, about: str, words: str, path: str, **headers: str | bytes) -> Bad:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Bad(status, about, words, path, method="GET", headers=named)


HUGE = "9" * 4000
DEEP = '{"recipe":' + '{"a":' * 100_000 + "1" + "}" * 100_001
BAD: dict[str, Bad] = {
    # pictures
    "bomb of 3.6 Gpx": upload(422, "pixels", claimed_png(60_000, 60_000)),
    "bomb in a text": upload(422, "a.png", text_bomb()),
    "0x0": upload(422, "a.png", claimed_png(0, 0)),
    "60000x1": upload(413, "60000x1", claimed_png(60_000, 1)),
    "GIF that is a script": upload(422, "x", b"GIF89a/*" + b"\xff" * 20 + b"*/=1;alert(1)", "x"),
    "SVG with a script": upload(422, "svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg"),
    "page as PNG": upload(422, "a.png", b"<!doctype html><script>1</script>"),
    "PDF": upload(422, "a.png", b"%PDF-1.7\n1 0 obj"),
    "PostScript": upload(422, "a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    "pickle": upload(422, "a.pt", b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x02os\x94.", "a.pt"),
    "zip": upload(422, "a.zip", b"PK\x03\x04" + bytes(100), "a.zip"),
    "half a picture": upload(422, "a.png", png((64, 64))[:70]),
    "empty": upload(422, "a.png", b""),
    "name with a path": upload(422, "passwd", b"no picture", "../../etc/passwd"),
    "name of a line break": upload(422, "x", b"no picture", "x\ny.png"),
    "larger than allowed": upload(413, "at most", bytes(2 << 20)),
    "no field file": Bad(422, "file", "file", "/v1/images", files={"picture": b"x"}),
    "text for a file": Bad(422, "file", "file", "/v1/images", body=b"file=abc",
                           headers={"Content-Type": "application/x-www-form-urlencoded"}),
    "multipart without boundary": Bad(400, "file", "file", "/v1/images", body=b"x",
                                      headers={"Content-Type": "multipart/form-data"}),
    # JSON
    "no JSON": raw("JSON", "body", '{"recipe"'),
    "NaN": raw("choose", "choose", '{"kind":"sweep","over":"steps=1,2","choose":NaN,'
               '"recipe":{"model":"emoji"}}'),
    "infinity": raw("t0", "recipe", '{"recipe":{"model":"emoji","methods":[{"method":"sdedit",'
                    '"image":{"sha256":"{picture}"},"t0":1e999}]}}'),
    "deep": raw("recursion", "body", DEEP),
    "key twice": raw("twice", "body", '{"recipe":{"model":"emoji","seed":1,"seed":2}}'),
    "whole number of 4000 digits": raw("seed", "recipe", '{"recipe":{"model":"emoji","seed":'
                                       + HUGE + "}}"),
    "half a character": raw("JSON", "body",
                            '{"recipe":{"model":"emoji","prompt":"\\ud800"}}'),
    "not UTF-8": Bad(422, "body", "unicode", body=b'{"recipe":{"model":"\xff"}}', headers=JSON),
    "10 MB prompt": Bad(413, "body", "bytes", body=recipe_job(prompt="x" * 10_000_000)),
    "prompt of 10,001": recipe("prompt", prompt="x" * 10_001),
    "other type of content": Bad(415, "Content-Type", "JSON", body=b"{}",
                                 headers={"Content-Type": "text/plain"}),
    "no type of content": Bad(415, "Content-Type", "JSON", body=b"{}"),
    # recipes
    "path in a recipe": recipe("picture", methods=[{"method": "sdedit", "image": "/etc/passwd"}]),
    "path as model": recipe("model", "recipe", model="/etc/passwd"),
    "model that is not offered": recipe("offers", "recipe.model", model="other"),
    "path as adapter": recipe("adapters.0.file", "recipe", adapters=[
        {"file": "../../secret.safetensors", "sha256": SHA, "scale": 1.0}]),
    "path as weights": recipe("diffstyler", methods=[
        {"method": "diffstyler", "art": "/etc/passwd"}]),
    "weights that are not offered, of several": recipe("not offered", methods=[
        {"method": "asyrp", "file": "emoji", "also": ["mine.safetensors"]}]),
    "path in a picture's name": method("name", method="sdedit",
                                       image={"sha256": "{picture}", "name": "../x.png"}),
    "number as a picture's name": Bad(422, "pictures.0.name", "name", body={
        "kind": "train", "config": {}, "pictures": [{"sha256": "{picture}", "name": 5}]}),
    "path as hash": method("picture", method="sdedit", image={"sha256": "../../server.db"}),
    "picture that is not here": method("upload it", "recipe.methods", method="sdedit",
                                       image={"sha256": SHA}),
    "picture of another": method("upload it", "recipe.methods", method="sdedit",
                                 image={"sha256": "{theirs}"}),
    "mask of another size": method("mask", "recipe.methods.0", method="sdedit",
                                   mask={"sha256": "{small}", "name": "m.png"}),
    "mask that is black": method("mask", "recipe.methods.0", method="sdedit",
                                 mask={"sha256": "{black}", "name": "m.png"}),
    "level out of range": method("t0", method="sdedit", t0=1.5),
    "field that is not there": method("command", method="sdedit", command="rm"),
    "method that is not there": recipe("exec", methods=[{"method": "exec"}]),
    "no pictures": recipe("n = 0", n=0),
    "too many pictures": recipe("n = 4096", "recipe.n", n=4096),
    "wider than allowed": recipe("60000x1", "recipe.size", size=[60_000, 1]),
    "pictures inside": recipe("embedded", "recipe.embedded", embedded={SHA: "AAAA"}),
    # jobs of other kinds, and what is beside a recipe
    "kind that is not there": Bad(422, "kind", "kind", body={"kind": "shell"}),
    "word as a number": Bad(422, "priority", "priority", body={**recipe_job(), "priority": "3"}),
    "search of a secret": Bad(422, "search", "search",
                              body={**recipe_job(), "search": ["__class__.x"]}),
    "sweep without end": sweep("9", "over", over="cfg.scale=0:9:1000000000"),
    "sweep of code": sweep("os", "over", over="os.system=1,2"),
    "batch of none": Bad(422, "rows", "rows", body={"kind": "batch", "rows": []}),
    "bad row of a batch": Bad(422, "rows.1.recipe.model", "offers", body={
        "kind": "batch", "rows": [recipe_job(), recipe_job(model="other")]}),
    "folder as a training's model": Bad(422, "config.model.start", "/etc", body={
        "kind": "train", "pictures": [{"sha256": "{picture}"}],
        "config": {"tuner": "dreambooth", "name": "x", "model": {"start": "/etc"}}}),
    "training of nothing": Bad(422, "", "pictures", body={
        "kind": "train", "config": {"tuner": "dreambooth", "name": "x"}, "pictures": []}),
    "captions with a name twice": Bad(422, "", "same name", body={
        "kind": "train", "config": {"tuner": "diffusion", "name": "x"},
        "pictures": [{"sha256": "{picture}", "name": "a.png"}] * 2}),
    "way out of a run": Bad(422, "run.0.name", "name", body={
        "kind": "train", "config": {}, "pictures": [{"sha256": "{picture}"}],
        "run": [{"sha256": "{picture}", "name": "best/../../x"}]}),
    "run of another": Bad(422, "run", "upload it", body={
        "kind": "train", "config": {"tuner": "dreambooth", "name": "x"},
        "pictures": [{"sha256": "{picture}"}],
        "run": [{"sha256": "{theirs}", "name": "state.safetensors"}]}),
    "tokenizer of the server's disk": Bad(422, "config.model.tokenizer", "/etc", body={
        "kind": "train", "pictures": [{"sha256": "{picture}", "name": "a.png", "caption": "x"}],
        "config": {"tuner": "diffusion", "name": "x", "model": {"tokenizer": "/etc"}}}),
    "evaluation of what is not offered": Bad(422, "model", "offers", body={
        "kind": "eval", "model": "../x"}),
    "comparison of what is not offered": Bad(422, "ways.0.recipe.model", "offers", body={
        "kind": "compare",
        "ways": [{"name": "a", "recipe": {**recipe_job()["recipe"], "model": "other"}}]}),
    "comparison of a picture of another": Bad(422, "inputs.0", "upload it", body={
        "kind": "compare", "ways": [{"name": "a", "recipe": recipe_job()["recipe"]}],
        "inputs": [{"sha256": "{theirs}"}]}),
    "comparison of a name twice": Bad(422, "ways.1.name", "is there twice", body={
        "kind": "compare", "ways": [{"name": "a", "recipe": recipe_job()["recipe"]}] * 2}),
    "comparison of a name of lines": Bad(422, "ways.0.name", "is no name", body={
        "kind": "compare", "ways": [{"name": "a\nb", "recipe": recipe_job()["recipe"]}]}),
    "comparison that fills nothing": Bad(422, "ways.0.fills", "takes no picture", body={
        "kind": "compare",
        "ways": [{"name": "a", "recipe": recipe_job()["recipe"], "fills": ["cfg"]}]}),
    "sweep as wide as numbers": sweep("wider", "over", over="cfg.scale=-1e308:1e308:3"),
    "comparison of no ways": Bad(422, "ways", "ways", body={"kind": "compare", "ways": []}),
    "plan of a secret": Bad(422, "search", "search", body={
        "kind": "plan", **recipe_job(), "search": ["__class__.x"]}),
    # ids, pages, headers
    "job of another": get(404, "id", "{other}", "/v1/jobs/{other}"),
    "file of another": get(404, "id", "{other}", "/v1/jobs/{other}/files/1.png"),
    "picture's hash of another": get(404, "sha256", "picture", "/v1/images/{theirs}"),
    "way out of a job": get(404, "name", "server.db", "/v1/jobs/{mine}/files/..%2f..%2fserver.db"),
    "id that is none": get(422, "id", "id", "/v1/jobs/..%5cx"),
    "hash that is none": get(404, "path", "/openapi.json", "/v1/images/..%2fserver.db"),
    "page before the first": get(422, "before", "before", "/v1/jobs?before=-1"),
    "page of a negative size": get(422, "limit", "limit", "/v1/jobs?limit=-5"),
    "page of a huge number": get(422, "before", "before", f"/v1/jobs?before={HUGE[:400]}"),
    "event that is none": get(422, "Last-Event-ID", "Last-Event-ID", "/v1/events",
                              Last_Event_ID="-1"),
    "before a job of another": Bad(409, "before", "{other}", "/v1/jobs/{waits}/reorder",
                                   body={"before": "{other}"}),
    "cancel of another": Bad(404, "id", "{other}", "/v1/jobs/{other}/cancel", body={}),
    "cancel of what has ended": Bad(409, "id", "ended", "/v1/jobs/{mine}/cancel", body={}),
    "key with a line break": Bad(422, "Idempotency-Key", "Idempotency-Key", body=recipe_job(),
                                 headers={"Idempotency-Key": "x" * 201}),
    "header of 70 kB": get(431, "headers", "headers", "/v1/jobs", X_Long="x" * 70_000),
    "host of another": get(421, "Host", "evil", "/v1/jobs", Host="evil.example"),
    "page of another": get(403, "Origin", "evil", "/v1/jobs", Origin="http://evil.example"),
    "token that is none": get(401, "Authorization", "token", "/v1/jobs",
                              Authorization="Bearer " + "x" * 20),
    "way in that is none": get(401, "Authorization", "token", "/v1/jobs",
                               Authorization="Basic cDpw"),
    "cookie that is forged": get(401, "Authorization", "token", "/v1/session", Authorization="",
                                 Cookie=b"sfumato_session=W10=.\xe9"),
    "login with a number": Bad(422, "token", "token", "/v1/session", body={"token": 1}),
}  # fmt: skip


def filled(value: Any, known: Mapping[str, str]) -> Any:
    """With what the server has in place of its names."""
    if isinstance(value, bytes):
        return filled(value.decode("latin-1"), known).encode("latin-1")
    if isinstance(value, str):
        for name, text in known.items():
            value = value.replace(f"{{{name}}}", text)
        return value
    if isinstance(value, dict):
        return {key: filled(part, known) for key, part in value.items()}
    return [filled(part, known) for part in value] if isinstance(value, list) else value


def written(service: Service) -> dict[str, Any]:
    """All that is on the disk: files by their bytes, tables by their rows."""
    folder = service.settings.folder
    files = {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.startswith("server.db")
    }
    tables = [row["name"] for row in service.kept.db.read(
        "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]  # fmt: skip
    rows = {name: [tuple(row) for row in service.kept.db.read(f"SELECT * FROM {name}")]
            for name in tables}  # fmt: skip
    return {"files": files, **rows}


@dataclass(frozen=True)
class Answer:
    """What came, what the server has, and what was written."""

    response: httpx.Response
    known: Mapping[str, str]
    new: list[str]


async def prepared(client: httpx.AsyncClient, laptop: Mapping[str, str]) -> dict[str, str]:
    """Jobs and pictures of two clients."""
    known = {
        "picture": await uploaded(client, png((64, 64))),
        "small": await uploaded(client, png((8, 9), "white")),
        "black": await uploaded(client, png((64, 64), "black")),
        "theirs": await uploaded(client, picture(99), laptop),
        "mine": (await until_ended(client, await submitted(client, recipe_job())))["id"],
    }
    answer = await client.post("/v1/jobs", json=recipe_job(5), headers=laptop)
    known["other"] = answer.json()["id"]
    while True:
        answer = await client.get(f"/v1/jobs/{known['other']}", headers=laptop)
        if answer.json()["state"] == "done":
            break
        await asyncio.sleep(0.01)
    await client.post("/v1/queue/pause")
    known["waits"] = await submitted(client, recipe_job(6))
    return known


async def asked(client: httpx.AsyncClient, bad: Bad, known: Mapping[str, str]) -> httpx.Response:
    headers = {**bad.headers}
    body = filled(bad.body, known)
    if isinstance(body, dict):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    elif isinstance(body, bytes) and body[:1] == b"{" and bad.status == 422:
        headers.setdefault("Content-Type", "application/json")
    return await client.request(
        bad.method, filled(bad.path, known), content=body, files=bad.files, headers=headers
    )


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Of one server, on a port, to all of them."""
    found: dict[str, Answer] = {}
    folder = tmp_path_factory.mktemp("bad")

    @in_loop
    async def ask() -> None:
        limits = Limits(rate=1e6, burst=1_000_000, upload=1 << 20)
        phone, laptop = ({"Authorization": f"Bearer {t}"} for t in TOKENS.values())
        async with (
            served(folder, tokens=TOKENS, limits=limits) as service,
            listening(service, **phone) as client,
        ):
            known = await prepared(client, laptop)
            before = written(service)
            for name, bad in BAD.items():
                response = await asked(client, bad, known)
                after = written(service)
                new = [part for part in after if after[part] != before.get(part)]
                found[name] = Answer(response, known, new)
                before = after
            await client.post("/v1/queue/resume")
            assert (await until_ended(client, known["waits"]))["state"] == "done"

    ask()
    return found


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_refused_in_one_sentence(answers: dict[str, Answer], name: str) -> None:
    """By its status, with the field that it is about; the disk is as it was."""
    bad, answer = BAD[name], answers[name]
    response = answer.response
    assert response.status_code == bad.status, response.text
    problem = refusal(response)
    assert filled(bad.words, answer.known) in problem["detail"]
    assert problem.get("field", "").startswith(bad.about), problem
    assert str(Path.cwd()) not in problem["detail"]
    assert answer.new == []


def test_there_are_sixty() -> None:
    assert len(BAD) >= 60


@pytest.mark.parametrize(
    ("begin", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: ", 431),
        (b"GET /", 431),
        (b"\0\r\n", 400),
    ],
    ids=("header without end", "path without end", "no HTTP"),
)
@in_loop
async def test_a_head_without_end_ends_the_connection(
    tmp_path: Path, begin: bytes, status: int
) -> None:
    """Before it fills the memory."""
    async with served(tmp_path) as service, listening(service) as client:
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(begin)
        if status == 431:
            writer.write(b"x" * HEAD)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == status
