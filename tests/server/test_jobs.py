"""A job's life over HTTP: submitted, listened to, cancelled, tried again, forgotten."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from helpers.served import (
    StubRunner,
    client_of,
    events_of,
    in_loop,
    listening,
    picture,
    recipe_job,
    served,
    submitted,
    until_ended,
)


@in_loop
async def test_a_job_is_done_and_its_picture_is_there(tmp_path: Path) -> None:
    """The main path: 202 with an id, states in order, the picture's bytes by its hash."""
    async with served(tmp_path) as service, client_of(service) as client:
        answer = await client.post("/v1/jobs", json=recipe_job(7))
        assert answer.status_code == 202
        assert answer.headers["location"].endswith(answer.json()["id"])
        job = await until_ended(client, answer.json()["id"])
        assert (job["state"], job["attempt"], job["kind"]) == ("done", 1, "recipe")
        assert job["progress"]["done"] == job["progress"]["total"] == 3
        (file,) = job["results"]
        assert (file["name"], file["seed"], file["width"]) == ("1.png", 7, 8)
        fetched = await client.get(f"/v1/images/{file['sha256']}")
        assert fetched.content == picture(7)
        assert fetched.headers["content-type"] == "image/png"
        named = await client.get(f"/v1/jobs/{job['id']}/files/1.png")
        assert named.content == picture(7)


@in_loop
async def test_listeners_are_told_in_order_and_again_from_the_table(tmp_path: Path) -> None:
    """Live events and those replayed after Last-Event-ID are the same; steps are live alone."""
    runner = StubRunner(hold=asyncio.Event(), single=True)
    async with served(tmp_path, runner) as service, listening(service) as client:
        id = await submitted(client, recipe_job())
        seen = []
        async for event in events_of(client, f"/v1/jobs/{id}/events"):
            seen.append(event)
            if event["event"] != "queued":
                runner.hold.set()  # the next: of steps that come together only the newest is told
        kept = [event for event in seen if event["event"] != "step"]
        steps = [event["i"] for event in seen if event["event"] == "step"]
        assert [event["event"] for event in kept] == ["queued", "started", "picture", "done"]
        assert steps == [1, 2, 3]
        assert [event["id"] for event in kept] == sorted(event["id"] for event in kept)
        path, last = f"/v1/jobs/{id}/events", kept[1]["id"]
        again = [event async for event in events_of(client, path, last)]
        assert again == kept[2:]
        headers = {"Last-Event-ID": str(kept[-1]["id"])}
        assert (await client.get(path, headers=headers)).status_code == 204


@in_loop
async def test_all_of_a_clients_jobs_are_one_stream(tmp_path: Path) -> None:
    """/v1/events tells of jobs that are submitted after it began."""
    async with served(tmp_path) as service, listening(service) as client:
        ended = []
        stream = events_of(client, "/v1/events")
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.1)
        ids = [await submitted(client, recipe_job(seed)) for seed in range(3)]
        event = await first
        while len(ended) < 3:
            if event["event"] == "done":
                ended.append(event["job"])
            event = await anext(stream) if len(ended) < 3 else event
        assert sorted(ended) == sorted(ids)
        await stream.aclose()


@in_loop
async def test_cancelling_what_waits_never_touches_what_runs(tmp_path: Path) -> None:
    """Users lost finished pictures to a cancel of another item."""
    runner = StubRunner(hold=asyncio.Event())
    async with served(tmp_path, runner) as service, client_of(service) as client:
        running = await submitted(client, recipe_job(1))
        waiting = await submitted(client, recipe_job(2))
        while runner.current != running:
            await asyncio.sleep(0.01)
        answer = await client.post(f"/v1/jobs/{waiting}/cancel", json={})
        assert answer.json()["state"] == "cancelled"
        assert not runner.cancelled
        runner.hold.set()
        assert (await until_ended(client, running))["state"] == "done"
        assert [task.id for task in runner.tasks] == [running]
        again = await client.post(f"/v1/jobs/{running}/cancel", json={})
        assert again.status_code == 409


@pytest.mark.parametrize(("when", "state"), [("now", "cancelled"), ("after_picture", "done")])
@in_loop
async def test_a_running_job_is_cancelled(tmp_path: Path, when: str, state: str) -> None:
    """now stops its runner; after_picture lets it come to its end."""
    runner = StubRunner(hold=asyncio.Event())
    async with served(tmp_path, runner) as service, client_of(service) as client:
        id = await submitted(client, recipe_job())
        while runner.current != id:
            await asyncio.sleep(0.01)
        answer = await client.post(f"/v1/jobs/{id}/cancel", json={"when": when})
        assert answer.status_code == 200
        if when == "after_picture":
            assert answer.json()["cancelling"]
            runner.hold.set()
        assert (await until_ended(client, id))["state"] == state


