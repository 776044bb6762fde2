"""When a job will have ended: place and ETA of what waits, by what such jobs took."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

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
from sfumato.server.jobs import Kind
from sfumato.server.queue import Entry, Queue
from sfumato.server.service import Service
from sfumato.server.store import records
from sfumato.server.works import Workload, work_of

STEP = 10.0  # seconds


def job(seed: int, **fields: Any) -> dict[str, Any]:
    return {"kind": "recipe", **recipe_job(seed, steps=3, **fields)}


async def known(service: Service, body: dict[str, Any], device: str = "cpu") -> None:
    """What such a job takes a step, on a device."""
    work = work_of(json.dumps(body))
    cost = partial(records.cost, model=work.model, size=work.size, device=device, seconds=STEP)
    await service.kept.db.write(partial(cost, table="durations"))


async def etas(client: Any, ids: list[str]) -> list[float | None]:
    return [(await client.get(f"/v1/jobs/{id}")).json()["eta_s"] for id in ids]


@in_loop
async def test_what_waits_has_a_place_and_an_eta(tmp_path: Path) -> None:
    """One after the other on one device; beside each other on two."""
    for count, wanted in ((1, [30, 60, 90, 120]), (2, [30, 30, 60, 60])):
        runners = [StubRunner(name=f"gpu:{k}", hold=asyncio.Event()) for k in range(count)]
        folder = tmp_path / str(count)
        async with served(folder, *runners) as service, client_of(service) as client:
            body = json.loads(json.dumps(job(0)))
            sent = [await submitted(client, job(seed)) for seed in range(4)]
            assert await etas(client, sent) == [None] * 4
            request = (await client.get(f"/v1/jobs/{sent[0]}/request")).json()
            await known(service, request)
            service.forecast.until = 0
            found = await etas(client, sent)
            assert [pytest.approx(eta, abs=5) for eta in found] == wanted, (found, body)
            shown = [(await client.get(f"/v1/jobs/{id}")).json()["ahead"] for id in sent]
            assert shown == [None] * count + list(range(4 - count))
            last = await submitted(client, job(9))  # it came since the forecast was made
            (eta,) = await etas(client, [last])
            assert eta == pytest.approx(150 if count == 1 else 90, abs=5)
            entry = service.kept.queue.open[last]
            for runner in runners:
                assert runner.hold is not None
                runner.hold.set()
            await until_ended(client, last)
            service.kept.queue.open[last] = entry  # a moment longer there than its row is open
            assert await etas(client, [last]) == [None]


@in_loop
async def test_a_job_of_an_unknown_kind_hides_what_is_behind_it(tmp_path: Path) -> None:
    """On its device; a paused queue has no ETA; a parent's is that of its last child."""
    runner = StubRunner(hold=asyncio.Event())
    async with served(tmp_path, runner) as service, client_of(service) as client:
        first = await submitted(client, job(0))
        request = (await client.get(f"/v1/jobs/{first}/request")).json()
        await known(service, request)
        rows = [{"recipe": job(seed)["recipe"]} for seed in (1, 2)]
        batch = await submitted(client, {"kind": "batch", "rows": rows})
        strange = await submitted(client, job(3, n=2))
        last = await submitted(client, job(4))
        service.forecast.until = 0
        found = await etas(client, [first, batch, strange, last])
        assert found[:2] == [pytest.approx(30, abs=5), pytest.approx(90, abs=5)]
        assert found[2:] == [None, None]
        await client.post("/v1/queue/pause")
        service.forecast.until = 0
        assert await etas(client, [last]) == [None]


@in_loop
async def test_what_a_job_took_is_remembered(tmp_path: Path) -> None:
    """By model, size, device, number of pictures and methods; not of what was cut short."""
    runner = StubRunner()
    async with served(tmp_path, runner) as service, client_of(service) as client:
        await until_ended(client, await submitted(client, job(1)))
        await until_ended(client, await submitted(client, job(2)))
        await until_ended(client, await submitted(client, job(3, n=2)))
        runner.dies = 1
        await until_ended(client, await submitted(client, job(4)))
        await until_ended(client, await submitted(client, job(5, prompt="fail")))
        rows = service.kept.db.read("SELECT * FROM durations ORDER BY samples")
        assert [row["samples"] for row in rows] == [1, 2]
        assert {row["device"] for row in rows} == {"cpu"}


def test_how_much_a_job_is() -> None:
    """Steps of every kind; what is alike has one key, what is not has another."""
    recipe = {"model": "emoji", "steps": 30, "n": 2}
    plain = work_of(json.dumps({"recipe": recipe}))
    assert (plain.model, plain.steps) == ("emoji", 30)
    assert work_of(json.dumps({"kind": "recipe", "recipe": {**recipe, "steps": 5}})) == Workload(
        plain.model, plain.size, 5
    )
    guided = {**recipe, "methods": [{"method": "sdedit"}]}
    assert work_of(json.dumps({"recipe": guided})).size != plain.size
    sweep = {"kind": "sweep", "recipe": recipe, "seeds": 2, "over": "cfg.scale=1:3:3",
             "prompts": ["a", "b"]}  # fmt: skip
    assert work_of(json.dumps(sweep)) == Workload(plain.model, plain.size, 180)
    config = {"tuner": "dreambooth", "model": {"start": "emoji"}, "optim": {"steps": 40}}
    training = {"kind": "train", "config": config}
    assert work_of(json.dumps(training)).steps == 40
    assert work_of(json.dumps({**training, "until": 10})).steps == 10
    assert work_of(json.dumps({**training, "run": [{}]})).steps == 0
    rows = {"kind": "eval", "model": "emoji", "styles": ["a"], "scales": [1, 2], "n": 50,
            "dtype": "auto"}  # fmt: skip
    assert work_of(json.dumps(rows)).steps == 100


def test_what_comes_is_what_will_be_taken() -> None:
    """The order that is foretold is the one in which jobs are taken."""
    queue = Queue()
    for number in range(40):
        client, priority = f"client {number * 7 % 3}", number % 5
        queue.add(Entry(f"{number}", number, client, Kind.RECIPE, "begin", None, priority, number))
    queue.take()
    queue.pause("client 1", True)
    foretold = [entry.id for entry in queue.coming()]
    taken = []
    while (entry := queue.take()) is not None:
        taken.append(entry.id)
    assert foretold == taken
