"""Scale, as far as it needs no cluster: nodes, places, and the pool that pulls."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")

from helpers.program import fails
from helpers.served import (
    READY,
    StubRunner,
    StubWork,
    client_of,
    in_loop,
    picture,
    recipe_job,
    served,
    submitted,
    task_of,
    until_ended,
)
from sfumato.core.errors import SfumatoError
from sfumato.server.runner.protocol import (
    Finished,
    Happening,
    Made,
    Ready,
    RunnerLostError,
    Stepped,
    Stopped,
    Task,
)
from sfumato.server.scale.fleet import Fleet, connected
from sfumato.server.scale.node import Node, Refusal, packed
from sfumato.server.scale.pool import Pool


@pytest.fixture
def main_file() -> Any:
    """A node takes away what its process would run again; here that is pytest's."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    yield
    if file is not None:
        main.__file__ = file


@in_loop
async def test_a_node_does_tasks_with_the_files_it_was_sent(main_file: None) -> None:
    """What the last task had is not sent again; what no task has goes; each task is whole."""
    node = Node("stub", StubWork())
    assert isinstance(await node.start(), Ready)
    folder = Path(node.folder.name)
    sources = {name: folder.parent / f"{folder.name}-{name}" for name in "ab"}
    for name, path in sources.items():
        path.write_bytes(name.encode())
    first = packed(task_of(1, inputs=sources), frozenset())
    second = packed(task_of(2, inputs={"b": sources["b"]}), frozenset(first.inputs))
    assert first.inputs == {"a": b"a", "b": b"b"}
    assert second.inputs == {"b": None}
    for seed, parcel in ((1, first), (2, second)):
        told = [h async for some in node.run(parcel) for h in some]
        made = [h.data for h in told if isinstance(h, Made)]
        assert made == [picture(seed)]
        assert isinstance(told[-1], Finished)
    assert [file.name for file in folder.iterdir()] == ["b"]
    assert await node.plan("{}", {"a": b"a"}) == {"calls": 3, "seconds": 0.3}
    for path in sources.values():
        path.unlink()
    await node.close()
    assert not folder.exists()


@in_loop
async def test_a_node_stops_what_is_at_work_or_on_its_way(main_file: None) -> None:
    node = Node("stub", StubWork(0.2))
    await node.start()
    await node.cancel(task_of(1).id)
    assert [h async for some in node.run(packed(task_of(1), frozenset())) for h in some] == [
        Stopped()
    ]
    told: list[Happening] = []
    async for some in node.run(packed(task_of(2, steps=100), frozenset())):
        told += some
        if isinstance(told[-1], Stepped):
            await node.cancel(task_of(2).id)
    assert isinstance(told[-1], Stopped)
    assert len(told) < 5
    await node.close()


@in_loop
async def test_a_node_of_many_says_less_often_but_its_end_at_once(main_file: None) -> None:
    """Of the steps meanwhile the last one, and of the rest everything."""
    node = Node("stub", StubWork(0.01), gather=0.3)
    await node.start()
    loop = asyncio.get_running_loop()
    began = loop.time()
    some = [told async for told in node.run(packed(task_of(1, steps=100, n=2), frozenset()))]
    assert loop.time() - began < 1.02 + 0.3 + 3
    steps = [h.i for told in some for h in told if isinstance(h, Stepped)]
    assert steps == sorted(steps)
    assert steps[-1] == 100
    assert len(steps) <= len(some)
    kinds = [type(h) for told in some for h in told if not isinstance(h, Stepped)]
    assert kinds == [Made, Made, Finished]
    node.gather = 60.0
    began = loop.time()
    assert [told async for told in node.run(packed(task_of(2), frozenset()))]
    assert loop.time() - began < 10
    await node.close()


@in_loop
async def test_a_node_that_cannot_begin_says_why(main_file: None, tmp_path: Path) -> None:
    from sfumato.server.runner.library import Offer

    node = Node("n", Offer({"x": str(tmp_path / "none")}, "cpu"))
    answer = await node.start()
    assert isinstance(answer, Refusal)
    assert "model" in answer.line
    assert "not one of" in answer.line
    await node.close()


def nodes(*of: tuple[str, bool, dict[str, float]]) -> Any:
    """A stand-in for ray that has these nodes."""
    made = [
        {"NodeID": id, "NodeManagerAddress": id, "Alive": alive, "Resources": resources}
        for id, alive, resources in of
    ]
    return SimpleNamespace(nodes=lambda: made)


@in_loop
async def test_places_are_gpus_and_else_nodes() -> None:
    """A node of a cluster with GPUs that has none itself, a dead one and a full one get nothing."""
    fleet = Fleet(nodes(
        ("a", True, {"GPU": 2, "CPU": 8}), ("b", True, {"CPU": 8}), ("c", False, {"GPU": 4}),
        ("d", True, {"GPU": 1}),
    ))  # fmt: skip
    assert [p.id for p in fleet.places()] == ["a", "a", "d"]
    taken = [await fleet.take() for _ in range(3)]
    assert sorted(p.id for p in taken) == ["a", "a", "d"]
    assert taken[0].asks == {"num_gpus": 1, "num_cpus": 0}
    with pytest.raises(RunnerLostError, match="no node of the cluster has room"):
        await fleet.take()
    fleet.release(taken[0])
    fleet.refuse(taken[0], "model x: is not there")
    with pytest.raises(RunnerLostError, match=r"node a \(a\): model x: is not there"):
        await fleet.take()
    processors = Fleet(nodes(("a", True, {"CPU": 0}), ("b", True, {"CPU": 8})))
    assert [(p.id, p.asks["num_cpus"]) for p in processors.places()] == [("b", 0.5)]


