"""How a server is watched and described: readiness, metrics, logs, the document, retention."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

pytest.importorskip("fastapi")

from helpers.served import (
    StubRunner,
    client_of,
    in_loop,
    recipe_job,
    served,
    submitted,
    until_ended,
)
from sfumato import methods
from sfumato.server import logs
from sfumato.server.api import operation
from sfumato.server.retention import tidy
from sfumato.server.settings import Retention
from sfumato.server.store import records


@in_loop
async def test_it_is_ready_when_it_can_keep_and_do_jobs(tmp_path: Path) -> None:
    """Runner alive, room on the disk; each that is wrong is named."""
    runner = StubRunner()
    async with served(tmp_path, runner, floor=1 << 62) as service, client_of(service) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert "MiB are free" in answer.json()["wrong"][0]
        runner.alive = False
        await asyncio.sleep(operation.LASTS)
        assert "no runner is alive" in (await client.get("/readyz")).json()["wrong"]
        assert (await client.get("/livez")).text == "ok\n"


@in_loop
async def test_metrics_are_there_for_prometheus(tmp_path: Path) -> None:
    """Counts by route, not by path; jobs, runners, disk."""
    async with served(tmp_path) as service, client_of(service) as client:
        id = await submitted(client, recipe_job())
        await until_ended(client, id)
        text = (await client.get("/metrics")).text
        assert 'route="/v1/jobs/{id}"' in text
        assert id not in text
        assert 'sfumato_runner_alive{runner="stub"} 1.0' in text
        assert 'sfumato_jobs{state="queued"} 0.0' in text
        assert 'sfumato_job_seconds_count{kind="recipe"} 1.0' in text
        assert "sfumato_disk_free_bytes" in text


@in_loop
async def test_logs_are_json_and_hold_no_token(tmp_path: Path) -> None:
    """Request and job ids are in them; tokens, cookies and queries are not."""
    token = "secret-token-of-a-phone"
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonLines())
    log = logging.getLogger("sfumato.server")
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.DEBUG)
    try:
        async with (
            served(tmp_path, tokens={"phone": token}) as service,
            client_of(service, token) as client,
        ):
            answer = await client.get(f"/v1/jobs?limit=3&token={token}")
            await client.post("/v1/session", json={"token": token})
            await client.post("/v1/session", json={"token": token + "x"})
            await client.get(f"/{token[:3]}")
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert token not in stream.getvalue()
    asked = next(line for line in lines if line.get("request") == answer.headers["x-request-id"])
    assert asked["message"] == "GET /v1/jobs"
    assert (asked["client"], asked["status"]) == ("phone", 200)


@in_loop
async def test_the_document_is_one_that_generators_take(tmp_path: Path) -> None:
    """3.1 without itemSchema, every operation named once, every reference met, one error."""
    async with served(tmp_path) as service, client_of(service) as client:
        answer = await client.get("/openapi.json")
    text, made = answer.text, answer.json()
    operations = [one for path in made["paths"].values() for one in path.values()]
    names = [one["operationId"] for one in operations]
    assert len(set(names)) == len(names)
    schemas = made["components"]["schemas"]
    for word in (
        "itemSchema",
        "$defs",
        "HTTPValidationError",
        "x-refers",
        "x-body",
        "Job1",
        "Body_",
    ):
        assert word not in text, word
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= set(schemas)
    for one in operations:
        for status in ("4XX", "5XX"):
            (body,) = one["responses"][status]["content"].values()
            assert body["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert schemas["JobRequest"]["discriminator"]["propertyName"] == "kind"
    assert "kind" in schemas["RecipeJob"]["required"]
    mapping = schemas["Method"]["discriminator"]["mapping"]
    assert set(mapping) == set(methods.registry())


@in_loop
async def test_answers_are_as_the_document_says(tmp_path: Path) -> None:
    """Jobs, pages, plans, methods, models, problems against their schemas."""
    async with served(tmp_path) as service, client_of(service) as client:
        made = (await client.get("/openapi.json")).json()
        id = await submitted(client, recipe_job(n=2))
        await until_ended(client, id)
        for path, schema in (
            (f"/v1/jobs/{id}", "Job"), ("/v1/jobs", "JobPage"), ("/v1/methods", "Methods"),
            ("/v1/models", "Models"), ("/v1/queue", "QueueView"), ("/v1/nothing", "Problem"),
            (f"/v1/jobs/{id}/request", "JobRequest"), ("/v1/queue/export", "Exported"),
            ("/readyz", "Readiness"),
        ):  # fmt: skip
            wanted = {"$ref": f"#/components/schemas/{schema}", "components": made["components"]}
            jsonschema.validate((await client.get(path)).json(), wanted)
        wanted = {"$ref": "#/components/schemas/Plan", "components": made["components"]}
        jsonschema.validate((await client.post("/v1/plan", json=recipe_job())).json(), wanted)


@in_loop
async def test_a_path_says_what_it_takes(tmp_path: Path) -> None:
    """Allow names every method of a path, though each has a route of its own."""
    async with served(tmp_path) as service, client_of(service) as client:
        for path, allowed in (
            ("/v1/session", "DELETE, GET, POST"), ("/v1/jobs", "GET, POST"),
            (f"/v1/jobs/{'0' * 20}", "DELETE, GET"), (f"/v1/images/{'0' * 64}", "GET, HEAD"),
            (f"/v1/jobs/{'0' * 20}/files/a/b.png", "GET"),
        ):  # fmt: skip
            answer = await client.put(path)
            assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_a_new_method_is_in_the_document_by_itself() -> None:
    """`Method` is made of the registry; a file more is a schema more."""
    from sfumato.server.api.document import recipes

    schemas = recipes()
    for name, cls in methods.registry().items():
        own = schemas[f"{cls.__name__}Method"]
        assert own["properties"]["method"]["const"] == name
        assert "method" in own["required"]
    assert schemas["SDEditMethod"]["properties"]["image"]["$ref"].endswith("/PictureRef")


@in_loop
async def test_what_is_old_or_too_much_goes(tmp_path: Path) -> None:
    """By age, then the oldest beyond the bytes; open jobs and fresh uploads stay."""
    runner = StubRunner()
    keeping = Retention(days=1, bytes=None)
    async with served(tmp_path, runner, retention=keeping) as service, client_of(service) as client:
        old, new = [
            (await until_ended(client, await submitted(client, recipe_job(seed))))["id"]
            for seed in (1, 2)
        ]
        await client.post("/v1/queue/pause")
        waiting = await submitted(client, recipe_job(3))
        past = "UPDATE jobs SET ended = 1, created = 1 WHERE id = ?"
        await service.kept.db.write(lambda c: c.execute(past, (old,)))
        assert await tidy(service) == 1
        left = [job["id"] for job in (await client.get("/v1/jobs")).json()["jobs"]]
        assert left == [waiting, new]
        object.__setattr__(service.settings, "retention", Retention(None, 0))
        assert await tidy(service) == 1
        assert service.kept.files.all() == []
        assert (await client.get(f"/v1/jobs/{waiting}")).json()["state"] == "queued"
        await service.kept.db.write(lambda c: records.fact(c, "x", "y"))


@in_loop
async def test_a_server_behind_a_path_says_so(tmp_path: Path) -> None:
    """--root-path is the cookie's path and the document's server."""
    settings: dict[str, Any] = {"root_path": "/sfumato", "secure": True}
    async with served(tmp_path, **settings) as service, client_of(service) as client:
        cookie = (await client.post("/v1/session", json={"token": "x"})).headers["set-cookie"]
        assert "Path=/sfumato" in cookie
        assert "Secure" in cookie
        assert (await client.get("/v1/jobs")).status_code == 200
