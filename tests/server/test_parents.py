"""Sweeps and batches: parents whose children make the pictures."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from helpers.served import (
    StubRunner,
    client_of,
    happenings,
    in_loop,
    recipe_job,
    served,
    submitted,
    until_ended,
)
from sfumato.server.runner.protocol import Expanded, Finished, Happening, Made, Task


def batch(*prompts: str) -> dict[str, Any]:
    rows = [
        {**recipe_job(seed, prompt), "name": f"row {seed}"} for seed, prompt in enumerate(prompts)
    ]
    return {"kind": "batch", "rows": rows}


def sweeps(task: Task) -> list[Happening]:
    """A stub's sweep of two cells, and its page."""
    request = json.loads(task.request)
    if request["kind"] != "sweep":
        return happenings(task)
    if task.files is None:
        cells = [json.dumps({"kind": "recipe", **recipe_job(seed)}) for seed in (1, 2)]
        names = tuple((f"pictures/1-{k}-0.png",) for k in (1, 2))
        return [Expanded(tuple(cells), names), Finished()]
    shown = {name: file.stat().st_size for name, file in task.files.items()}
    return [Made("index.html", json.dumps(shown).encode()), Finished()]


SWEEP = {"kind": "sweep", **recipe_job(), "over": "cfg.scale=1,2"}


@in_loop
async def test_a_batch_is_done_though_a_row_fails(tmp_path: Path) -> None:
    """Rows are jobs of their own; the parent counts them."""
    async with served(tmp_path) as service, client_of(service) as client:
        id = await submitted(client, batch("one", "fail", "three"))
        job = await until_ended(client, id)
        assert job["state"] == "done"
        assert job["children"]["done"] == 2
        assert job["children"]["failed"] == 1
        assert job["progress"] == {"done": 3, "total": 3, "eta_s": None}
        children = (await client.get("/v1/jobs", params={"parent": id})).json()["jobs"]
        assert [child["name"] for child in children] == ["row 2", "row 1", "row 0"]
        assert [len(child["results"]) for child in children] == [1, 0, 1]
        assert len((await client.get("/v1/jobs")).json()["jobs"]) == 1
        assert (await client.post(f"/v1/jobs/{children[1]['id']}/retry")).status_code == 409
        again = await submitted(client, batch("fail", "fail"))
        assert (await until_ended(client, again))["state"] == "failed"
        assert (await client.post(f"/v1/jobs/{again}/retry")).json()["state"] == "running"
        assert (await until_ended(client, again))["children"]["failed"] == 2


@in_loop
async def test_a_sweep_makes_its_pages_of_its_childrens_pictures(tmp_path: Path) -> None:
    """Expanded, its cells done, then begun again with their files."""
    runner = StubRunner(tell=sweeps)
    async with served(tmp_path, runner) as service, client_of(service) as client:
        id = await submitted(client, SWEEP)
        job = await until_ended(client, id)
        assert job["state"] == "done"
        assert [file["name"] for file in job["results"]] == ["index.html"]
        page = await client.get(f"/v1/jobs/{id}/files/index.html")
        assert sorted(page.json()) == ["pictures/1-1-0.png", "pictures/1-2-0.png"]
        assert page.headers["content-disposition"].startswith("attachment")
        assert len(runner.tasks) == 4
        assert (await client.delete(f"/v1/jobs/{id}")).status_code == 204
        assert service.kept.files.all() == []


@in_loop
async def test_what_a_client_was_told_of_stays_while_it_is_made_again(tmp_path: Path) -> None:
    """A sweep's first files come again with its pages, in another order: none is away meanwhile;
    what does not come again is gone in the end."""
    runner = StubRunner()

    def tell(task: Task) -> list[Happening]:
        begun = sweeps(task)
        if not any(isinstance(one, Expanded) for one in begun):
            if task.files is not None:
                runner.hold, runner.single = asyncio.Event(), True
                return [begun[0], Made("sweep.json", b"{}"), Finished()]
            return begun
        return [Made("sweep.json", b"{}"), Made("first.csv", b"1"), *begun]

    runner.tell = tell
    async with served(tmp_path, runner) as service, client_of(service) as client:
        id = await submitted(client, SWEEP)
        while runner.hold is None:
            await asyncio.sleep(0.01)

        async def results() -> set[str]:
            job = (await client.get(f"/v1/jobs/{id}")).json()
            return {file["name"] for file in job["results"]}

        assert await results() == {"sweep.json", "first.csv"}
        runner.hold.set()
        while "index.html" not in await results():
            await asyncio.sleep(0.05)
        assert await results() == {"sweep.json", "first.csv", "index.html"}
        answer = await client.get(f"/v1/jobs/{id}/files/sweep.json")
        assert (answer.status_code, answer.content) == (200, b"{}")
        runner.single = False
        runner.hold.set()
        ended = (await until_ended(client, id))["results"]
        assert [file["name"] for file in ended] == ["sweep.json", "index.html"]


@pytest.mark.parametrize("body", [batch("a", "b", "c"), SWEEP], ids=["batch", "sweep"])
@pytest.mark.parametrize("when", ["now", "after_picture"])
@in_loop
async def test_cancelling_a_parent_cancels_its_children(
    tmp_path: Path, body: dict[str, Any], when: str
) -> None:
    """now stops the one at work; after_picture lets it end, and begins no other."""
    runner = StubRunner(tell=sweeps)
    async with served(tmp_path, runner) as service, client_of(service) as client:
        runner.tell = lambda task: held(runner, task)
        id = await submitted(client, body)
        while runner.hold is None or runner.current is None:
            await asyncio.sleep(0.01)
        await client.post(f"/v1/jobs/{id}/cancel", json={"when": when})
        runner.hold.set()
        job = await until_ended(client, id)
        assert job["state"] == "cancelled"
        counts = job["children"]
        assert counts["done"] == (when == "after_picture")
        assert counts["running"] == counts["queued"] == 0


def held(runner: StubRunner, task: Task) -> list[Happening]:
    """Children wait until they may go on."""
    if json.loads(task.request)["kind"] == "recipe" and runner.hold is None:
        runner.hold = asyncio.Event()
    return sweeps(task)
