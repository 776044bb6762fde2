"""Ray: the runner as an actor, on nodes that are processes of this machine. `make ray`."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi")

from helpers.clusters import NodeWork, add_node, cluster, joined
from helpers.program import STROKES, call, home
from helpers.served import StubWork, client_of, picture, recipe_job, served, submitted, task_of
from sfumato.core.errors import SfumatoError
from sfumato.server.runner.library import Offer
from sfumato.server.runner.protocol import Finished, Happening, RunnerLostError, Stepped, Stopped
from sfumato.server.scale import runner as scale_runner
from sfumato.server.scale.runners import runners

__all__ = ["home"]  # a fixture

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    if find_spec("ray") is None:  # it is imported later, as it reads the environment then
        pytest.skip("the extra ray is not installed; `make ray` installs and tests it")
    with cluster(2) as made:
        yield made


async def within(seconds: float, body: Any) -> None:
    await asyncio.wait_for(body, seconds)


def test_an_actor_does_tasks_stops_within_a_call_and_dies_aloud(nodes: Any) -> None:
    """Events come in order; a sleep stands for a network call; a death is seen when idle too."""

    async def body(fleet: Any) -> None:
        one, two = runners(fleet, StubWork(0.5))
        await asyncio.gather(one.start(), two.start())
        assert one.place != two.place
        told: list[Happening] = [h async for h in one.run(task_of(1, steps=2))]
        assert [h.i for h in told if isinstance(h, Stepped)] == [1, 2]
        assert isinstance(told[-1], Finished)
        loop = asyncio.get_running_loop()
        began = 0.0
        async for happening in one.run(task_of(2, steps=100)):
            if isinstance(happening, Stepped) and not began:
                began = loop.time()
                one.cancel(task_of(1).id)  # another's id changes nothing
                one.cancel(task_of(2).id)
        assert isinstance(happening, Stopped)
        assert loop.time() - began < 0.5
        os.kill(one.pid, signal.SIGKILL)
        began = loop.time()
        while one.alive:
            await asyncio.sleep(0.01)
        assert loop.time() - began < 5
        assert await two.plan("{}", {}) == {"calls": 3, "seconds": 0.3}
        with pytest.raises(RunnerLostError):
            await struck(two, signal.SIGKILL)
        await one.start()
        assert isinstance([h async for h in one.run(task_of(4, steps=1))][-1], Finished)
        await asyncio.gather(one.close(), two.close())

    with joined(nodes) as fleet:
        asyncio.run(within(90, body(fleet)))
        assert not any(fleet.taken.values())


async def struck(runner: Any, number: signal.Signals) -> None:
    """A task whose actor gets a signal after its first step."""
    async for happening in runner.run(task_of(3, steps=100)):
        if isinstance(happening, Stepped) and happening.i == 1:
            os.kill(runner.pid, number)


def test_a_node_that_hangs_is_lost(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog: it says nothing, though it does not die."""
    monkeypatch.setattr(scale_runner, "SILENT", 7.0)

    async def body(fleet: Any) -> None:
        one, _ = runners(fleet, StubWork(1.0))
        await one.start()
        pid = one.pid
        with pytest.raises(RunnerLostError, match="silent for 7 s"):
            await struck(one, signal.SIGSTOP)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        assert await one.start()
        assert one.pid != pid
        await one.close()

    with joined(nodes) as fleet:
        asyncio.run(within(90, body(fleet)))


def test_nodes_without_the_model_or_with_another_are_refused_by_name(nodes: Any) -> None:
    """The others do the jobs; where none is left the server does not begin, and says why."""
    extra = [add_node(nodes, WEIGHTS=weights) for weights in ("", "b" * 64)]
    try:

        async def body(fleet: Any, folder: Path) -> None:
            fleet.weights["emoji"] = "a" * 64
            four = runners(fleet, NodeWork())
            assert len(four) == 4
            begun = await asyncio.gather(*(r.start() for r in four), return_exceptions=True)
            lost = [str(one) for one in begun if isinstance(one, RunnerLostError)]
            assert len(lost) == 2
            assert any("model emoji: not one of" in line for line in lost)
            assert any("model emoji: its weights are bbbbbbbbbbbb…" in line for line in lost)
            refused = {place.node_id for place in extra}
            assert set(fleet.refused) == refused
            await asyncio.gather(*(r.close() for r in four))
            fleet.weights["emoji"] = "c" * 64
            with pytest.raises(SfumatoError, match=r"node .*: model emoji: its weights are"):
                async with served(folder, *four):
                    pass

        with joined(nodes) as fleet:
            asyncio.run(within(120, body(fleet, Path.cwd() / "server")))
    finally:
        for node in extra:
            nodes.remove_node(node)


def alone(app: Any, *words: str) -> Any:
    """The program as in a process of its own, at whose end Ray is left."""
    import ray

    result = call(app, *words)
    ray.shutdown()
    return result


