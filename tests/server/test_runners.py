"""Runners: how one is cancelled and replaced, whose turn it is, what is said of time and memory."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import torch
from PIL import Image

from helpers.served import (
    LoudWork,
    StubRunner,
    StubWork,
    client_of,
    in_loop,
    recipe_job,
    served,
    submitted,
    task_of,
    until_ended,
)
from sfumato.core.errors import SfumatoError
from sfumato.recipe import Recipe
from sfumato.server.jobs import Kind
from sfumato.server.logs import JsonLines
from sfumato.server.queue import Entry, Queue
from sfumato.server.requests import Row
from sfumato.server.runner import picturing, replaying, work
from sfumato.server.runner.library import Offer
from sfumato.server.runner.pace import Pace
from sfumato.server.runner.process import ProcessRunner
from sfumato.server.runner.protocol import Failed, Finished, Happening, Made, Stepped, Stopped


@in_loop
async def test_a_process_stops_within_a_call_and_does_the_next(tmp_path: Path) -> None:
    """It is stopped in a sleep that stands for a network call, and stays alive."""
    runner = ProcessRunner("stub", StubWork(0.5))
    await runner.start()
    told: list[Happening] = []
    loop = asyncio.get_running_loop()
    began = 0.0
    async for happening in runner.run(task_of(1, steps=100)):
        told.append(happening)
        if isinstance(happening, Stepped) and not began:
            began = loop.time()
            runner.cancel("0" * 20)  # another one's id changes nothing
            runner.cancel(task_of(1).id)
    assert isinstance(told[-1], Stopped)
    assert loop.time() - began < 0.5
    process = runner.process
    runner.make = StubWork(0)
    assert isinstance([h async for h in runner.run(task_of(2, steps=1))][-1], Finished)
    assert runner.process is process
    await runner.close()
    assert not runner.alive


@in_loop
async def test_a_process_that_has_grown_is_replaced(tmp_path: Path) -> None:
    """Before its next task, so that no task meets a machine without memory."""
    runner = ProcessRunner("stub", StubWork(), grown=-(1 << 60))
    await runner.start()
    processes = []
    for seed in range(3):
        assert isinstance([h async for h in runner.run(task_of(seed))][-1], Finished)
        processes.append(runner.process.pid)
    assert len(set(processes)) == 3
    assert await runner.plan("{}", {}) == {"calls": 3, "seconds": 0.3}
    await runner.close()


@in_loop
async def test_a_runner_that_cannot_begin_says_why(tmp_path: Path) -> None:
    """In one line, before the server listens."""
    runner = ProcessRunner("cpu", Offer({"x": str(tmp_path / "none")}, "cpu"))
    with pytest.raises(SfumatoError, match=r"runner cpu: model .*none.*: not one of"):
        async with served(tmp_path / "f", runner):
            pass


@in_loop
async def test_what_a_runner_writes_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Line by line, whoever writes it, with the ids of job and request; as JSON."""
    runner = ProcessRunner("loud", LoudWork())
    await runner.start()
    task = replace(task_of(1), asked_by="r" * 16)
    with caplog.at_level(logging.INFO, "sfumato.server.runner"):
        assert [happening async for happening in runner.run(task)] == [Finished()]
        async with asyncio.timeout(50):
            while not any("from a warning" in line for line in caplog.messages):
                await asyncio.sleep(0.01)
    await runner.close()
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    wanted = ("a library of C", "a print", "a logger", "a warning")
    found = [next(line for line in lines if f"from {what}" in line["message"]) for what in wanted]
    for line in found:
        assert line["logger"] == "sfumato.server.runner"
        assert (line["job"], line["request"], line["runner"]) == (task.id, "r" * 16, "loud")
        assert line["level"] == "warning"
    assert [line["source"] for line in found] == ["stderr", "stderr", "somebody", "py.warnings"]


def test_clients_take_turns() -> None:
    """One client's thousand jobs keep no other from its one; priority and age are its own."""
    queue = Queue()
    for number, (client, priority) in enumerate(
        [("a", 0), ("a", 0), ("a", 0), ("a", 1), ("b", 0), ("b", 0), ("c", -5)]
    ):
        entry = Entry(str(number), number, client, Kind.RECIPE, "begin", None, priority, number)
        queue.add(entry)
    ahead = {id: queue.ahead(entry) for id, entry in queue.open.items()}
    order = []
    while (entry := queue.take()) is not None:
        order.append(entry.id)
    assert order == ["3", "4", "6", "0", "5", "1", "2"]
    assert ahead["3"] <= 2
    assert ahead["2"] == 6


