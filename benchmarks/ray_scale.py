"""Claim: an actor costs a task a few milliseconds more than a process of this machine does.

Two nodes of Ray on this machine; the same Work once in a local runner and once in an actor, in
turn. Then what a server can take: its jobs and events a second. Means with 95 % intervals.
`python benchmarks/ray_scale.py [servers starts overheads ends throughputs]`; needs the extra
`ray`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.clusters import LARGE, Bulky, add_node, cluster, joined
from helpers.served import (
    StubRunner,
    StubWork,
    client_of,
    recipe_job,
    served,
    submitted,
    task_of,
    until_ended,
)
from sfumato.metrics.kernel import mean
from sfumato.server.events import Sent
from sfumato.server.hub import Hub
from sfumato.server.runner.library import Offer
from sfumato.server.runner.process import ProcessRunner
from sfumato.server.runner.protocol import RunnerLostError, Stepped, Task
from sfumato.server.scale.fleet import Fleet
from sfumato.server.scale.pool import Pool
from sfumato.server.scale.runner import RayRunner
from sfumato.server.scale.runners import runners

MODEL = {"steps": 10, "stages": 1}
clock = time.perf_counter


def say(what: str, values: Sequence[float], unit: str) -> None:
    print(f"{what:58} {mean(torch.tensor(values))} {unit} (n = {len(values)})", flush=True)


@asynccontextmanager
async def begun(runner: Any) -> AsyncIterator[Any]:
    await runner.start()
    try:
        yield runner
    finally:
        await runner.close()


async def took(runner: Any, task: Task) -> float:
    began = clock()
    async for _ in runner.run(task):
        pass
    return clock() - began


async def starts(fleet: Fleet) -> None:
    model = Offer({"emoji": "emoji"}, "cpu")
    for name, make, repeats in (
        ("a Work that does nothing", StubWork(), 5),
        ("the bundled model", model, 3),
    ):
        fleet.versions.clear()  # a stub's are its own
        for kind in ("process", "actor"):
            times = []
            for _ in range(repeats):
                one = ProcessRunner("p", make) if kind == "process" else RayRunner("a", fleet, make)
                began = clock()
                async with begun(one):
                    times.append(clock() - began)
            say(f"start: {kind}, {name}", times, "s")


async def overheads(fleet: Fleet) -> None:
    for name, work, tasks, per in (
        ("a task of 3 steps", StubWork(), [task_of(k) for k in range(101)], 1),
        ("an event", StubWork(), [task_of(k, steps=500) for k in range(9)], 500),
        ("a task that makes 2 MiB", Bulky(), [task_of(k) for k in range(31)], 1),
    ):
        async with (
            begun(ProcessRunner("p", work)) as here,
            begun(RayRunner("a", fleet, work)) as there,
        ):
            pairs = [(await took(here, task), await took(there, task)) for task in tasks][1:]
        say(f"{name}: process", [1000 * p / per for p, _ in pairs], "ms")
        say(f"{name}: actor", [1000 * a / per for _, a in pairs], "ms")
        say(f"{name}: actor less process", [1000 * (a - p) / per for p, a in pairs], "ms")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a"
        file.write_bytes(os.urandom(LARGE))
        async with begun(RayRunner("a", fleet, StubWork())) as there:
            times = []
            for k in range(31):
                name = {f"{k:064x}": file}
                new = await took(there, task_of(k, inputs=name))
                times.append(1000 * (new - await took(there, task_of(k, inputs=name))))
        say("an input of 2 MiB that the node has not", times[1:], "ms")
    async with begun(RayRunner("a", fleet, StubWork())) as there:
        loads = []
        for k in range(9):
            began = time.process_time()
            await took(there, task_of(k, steps=500))
            loads.append(1000 * (time.process_time() - began) / 500)
        say("an event: CPU of the server's process", loads[1:], "ms")


async def ends(fleet: Fleet, nodes: Any) -> None:
    cancels, deaths, moved = [], [], []
    async with begun(RayRunner("a", fleet, StubWork(0.1))) as one:
        for k in range(12):
            began = 0.0
            async for happening in one.run(task_of(k, steps=100)):
                if isinstance(happening, Stepped) and not began:
                    began = clock()
                    one.cancel(task_of(k).id)
            cancels.append(1000 * (clock() - began))
    say("cancel to Stopped, in a call of 100 ms", cancels, "ms")
    for _ in range(4):
        deaths.append(await death(fleet, lambda one: os.kill(one.pid, signal.SIGKILL)))
    say("actor killed -9 to RunnerLostError, at work", deaths, "s")
    for _ in range(3):
        extra = add_node(nodes)  # sets signal handlers, so here
        others = [place.id for place in fleet.places() if place.id != extra.node_id]
        fleet.refused |= {id: (time.monotonic(), "held") for id in others}
        remove = partial(nodes.remove_node, extra, allow_graceful=False)
        moved.append(await death(fleet, lambda _, remove=remove: remove()))
        fleet.refused.clear()
    say("node killed -9 to RunnerLostError, at work", moved, "s")


async def death(fleet: Fleet, strike: Callable[[Any], None]) -> float:
    """Seconds from the blow until it is noticed."""
    one = RayRunner("a", fleet, StubWork(0.05))
    await one.start()
    began = 0.0
    try:
        async for happening in one.run(task_of(1, steps=1000)):
            if isinstance(happening, Stepped) and happening.i == 2:
                began = clock()
                strike(one)
    except RunnerLostError:
        return clock() - began
    finally:
        await one.close()
    raise SystemExit("it was not lost")


def throughputs(fleet: Fleet) -> None:
    """Tasks a second, of sleeps (which share no cores) and of the bundled model (which do)."""
    model = Offer({"emoji": "emoji"}, "cpu")
    for name, make, count, options in (
        ("tasks of 0.2 s asleep", StubWork(0.04), 60, {}),
        ("pictures of the bundled model", model, 16, MODEL),
    ):
        fleet.versions.clear()
        for kind, some in (
            ("process", [ProcessRunner("p", make)]),
            ("1 actor", runners(fleet, make)[:1]),
            ("2 actors", runners(fleet, make)),
        ):
            with Pool(some) as pool:
                ready = [pool.submit(task_of(k, **options)) for k in range(2 * len(some))]
                [one.result(120) for one in ready]
                while not all(one.alive for one in some):
                    time.sleep(0.05)
                rates = []
                for _ in range(4):
                    began = clock()
                    futures = [pool.submit(task_of(k, **options)) for k in range(count // 4)]
                    [one.result(120) for one in futures]
                    rates.append(len(futures) / (clock() - began))
            say(f"{name}: {kind}", rates, "a second")


async def servers() -> None:
    """What one server takes: jobs of runners that take no time, and events to listeners."""
    for count in (1, 16, 64):
        rates, loads = [], []
        for _ in range(3):
            with tempfile.TemporaryDirectory() as folder:
                some = [StubRunner(f"r{k}") for k in range(count)]
                async with served(Path(folder), *some) as service, client_of(service) as client:
                    began, spent = clock(), time.process_time()
                    rows = [recipe_job(seed) for seed in range(500)]
                    id = await submitted(client, {"kind": "batch", "rows": rows})
                    await until_ended(client, id, 120)
                    rates.append(500 / (clock() - began))
                    loads.append(1000 * (time.process_time() - spent) / 500)
        say(f"server: jobs of one picture and 3 steps, {count} runners", rates, "a second")
        say(f"server: CPU of such a job, {count} runners", loads, "ms")
    for count in (1, 200):
        hub, rates = Hub(), []
        for _ in range(count):
            hub.listen("local", None)
        for _ in range(8):
            began = clock()
            for _ in range(500):
                hub.publish(Sent(None, "a" * 20, None, "local", "step", "x" * 300))
            rates.append(500 / (clock() - began))
        say(f"hub: steps told to {count} listeners", rates, "a second")


def main() -> None:
    parts = sys.argv[1:] or ["servers", "starts", "overheads", "ends", "throughputs"]
    print("load of the machine before:", *(f"{one:.1f}" for one in os.getloadavg()))
    if "servers" in parts:
        asyncio.run(servers())
    if parts == ["servers"]:
        return
    began = clock()
    with cluster(2) as nodes:
        print(f"cluster of 2 nodes and a head: {clock() - began:.1f} s")
        with joined(nodes) as fleet:
            if "starts" in parts:
                asyncio.run(starts(fleet))
            if "overheads" in parts:
                asyncio.run(overheads(fleet))
            if "ends" in parts:
                asyncio.run(ends(fleet, nodes))
            if "throughputs" in parts:
                throughputs(fleet)


if __name__ == "__main__":
    main()