def test_a_batch_is_the_one_that_is_made_here(nodes: Any, app: Any) -> None:
    """Files byte for byte, of pictures that the nodes get as bytes, PNG and others."""
    strokes = sorted(STROKES.glob("*.png"))[:2]
    rows = "".join(f"{stroke},{k}\n" for k, stroke in enumerate(strokes))
    Path("rows.csv").write_text(f"image,seed\n{rows}missing.png,3\n")
    words = ["batch", "sdedit", "rows.csv", "-p", "red apple", "--steps", "2", "--stages", "1"]
    for kind in ("png", "jpg"):
        files = {}
        for place, more in (("here", []), ("there", ["--ray", nodes.address])):
            result = alone(app, *words, "-o", f"{place}/{{row}}.{kind}", *more)
            assert result.exit_code == 1, result.output
            assert "2 made, 0 there already, 1 failed" in result.stderr
            files[place] = {p.name: p.read_bytes() for p in Path(place).glob(f"*.{kind}")}
            assert len(files[place]) == 2
        assert files["here"] == files["there"]
    again = alone(app, *words, "-o", "there/{row}.png", "--ray", nodes.address)
    assert "0 made, 2 there already, 1 failed" in again.stderr


def test_the_program_serves_from_a_cluster(nodes: Any, tmp_path: Path) -> None:
    """From its start to SIGTERM; with a token that is not the cluster's it says so in a line."""
    words = [sys.executable, "-m", "sfumato", "serve", "--ray", nodes.address, "--port", "0"]
    words += ["--folder", str(tmp_path / "server")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        try:
            assert it.stdout is not None
            url = it.stdout.readline().strip()
            assert url.startswith("http://"), it.stderr.read() if it.stderr else ""
            with httpx.Client(base_url=url, timeout=20) as client:
                job = client.post("/v1/jobs", json=recipe_job(1, steps=2, stages=1)).json()
                end = time.monotonic() + 60
                while job["state"] in ("queued", "running") and time.monotonic() < end:
                    time.sleep(0.1)
                    job = client.get(f"/v1/jobs/{job['id']}").json()
                assert job["state"] == "done", job
            it.send_signal(signal.SIGTERM)
            assert it.wait(30) == 0
        finally:
            it.kill()
    wrong = {**os.environ, "RAY_AUTH_TOKEN": "w" * 40}
    done = subprocess.run(words, env=wrong, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 1
    assert "RAY_AUTH_TOKEN_PATH" in done.stderr.strip().splitlines()[-1]
    assert done.stdout == ""


@pytest.mark.slow
def test_a_thousand_pictures_whatever_dies(nodes: Any, tmp_path: Path) -> None:
    """An actor is killed, then its node: every picture is there once, its bits as they must be."""
    count, rng = 1000, random.Random(0)
    doomed = add_node(nodes)

    async def body(fleet: Any) -> None:
        three = runners(fleet, StubWork(0.02))
        assert len(three) == 3
        async with served(tmp_path, *three) as service, client_of(service) as client:
            rows = [recipe_job(seed, steps=1) for seed in range(count)]
            id = await submitted(client, {"kind": "batch", "rows": rows})
            await progress(client, id, count * rng.uniform(0.1, 0.3))
            victim = next(r for r in three if r.place and r.place.id == doomed.node_id)
            os.kill(next(r for r in three if r is not victim).pid, signal.SIGKILL)
            await progress(client, id, count * rng.uniform(0.4, 0.6))
            nodes.remove_node(doomed, allow_graceful=False)
            job = await progress(client, id)
            assert job["state"] == "done"
            children = await all_children(client, id)
            assert len(children) == count
            assert {child["state"] for child in children} == {"done"}
            assert max(child["attempt"] for child in children) == 2
            for seed, child in enumerate(children):
                (file,) = child["results"]
                assert file["sha256"] == sha256(picture(seed)).hexdigest()

    with joined(nodes) as fleet:
        asyncio.run(within(400, body(fleet)))


async def progress(client: Any, id: str, done: float = 0) -> Any:
    """The job when so many of its children are done, or it has ended."""
    while True:
        job = (await client.get(f"/v1/jobs/{id}")).json()
        if job["state"] not in ("queued", "running") or job["children"]["done"] >= (done or 1e9):
            return job
        await asyncio.sleep(0.05)


async def all_children(client: Any, id: str) -> list[Any]:
    """In the order of their rows."""
    children: list[Any] = []
    before = None
    while True:
        query = {"parent": id, "limit": 100} | ({} if before is None else {"before": before})
        page = (await client.get("/v1/jobs", params=query)).json()
        children += page["jobs"]
        before = page["next"]
        if before is None:
            return children[::-1]


@pytest.mark.slow
def test_the_bundled_models_pictures_are_the_librarys(nodes: Any, tmp_path: Path) -> None:
    """Made by actors of two nodes for a server, one of which is killed meanwhile."""
    import sfumato as sf

    seeds = range(12)

    async def body(fleet: Any) -> list[Any]:
        actors = runners(fleet, Offer({"emoji": "emoji"}, "cpu"))
        async with served(tmp_path, *actors) as service, client_of(service) as client:
            rows = [recipe_job(seed, steps=3, stages=1) for seed in seeds]
            id = await submitted(client, {"kind": "batch", "rows": rows})
            await progress(client, id, 3)
            os.kill(actors[0].pid, signal.SIGKILL)
            job = await progress(client, id)
            assert job["state"] == "done"
            return [
                (await client.get(f"/v1/jobs/{child['id']}/files/1.png")).content
                for child in await all_children(client, id)
            ]

    with joined(nodes) as fleet:
        fleet.versions["sfumato"] = sf.__version__
        made = asyncio.run(asyncio.wait_for(body(fleet), 300))
    for seed, data in zip(seeds, made, strict=True):
        recipe = recipe_job(seed, steps=3, stages=1)["recipe"]
        (image,) = sf.run(sf.Recipe.from_data(recipe)).images
        assert image.encode("PNG") == data
