"""Secrets of methods over HTTP: they reach the runner, and nothing keeps them."""

from __future__ import annotations

import asyncio
import json
import logging
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from helpers.served import (
    StubRunner,
    client_of,
    events_of,
    in_loop,
    listening,
    recipe_job,
    served,
    submitted,
    task_of,
    until_ended,
)
from sfumato.methods import from_data, to_data
from sfumato.methods.common.secret import secret_texts, secrets_known
from sfumato.methods.stego import Stego
from sfumato.server.requests import JobRequest
from sfumato.server.runner.library import Offer
from sfumato.server.runner.protocol import Failed, Finished, Happening, Made
from sfumato.server.secrecy import apart

MESSAGE, KEY = "meet at the old elm", "correct horse battery"
DIGESTS = {f"sha256:{sha256(text.encode()).hexdigest()}": text for text in (MESSAGE, KEY)}
HIDDEN = {"methods": [{"method": "stego", "message": MESSAGE, "key": KEY}]}
JOBS: dict[str, dict[str, Any]] = {
    "recipe": recipe_job(7, **HIDDEN),
    "sweep": {"kind": "sweep", **recipe_job(7, **HIDDEN), "over": "steps=1,2"},
    "batch": {"kind": "batch", "rows": [recipe_job(7, **HIDDEN), recipe_job(8)]},
    "plan": {"kind": "plan", **recipe_job(7, **HIDDEN)},
}


def told(*texts: str | bytes) -> bool:
    """Whether any of them has a secret."""
    secret = [text.encode() for text in (MESSAGE, KEY)]
    return any(
        part in (text if isinstance(text, bytes) else text.encode())
        for text in texts
        for part in secret
    )


@pytest.mark.parametrize("kind", JOBS)
def test_a_secret_reaches_the_runner_and_no_disk(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not the database, its log, answers, events, logs; children of a job have it too."""
    caplog.set_level(logging.DEBUG)
    runner = StubRunner(hold=asyncio.Event())

    @in_loop
    async def go() -> None:
        async with served(tmp_path, runner) as service, listening(service) as client:
            answer = await client.post("/v1/jobs", json=JOBS[kind])
            assert answer.status_code == 202, answer.text
            id = answer.json()["id"]
            plan = await client.post("/v1/plan", json=JOBS[kind])
            asked = await client.get(f"/v1/jobs/{id}/request")
            exported = await client.get("/v1/queue/export")
            children = (await client.get(f"/v1/jobs?parent={id}")).json()["jobs"]
            runner.hold.set()
            ended = await until_ended(client, id)
            heard = [
                json.dumps(event) async for event in events_of(client, f"/v1/jobs/{id}/events")
            ]
            gallery = await client.get("/v1/gallery")
            said = (answer, plan, asked, exported, gallery)
            assert ended["state"] == "done"
            assert not told(json.dumps([ended, children]), *heard, *(one.text for one in said))
            assert next(iter(DIGESTS)) in asked.text
            again = await client.post("/v1/jobs", json=asked.json())
            assert again.status_code == 422
            assert "stego.message: is a secret" in again.json()["detail"]
            assert not service.kept.secrets.held
        assert not told(*(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()))

    go()
    with_secret = [task for task in runner.tasks if "stego" in task.request]
    assert with_secret
    for task in with_secret:
        assert task.secrets == DIGESTS
        assert not told(task.request, repr(task))
    assert not told(caplog.text)


@in_loop
async def test_a_secret_is_forgotten_with_its_job_and_its_server(tmp_path: Path) -> None:
    """What comes back without it says in a sentence what to do."""
    body = recipe_job(7, "fail", **HIDDEN)
    async with served(tmp_path) as service, client_of(service) as client:
        id = await submitted(client, body)
        assert (await until_ended(client, id))["state"] == "failed"
        answer = await client.post(f"/v1/jobs/{id}/retry")
        assert answer.status_code == 409
        assert "stego.message is a secret, which was forgotten" in answer.json()["detail"]
        await client.post("/v1/queue/pause")
        waiting = await submitted(client, JOBS["recipe"])
    runner = StubRunner()
    async with served(tmp_path, runner) as service, client_of(service) as client:
        await client.post("/v1/queue/resume")
        await until_ended(client, waiting)
        assert not runner.tasks[-1].secrets, "the runner says that it is missing"


@in_loop
async def test_what_is_no_text_is_refused_and_not_shown(tmp_path: Path) -> None:
    """Neither in the answer nor in a request that is kept; a key sends a job once."""
    async with served(tmp_path) as service, client_of(service) as client:
        for value in (31_415_926, [KEY], {"text": KEY}, {}, [], 0, False):
            entry = {"method": "stego", "message": MESSAGE, "key": value}
            answer = await client.post("/v1/jobs", json=recipe_job(methods=[entry]))
            assert answer.status_code == 422
            assert answer.json()["detail"] == "stego: key must be a text"
        wrong = {"method": "stego", "message": MESSAGE, "bits": 9}
        answer = await client.post("/v1/jobs", json=recipe_job(methods=[wrong]))
        assert answer.status_code == 422
        assert not told(answer.text)
        headers = {"Idempotency-Key": "once"}
        one, two = [
            (await client.post("/v1/jobs", json=JOBS["recipe"], headers=headers)).json()["id"]
            for _ in range(2)
        ]
        assert one == two
        other = recipe_job(7, methods=[{"method": "stego", "message": "another"}])
        assert (await client.post("/v1/jobs", json=other, headers=headers)).status_code == 409


def test_a_batch_on_a_cluster_takes_them_beside_its_recipes() -> None:
    method = Stego(MESSAGE, key=KEY)
    assert secret_texts(method) == DIGESTS
    assert not secret_texts(from_data(to_data(method)))
    with secrets_known(DIGESTS):
        assert from_data(to_data(method)).key.text("key") == KEY


def test_the_runner_hides_what_it_was_told() -> None:
    """With the text the picture carries the message and its recipe the digest; without, a line."""
    library = Offer({"emoji": "emoji"}, "cpu")()
    request = JobRequest.model_validate_json(
        json.dumps(recipe_job(3, steps=2, stages=1, size=32, methods=[
            {"method": "stego", "message": MESSAGE, "check": False}]))
    )  # fmt: skip
    kept, secrets = apart(request)
    entry = kept.job.model_dump()["recipe"]["methods"][0]
    assert not told(kept.model_dump_json())
    task = task_of(3, steps=2, stages=1, size=32, methods=[entry])
    happened: list[Happening] = []
    library.perform(task, happened.append)
    assert isinstance(happened[-1], Failed)
    assert "stego: message: the recipe holds a digest of it alone" in happened[-1].line
    object.__setattr__(task, "secrets", secrets)
    happened.clear()
    library.perform(task, happened.append)
    assert isinstance(happened[-1], Finished), happened[-1]
    (made,) = (one.data for one in happened if isinstance(one, Made))
    assert not told(made)
    assert next(iter(DIGESTS)).encode() in made