@in_loop
async def test_a_job_that_failed_says_why_and_can_be_tried_again(tmp_path: Path) -> None:
    """One line, and a retry is a new attempt of the same job."""
    async with served(tmp_path) as service, client_of(service) as client:
        id = await submitted(client, recipe_job(prompt="fail"))
        job = await until_ended(client, id)
        assert (job["state"], job["error"][:6]) == ("failed", "emoji:")
        assert (await client.post(f"/v1/jobs/{id}/retry")).status_code == 200
        assert (await until_ended(client, id))["attempt"] == 2


@in_loop
async def test_a_forgotten_job_is_gone_with_the_pictures_that_only_it_holds(
    tmp_path: Path,
) -> None:
    """DELETE, then 404; a picture that another job made too stays."""
    async with served(tmp_path) as service, client_of(service) as client:
        one, other = [await submitted(client, recipe_job(5)) for _ in range(2)]
        alone = await submitted(client, recipe_job(6))
        shared = (await until_ended(client, one))["results"][0]["sha256"]
        single = (await until_ended(client, alone))["results"][0]["sha256"]
        await until_ended(client, other)
        for id in (one, alone):
            assert (await client.delete(f"/v1/jobs/{id}")).status_code == 204
            assert (await client.get(f"/v1/jobs/{id}")).status_code == 404
            assert (await client.get(f"/v1/jobs/{id}/events")).status_code == 404
        assert (await client.get(f"/v1/images/{shared}")).status_code == 200
        assert (await client.get(f"/v1/images/{single}")).status_code == 404
        assert service.kept.files.all() == [shared]
        assert len((await client.get("/v1/jobs")).json()["jobs"]) == 1


@in_loop
async def test_the_same_key_gives_the_same_job(tmp_path: Path) -> None:
    """A client that lost the answer sends again, and nothing runs twice."""
    async with served(tmp_path) as service, client_of(service) as client:
        headers = {"Idempotency-Key": "k1"}
        answers = await asyncio.gather(
            *(client.post("/v1/jobs", json=recipe_job(1), headers=headers) for _ in range(5))
        )
        assert len({answer.json()["id"] for answer in answers}) == 1
        other = await client.post("/v1/jobs", json=recipe_job(2), headers=headers)
        assert other.status_code == 409


@in_loop
async def test_pages_are_complete_and_stable(tmp_path: Path) -> None:
    """Keyset paging: each job once, also when jobs come in between."""
    async with served(tmp_path) as service, client_of(service) as client:
        ids = [await submitted(client, recipe_job(seed)) for seed in range(7)]
        seen, before = [], None
        while True:
            given = {"limit": 3} if before is None else {"limit": 3, "before": before}
            page = (await client.get("/v1/jobs", params=given)).json()
            seen += [job["id"] for job in page["jobs"]]
            await submitted(client, recipe_job(99))
            before = page["next"]
            if before is None:
                break
        assert seen == ids[::-1]


@in_loop
async def test_a_queue_waits_goes_on_and_is_put_in_order(tmp_path: Path) -> None:
    """Pause, reorder, priority, export, resume."""
    runner = StubRunner()
    async with served(tmp_path, runner) as service, client_of(service) as client:
        assert (await client.post("/v1/queue/pause")).json()["paused"]
        a, b, c = [await submitted(client, recipe_job(seed)) for seed in range(3)]
        assert (await client.get(f"/v1/jobs/{c}")).json()["ahead"] == 2
        moved = await client.post(f"/v1/jobs/{c}/reorder", json={"before": a})
        assert moved.json()["ahead"] == 0
        await client.post(f"/v1/jobs/{b}/reorder", json={"priority": 5})
        exported = (await client.get("/v1/queue/export")).json()
        assert [job["recipe"]["seed"] for job in exported["jobs"]] == [0, 1, 2]
        assert not runner.tasks
        await client.post("/v1/queue/resume")
        await asyncio.gather(*(until_ended(client, id) for id in (a, b, c)))
        assert [task.id for task in runner.tasks] == [b, c, a]
        again = await client.post("/v1/jobs", json=exported["jobs"][0])
        assert again.status_code == 202


@in_loop
async def test_a_new_job_stands_where_its_number_says(tmp_path: Path) -> None:
    """In the table as in memory, after the newest was forgotten too."""
    async with served(tmp_path) as service, client_of(service) as client:
        for k in range(3):
            id = await submitted(client, recipe_job(k))
            await until_ended(client, id)
            if k == 1:
                assert (await client.delete(f"/v1/jobs/{id}")).status_code == 204
        rows = service.kept.db.read("SELECT number, position FROM jobs ORDER BY number")
        assert [(row["number"], row["position"]) for row in rows] == [(1, 1.0), (3, 3.0)]