def test_the_eta_is_of_calls_weighed_by_what_they_take() -> None:
    """Nothing before two calls; stages count by their share; what was known before counts."""
    times: Iterator[float] = iter([0.0, 5.0, 6.0, 7.0, 9.0])
    pace = Pace([3, 1], [1.0, 2.0], clock=lambda: next(times))
    lefts = []
    for stage, calls in ((0, 1), (0, 2), (0, 3), (1, 1)):
        pace.step(stage, calls)
        lefts.append(pace.left)
    assert pace.total == 5
    assert lefts[0] is None
    assert lefts[1] is not None
    assert lefts[3] == 0
    assert pace.seconds == 1.0  # the first call warmed up
    known = Pace([4], [1.0], before=2.0, clock=lambda: 0.0)
    assert known.left == 8.0


def test_what_a_call_took_is_known_the_next_time(tmp_path: Path) -> None:
    """By model, size and device: the second job of a kind has an ETA at once."""

    @in_loop
    async def go() -> None:
        runner = StubRunner()
        async with served(tmp_path, runner) as service, client_of(service) as client:
            for seed in (1, 2):
                await until_ended(client, await submitted(client, recipe_job(seed)))
            await until_ended(client, await submitted(client, recipe_job(3, n=2)))
            assert [task.pace for task in runner.tasks] == [None, 0.1, None]

    go()


@pytest.fixture(scope="module")
def library() -> Any:
    return Offer({"emoji": "emoji"}, "cpu")()


def recipes(told: list[Happening]) -> list[str]:
    """What the pictures say of themselves."""
    made = [happening.data for happening in told if isinstance(happening, Made)]
    return [Image.open(io.BytesIO(data)).info["sfumato"] for data in made]


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate …")]
)
def test_out_of_memory_is_half_the_batch_once(
    library: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The same pictures in smaller calls; where that fails too, advice in a line."""
    rows: list[int | None] = []
    limit = [2]
    replay = replaying.replayed(
        Row(recipe=Recipe.from_data(recipe_job(n=2, steps=1, stages=1)["recipe"])), {},
        library.warm,
    )  # fmt: skip
    plain = type(replay).sample

    def sample(self: Any, progress: Any = None) -> Any:
        rows.append(self.process.rows_max)
        if self.process.rows_max is None or self.process.rows_max > limit[0]:
            raise error
        return plain(self, progress)

    monkeypatch.setattr(type(replay), "sample", sample)
    told: list[Happening] = []
    library.perform(task_of(3, "red apple", n=2, steps=1, stages=1), told.append)
    assert isinstance(told[-1], Finished), told[-1]
    assert rows == [None, 2]  # two pictures with and without the prompt are four
    halved = recipes(told)
    monkeypatch.setattr(type(replay), "sample", plain)
    told.clear()
    library.perform(task_of(3, "red apple", n=2, steps=1, stages=1), told.append)
    assert recipes(told) == halved
    assert len(halved) == 2
    monkeypatch.setattr(type(replay), "sample", sample)
    limit[0] = 0
    told.clear()
    library.perform(task_of(3, "red apple", n=2, steps=1, stages=1), told.append)
    assert isinstance(told[-1], Failed)
    assert "smaller --size or -n" in told[-1].line


def test_a_bug_in_a_task_is_its_own(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for the client, the trace for the log."""

    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(work, "pictures", broken)
    told: list[Happening] = []
    library.perform(task_of(), told.append)
    assert isinstance(told[-1], Failed)
    assert told[-1].line == "internal error: ZeroDivisionError: oops"
    assert "Traceback" in told[-1].trace


def test_only_what_is_offered_is_opened(library: Any, tmp_path: Path) -> None:
    """A runner looks itself, too, whatever the server let through."""
    told: list[Happening] = []
    library.perform(task_of(model="other"), told.append)
    assert isinstance(told[-1], Failed)
    assert "not offered by this server" in told[-1].line


def test_previews_are_sparing(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that is slow is asked seldom, and never at the start."""
    shown = []

    class Step:
        i, transitions, stage, calls = 0, 9, 0, 1

        def preview(self) -> Any:
            shown.append(clock[0])
            clock[0] += 1.0
            return Picture()

    class Picture:
        size = (4, 4)

        def convert(self, mode: str) -> Any:
            return self

        def tobytes(self) -> bytes:
            return bytes(48)

    clock = [100.0]
    monkeypatch.setattr(picturing.time, "monotonic", lambda: clock[0])
    told: list[Any] = []
    watch = picturing.Watch(Pace([9], [1.0], clock=lambda: clock[0]), told.append)
    for _ in range(50):
        watch(Step())
        clock[0] += 1.0
    assert len(shown) in (2, 3)
    assert sum(step.preview is not None for step in told) == len(shown)
