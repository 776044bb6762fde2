"""Streams of events: who is slow, who is gone, what is kept, what memory holds."""

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
    events_of,
    in_loop,
    listening,
    recipe_job,
    served,
    submitted,
    until_ended,
)
from sfumato.server import hub as hubs
from sfumato.server.api.stream import EventStream
from sfumato.server.events import Sent
from sfumato.server.hub import Hub
from sfumato.server.runner.protocol import Finished, Happening, Stepped, Task


def kept(number: int, event: str = "note", job: str = "a") -> Sent:
    return Sent(number, job, None, "me", event, "{}")


def step(i: int, job: str = "a") -> Sent:
    return Sent(None, job, None, "me", "step", json.dumps({"i": i}))


@in_loop
async def test_of_steps_only_the_newest_waits() -> None:
    """And none after what ends its job."""
    hub = Hub()
    listener = hub.listen("me", None)
    hub.publish(kept(1), step(1), step(2), step(7, "b"), step(3))
    taken = [(sent.number, sent.data) for sent in await listener.take()]
    assert taken == [(1, "{}"), (None, '{"i": 3}'), (None, '{"i": 7}')]
    hub.publish(step(4), kept(2, "done"))
    assert [sent.event for sent in await listener.take()] == ["done"]
    assert [sent.job for sent in hub.newest("me", None)] == ["b"]
    assert not listener.woken.is_set()
    assert not hub.listen("other", None).hears(kept(3))


@in_loop
async def test_many_listeners_leave_room_between_them() -> None:
    """All are told, by one clock, a few at a time: what else waits has its turn meanwhile."""
    hub = Hub()
    listeners = [hub.listen("me", None) for _ in range(4 * hubs.SLICE)]
    told: list[int] = []

    async def hear(listener: Any) -> None:
        await listener.take()
        told.append(1)

    tasks = [asyncio.create_task(hear(listener)) for listener in listeners]
    await asyncio.sleep(0)
    hub.publish(kept(1), kept(2), step(1))
    seen = []
    while len(told) < len(listeners):
        await asyncio.sleep(0)
        seen.append(len(told))
    assert {hubs.SLICE, 2 * hubs.SLICE, 3 * hubs.SLICE} <= set(seen)
    await asyncio.gather(*tasks)


@in_loop
async def test_who_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what waits, and by the time that a write takes; memory is let go."""
    monkeypatch.setattr(hubs, "BEHIND", 10)
    hub = Hub()
    behind = hub.listen("me", None)
    hub.publish(*(kept(k) for k in range(20)))
    assert behind.cut
    assert not behind.waiting
    slow = hub.listen("me", "a")
    stream = EventStream(hub, slow, iter([]), 0, heartbeat=5, patience=0.05)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) > 2:
            await asyncio.sleep(60)

    async def receive() -> Any:
        await asyncio.sleep(60)

    task = asyncio.create_task(stream({"type": "http"}, receive, send))
    await asyncio.sleep(0.01)
    hub.publish(kept(1))
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.shield(task), 0.02)
    while slow in hub.listeners:
        await asyncio.sleep(0.01)
    task.cancel()


@in_loop
async def test_a_listener_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    """Its job goes on, and a silent stream has a heartbeat."""
    runner = StubRunner(hold=asyncio.Event())
    async with (
        served(tmp_path, runner, heartbeat=0.05) as service,
        listening(service) as client,
    ):
        id = await submitted(client, recipe_job())
        async with client.stream("GET", f"/v1/jobs/{id}/events") as stream:
            async for line in stream.aiter_lines():
                if line == ": ping":
                    break
            assert len(service.kept.hub.listeners) == 1
        while service.kept.hub.listeners:
            await asyncio.sleep(0.01)
        runner.hold.set()
        assert (await until_ended(client, id))["state"] == "done"


@in_loop
async def test_who_comes_late_is_told_the_newest_step_with_its_preview(tmp_path: Path) -> None:
    """A reload in mid-run shows where it is; previews are in no table."""
    runner = StubRunner()
    go_on = asyncio.Event()

    def tell(task: Task) -> list[Happening]:
        runner.hold = None
        return [Stepped(1, 2, 0, 1, 2, 3.5, b"webp"), Stepped(2, 2, 0, 2, 2, 0), Finished()]

    runner.tell = tell
    original = runner._wait

    async def wait() -> None:
        await original()
        if service.kept.hub.steps:
            await go_on.wait()

    runner._wait = wait  # type: ignore[method-assign]
    async with served(tmp_path, runner) as service, listening(service) as client:
        id = await submitted(client, recipe_job())
        while not service.kept.hub.steps:
            await asyncio.sleep(0.01)
        job = (await client.get(f"/v1/jobs/{id}")).json()
        assert job["progress"] == {"done": 1, "total": 2, "eta_s": 3.5}
        async for event in events_of(client, f"/v1/jobs/{id}/events"):
            if event["event"] == "step":
                if not go_on.is_set():
                    assert event["preview"] == "data:image/webp;base64,d2VicA=="
                go_on.set()
        assert not service.kept.hub.steps
        rows = service.kept.db.read("SELECT event FROM events")
        assert {row["event"] for row in rows} == {"queued", "started", "done"}


@in_loop
async def test_nothing_stays_in_memory_of_what_has_ended(tmp_path: Path) -> None:
    """Entries, steps and waiting lists are empty after 50 jobs."""
    async with served(tmp_path) as service, client_of(service) as client:
        ids = [await submitted(client, recipe_job(seed)) for seed in range(50)]
        await until_ended(client, ids[-1])
        queue = service.kept.queue
        async with asyncio.timeout(10):  # the table says so first
            while queue.open or service.kept.files.pending:
                await asyncio.sleep(0.01)
        assert not queue.waiting
        assert not service.kept.hub.steps
        assert not service.kept.files.pending