def test_nodes_must_have_the_same_weights_and_versions() -> None:
    """The first one says what is right, where the caller does not."""

    def ready(sha256: str, version: str = "1") -> Ready:
        return Ready("cpu", "float32", READY.models, {"sfumato": version}, {"sd": sha256})

    fleet = Fleet(None, weights={"sd": "a" * 64})
    assert fleet.objection(ready("a" * 64)) is None
    objection = fleet.objection(ready("b" * 64)) or ""
    assert objection.startswith("model sd: its weights are bbbbbbbbbbbb…, of the others aaaaaaaaaa")
    assert "has sfumato 2, others 1" in (fleet.objection(ready("a" * 64, "2")) or "")
    open_to_all = Fleet(None)
    assert open_to_all.objection(ready("b" * 64)) is None
    assert open_to_all.objection(ready("a" * 64)) is not None


def test_the_address_of_a_cluster_is_refused_in_a_line(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is waited for or begun."""
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    for address, says in (
        ("ray://host:1", "a node of"), ("x", "write HOST:PORT"), ("h:x", "write HOST:PORT"),
        ("127.0.0.1:1", "nobody answers there"), ("127.0.0.1:99999", "nobody answers there"),
    ):  # fmt: skip
        with pytest.raises(SfumatoError, match=says):
            connected(address)
    line = fails(app, 1, "serve", "--ray", "127.0.0.1:1", "--device", "cpu")
    assert "--device: goes without --ray" in line


def test_without_ray_it_is_said_how_to_get_it(
    app: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    Path("rows.txt").write_text("red apple\n")
    for words in (["serve"], ["batch", "generate", "rows.txt"]):
        assert "pip install 'sfumato[ray]'" in fails(app, 1, *words, "--ray", "127.0.0.1:1")


def test_a_pool_does_every_task_once_whatever_dies() -> None:
    """Runners that die in the middle begin again, and their tasks elsewhere; failures are told."""
    runners = [StubRunner(f"r{k}", dies=k) for k in range(3)]
    with Pool(runners) as pool:
        futures = [pool.submit(task_of(seed)) for seed in range(60)]
        bad = pool.submit(task_of(99, "fail"))
        for seed, future in enumerate(futures):
            made, _ = future.result(20)
            assert [one.data for one in made] == [picture(seed)]
        with pytest.raises(SfumatoError, match="cannot draw that"):
            bad.result(20)
    assert all(runner.tasks for runner in runners)
    assert [runner.dies for runner in runners] == [0, 0, 0]


def test_a_pool_gives_a_task_up_that_loses_three_runners() -> None:
    with Pool([StubRunner(dies=3)]) as pool:
        bad, good = pool.submit(task_of(1)), pool.submit(task_of(2))
        with pytest.raises(SfumatoError, match="its runner was lost 3 times"):
            bad.result(20)
        assert good.result(20)


class Absent(StubRunner):
    async def start(self) -> Ready:
        raise RunnerLostError("runner r: node a: model x: is not there")


def test_a_pool_without_any_runner_says_so() -> None:
    """A watchdog: nothing is waited for without end."""
    with Pool([Absent()], deserted=0.1) as pool, pytest.raises(SfumatoError, match="model x"):
        pool.submit(task_of(1)).result(20)


@in_loop
async def test_a_server_begins_with_the_runners_that_are_there(tmp_path: Path) -> None:
    """Those that are not there now are tried again; with none it does not begin."""
    with pytest.raises(SfumatoError, match="node a: model x"):
        async with served(tmp_path / "a", Absent("r")):
            pass
    there = StubRunner("there")
    async with (
        served(tmp_path / "b", Absent("away"), there) as service,
        client_of(service) as client,
    ):
        job = await until_ended(client, await submitted(client, recipe_job(1)))
        assert job["state"] == "done"


class Dying(StubRunner):
    """Dies three times while it waits for work."""

    async def run(self, task: Task) -> AsyncIterator[Happening]:
        assert self.alive
        async for happening in super().run(task):
            yield happening


@in_loop
async def test_a_runner_that_dies_idle_costs_no_job_a_try(tmp_path: Path) -> None:
    runner = Dying()
    async with served(tmp_path, runner) as service, client_of(service) as client:
        for seed in range(3):
            await asyncio.sleep(0.02)
            runner.alive = False
            job = await until_ended(client, await submitted(client, recipe_job(seed)))
            assert (job["state"], job["attempt"]) == ("done", 1)
        assert runner.starts == 4
