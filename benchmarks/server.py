"""Claim: the job server loses no job and makes none twice under load, and answers within reach.

200 listeners, 2,000 jobs of a stub runner submitted at 50/s, 50 jobs of the bundled model: every
job done once, its bytes those of the library, memory flat. A submit takes at most 3 times a bare
FastAPI route in the same seconds (p95; aim 50 ms), a step reaches a listener within 50 ms (p95).

Server, runners, bare route, listeners and submits are processes of their own on the loopback.
Submits go out by the clock, and are timed from when they were due; the bare route is asked as
often, a third of a tick later, and then one that brings each body to the disk, as a job has to
be: it says what of the ratio is the disk's. Intervals: 95 %, over blocks of a second.
`python benchmarks/server.py`; --jobs, --listeners and --pictures make it smaller.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

from sfumato.server import serving
from sfumato.server.runner.process import ProcessRunner
from sfumato.server.runner.protocol import (
    Finished,
    Happening,
    Made,
    ModelInfo,
    Ready,
    Runner,
    Stepped,
    Task,
)
from sfumato.server.settings import Address, Limits, Settings
from wire import HOST, Line, Listener

RATE = 50.0  # submits a second
STEPS, PAUSE = 4, 0.01  # of a stub's job; seconds
KINDS = 3  # servers that are asked in turn
LINES = 16  # connections that submit in turn
WARM = 0.25  # part of the jobs after which memory counts as warmed up
FLAT = 1.05  # memory at the end over memory after warming up
RATIO, AIM, WITHIN = 3.0, 0.050, 0.050
PATIENCE = 300.0  # seconds that what was submitted may take to end
RESAMPLES = 2000


def picture(seed: int) -> bytes:
    """A PNG that no other seed has, of a common size."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.frombytes("RGB", (32, 32), random.Random(seed).randbytes(3072)).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Stub:
    """Does tasks without a network: steps that carry the time they were made at, a picture."""

    def __call__(self) -> Stub:
        return self

    def ready(self) -> Ready:
        info = ModelInfo("emoji", "a stub", (32, 32), 8, 256, 8, 30, True, (), {})
        return Ready("cpu", "float32", (info,))

    def perform(self, task: Task, tell: Callable[[Happening], None]) -> None:
        seed = json.loads(task.request)["recipe"]["seed"]
        for i in range(STEPS):
            time.sleep(PAUSE)
            preview = bytes(2000) if i == STEPS - 1 and seed % 5 == 0 else None
            tell(Stepped(i + 1, STEPS, 0, i + 1, STEPS, time.monotonic(), preview))
        tell(Made("1.png", picture(seed), seed))
        tell(Finished(PAUSE))

    def plan(self, request: str, inputs: Mapping[str, Path]) -> dict[str, Any]:
        return {}


# the processes


def serve(folder: str, kind: str) -> None:
    """The server as `sfumato serve` runs it, but for its runners and the limit of its rate."""

    class Stubs(serving.Offered):
        def runners(self) -> list[Runner]:
            return [ProcessRunner(name, Stub()) for name in ("stub:0", "stub:1")]

    offered = Stubs() if kind == "stub" else serving.Offered()
    settings = Settings(Path(folder), limits=Limits(rate=1e6, burst=1_000_000), floor=0, drain=1.0)
    serving.serve(settings, Address(port=0), offered)


def bare(folder: str = "") -> None:
    """A route that does nothing, under the settings of the server's; in a folder: but what a job
    needs at least, its body on the disk."""
    app = FastAPI()
    kept = (Path(folder) / "bodies").open("ab") if folder else None

    def keep(body: bytes) -> None:
        assert kept is not None
        kept.write(body)
        kept.flush()
        os.fsync(kept.fileno())

    @app.post("/v1/jobs", status_code=202)
    async def submit(request: Request) -> dict[str, int]:
        body = await request.body()
        if kept is not None:
            await asyncio.to_thread(keep, body)
        return {"bytes": len(body)}

    address = Address(port=0)
    listening = serving.bound(address)
    print(f"http://{HOST}:{listening.getsockname()[1]}", flush=True)
    config = serving.web_config(app, address, Settings(Path()))
    uvicorn.Server(config).run([listening])


def listen(port: int, count: int) -> None:
    """Listeners of all events, until a line comes in; what they heard, as JSON."""
    print(json.dumps(asyncio.run(_listen(port, count))), flush=True)


async def _listen(port: int, count: int) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    listeners = []
    for _ in range(count):
        _, listener = await loop.create_connection(lambda: Listener(port), HOST, port)
        listeners.append(listener)
    while not all(listener.rest for listener in listeners):
        await asyncio.sleep(0.05)
    print("listening", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    delays = sorted(delay for one in listeners for delay in one.delays)
    return {
        "cut": sum(one.cut for one in listeners),
        "disordered": sum(one.disordered for one in listeners),
        "heard": sorted({one.numbers.hexdigest() for one in listeners}),
        "counts": {name.decode(): n for name, n in sorted(listeners[0].counts.items())},
        "steps": len(delays),
        "delays": [quantile(delays, part) for part in (0.5, 0.95, 0.99)],
        "of_each": sorted(quantile(sorted(one.delays), 0.95) for one in listeners),
    }


@contextmanager
def process(*arguments: str) -> Any:
    """This file in another part, its first line read."""
    with subprocess.Popen(
        [sys.executable, __file__, "--part", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as running:  # fmt: skip
        try:
            assert running.stdout is not None
            first = running.stdout.readline().strip()
            if not first:
                raise SystemExit(f"{arguments[0]}: did not begin")
            yield running, first
        finally:
            if running.poll() is None:
                running.send_signal(signal.SIGTERM)


def resident(pid: int) -> float:
    """MiB of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


# what is measured


@dataclass
class Load:
    """ids: by seed. submits, bares, keeps: (second, delay) of each request, to the server and to
    bare routes, of which the second syncs. syncs: seconds, sorted."""

    ids: dict[int, str]
    submits: list[tuple[int, float]]
    bares: list[tuple[int, float]]
    keeps: list[tuple[int, float]]
    memory: list[float]
    syncs: list[float]


def recipe(seed: int, **fields: Any) -> dict[str, Any]:
    return {"recipe": {"model": "emoji", "prompt": "red apple, flat", "seed": seed, **fields}}


@asynccontextmanager
async def lines(port: int) -> AsyncIterator[asyncio.Queue[Line]]:
    free: asyncio.Queue[Line] = asyncio.Queue()
    opened = [Line(port) for _ in range(LINES)]
    for line in opened:
        free.put_nowait(line)
    yield free
    for line in opened:
        line.close()


def sync(folder: Path, times: list[float]) -> None:
    """What the disk itself takes meanwhile to have 4 KiB."""
    with (folder / "synced").open("wb") as file:
        file.write(bytes(4096))
        file.flush()
        began = time.perf_counter()
        os.fsync(file.fileno())
        times.append(time.perf_counter() - began)


async def submit_all(ports: Sequence[int], jobs: int, pid: int, folder: Path) -> Load:
    """Submit by the clock, to each of the three in turn."""
    load, page = Load({}, [], [], [], [], []), Line(ports[0])
    delays = (load.submits, load.bares, load.keeps)

    async def one(free: asyncio.Queue[Line], seed: int, due: float, kind: int) -> None:
        line = await free.get()
        status, body = await line.ask("POST", "/v1/jobs", recipe(seed))
        delay = time.perf_counter() - due
        free.put_nowait(line)
        if status != 202:
            raise SystemExit(f"submit: {status} {body[:200]!r}")
        delays[kind].append((int(due - began), delay))
        if kind == 0:
            load.ids[seed] = json.loads(body)["id"]

    async with AsyncExitStack() as stack:
        frees = [await stack.enter_async_context(lines(port)) for port in ports]
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for free in frees:  # connections and imports
            for _ in range(LINES):
                line = await free.get()
                await line.ask("GET", "/livez")
                free.put_nowait(line)
        began = time.perf_counter() + 0.1
        for tick in range(KINDS * jobs):
            due = began + tick / (KINDS * RATE)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            kind = tick % KINDS
            group.create_task(one(frees[kind], tick // KINDS, due, kind))
            if tick == int(WARM * jobs) * KINDS:  # what a client asks for is part of being warm
                await page.get("/v1/jobs?limit=200")
            if tick % 30 == 10:
                group.create_task(asyncio.to_thread(sync, folder, load.syncs))
            if tick % 150 == 0:
                load.memory.append(resident(pid))
    page.close()
    load.syncs.sort()
    return load


async def until_done(port: int, jobs: int, pid: int, memory: list[float]) -> list[dict[str, Any]]:
    """All jobs as the server shows them, once none is open."""
    line, until = Line(port), time.monotonic() + PATIENCE
    while True:
        queue = await line.get("/v1/queue")
        memory.append(resident(pid))
        if not queue["waiting"] and not queue["running"]:
            break
        if time.monotonic() > until:
            raise SystemExit(f"after {PATIENCE:.0f} s: {queue}")
        await asyncio.sleep(1)
    shown: list[dict[str, Any]] = []
    before = ""
    while True:
        page = await line.get(f"/v1/jobs?limit=200{before}")
        shown += page["jobs"]
        if page["next"] is None:
            line.close()
            return shown
        before = f"&before={page['next']}"


async def wrong_bytes(port: int, shown: Sequence[Any], right: Callable[[int], bytes]) -> int:
    """Jobs whose picture is not the right one, as the server gives it out."""
    line, wrong = Line(port), 0
    for job in shown:
        expected = right(job["recipe"]["seed"])
        result = job["results"][0]
        _, data = await line.ask("GET", f"/v1/jobs/{job['id']}/files/1.png")
        wrong += data != expected or result["sha256"] != hashlib.sha256(expected).hexdigest()
    line.close()
    return wrong


def once(ids: Mapping[int, str], shown: Sequence[Any]) -> tuple[int, int]:
    """How many submitted jobs were lost, and how many were made more than once."""
    done = Counter(job["id"] for job in shown if job["state"] == "done" and job["results"])
    lost = sum(done[id] == 0 for id in ids.values())
    again = [job for job in shown if job["attempt"] != 1 or len(job["results"]) != 1]
    strangers = set(done) - set(ids.values())
    return lost, len(again) + len(strangers) + sum(n - 1 for n in done.values())


def quantile(values: Sequence[float], part: float) -> float:
    """Of sorted values."""
    return values[min(len(values) - 1, int(part * len(values)))] if values else float("nan")


def p95(pairs: Sequence[tuple[int, float]]) -> float:
    return quantile(sorted(delay for _, delay in pairs), 0.95)


def interval(load: Load) -> tuple[float, float]:
    """Of the ratio of p95, by drawing seconds."""
    blocks: dict[int, tuple[list[Any], list[Any]]] = {}
    for k, pairs in enumerate((load.submits, load.bares)):
        for pair in pairs:
            blocks.setdefault(pair[0], ([], []))[k].append(pair)
    seconds, draw, ratios = list(blocks.values()), random.Random(0), []
    for _ in range(RESAMPLES):
        drawn = draw.choices(seconds, k=len(seconds))
        ours, theirs = ([pair for block in drawn for pair in block[k]] for k in (0, 1))
        ratios.append(p95(ours) / p95(theirs))
    ratios.sort()
    return quantile(ratios, 0.025), quantile(ratios, 0.975)


def held(what: str, holds: bool) -> bool:
    print(f"{'held    ' if holds else 'NOT HELD'}  {what}", flush=True)
    return holds


# the parts of a run


def stub_jobs(jobs: int, listeners: int) -> list[bool]:
    with (
        tempfile.TemporaryDirectory() as folder,
        process("serve", folder, "stub") as (server, url),
        process("bare") as (_, bare_url),
        process("bare", folder) as (_, keeping_url),
    ):
        urls = (url, bare_url, keeping_url)
        ports = [int(one.rpartition(":")[2]) for one in urls]
        port = ports[0]
        with process("listen", str(port), str(listeners)) as (ears, _):
            began = time.monotonic()
            load = asyncio.run(submit_all(ports, jobs, server.pid, Path(folder)))
            shown = asyncio.run(until_done(port, jobs, server.pid, load.memory))
            seconds = time.monotonic() - began
            time.sleep(1)  # what was told last is on its way
            memory = resident(server.pid)
            heard = json.loads(ears.communicate("\n", timeout=60)[0])
        wrong = asyncio.run(wrong_bytes(port, shown, picture))
    return said_of_stub(load, shown, heard, wrong, seconds, memory, jobs, listeners)


def said_of_stub(
    load: Load, shown: Sequence[Any], heard: dict[str, Any], wrong: int, seconds: float,
    memory: float, jobs: int, listeners: int,
) -> list[bool]:  # fmt: skip
    lost, twice = once(load.ids, shown)
    ours, theirs, kept = (
        sorted(d for _, d in pairs) for pairs in (load.submits, load.bares, load.keeps)
    )
    low, high = interval(load)
    warm = load.memory[int(WARM * jobs / 50) + 1]
    ratio = p95(load.submits) / p95(load.bares)
    median = quantile(ours, 0.5) / quantile(theirs, 0.5)
    middle, late, latest = heard["delays"]
    each = heard["of_each"]
    counts = heard["counts"]
    whole = all(counts.get(name) == jobs for name in ("queued", "started", "picture", "done"))
    print(f"{jobs} jobs, {listeners} listeners: {seconds:.1f} s, {jobs / seconds:.1f} jobs/s")
    print(f"heard by each: {counts}; {heard['steps']:,} steps in all, of {STEPS * jobs} a listener")
    print("            p50 ms   p95 ms   p99 ms")
    rows = {"submit": ours, "bare route": theirs, "that syncs": kept, "disk": load.syncs}
    for name, values in rows.items():
        row = "".join(f"{1e3 * quantile(values, part):9.1f}" for part in (0.5, 0.95, 0.99))
        print(f"{name:10}{row}")
    print(f"p95 to that of the bare route that syncs: {p95(load.submits) / p95(load.keeps):.2f}")
    print(f"step      {1e3 * middle:9.1f}{1e3 * late:9.1f}{1e3 * latest:9.1f}")
    print(f"p95 of single listeners: {1e3 * each[0]:.1f} to {1e3 * each[-1]:.1f} ms")
    print(f"memory: {warm:.1f} MiB after {WARM:.0%} of the submits, {memory:.1f} at the end")
    return [
        held(f"none lost, none twice: {lost} lost, {twice} twice", not lost and not twice),
        held(
            f"every listener heard the same, whole and in order: {len(heard['heard'])} accounts, "
            f"{heard['disordered']} out of order, {heard['cut']} cut",
            len(heard["heard"]) == 1 and not heard["disordered"] + heard["cut"] and whole,
        ),
        held(f"bytes of the runner's: {wrong} wrong", not wrong),
        held(f"memory flat: {memory / warm:.3f} times, at most {FLAT}", memory <= FLAT * warm),
        held(
            f"submit p95 at most {RATIO:g} times the bare route's: {ratio:.2f} [{low:.2f}, "
            f"{high:.2f}] (p50: {median:.2f})",
            ratio <= RATIO,
        ),
        held(f"submit p95 within {1e3 * AIM:.0f} ms: {1e3 * p95(load.submits):.1f}",
             p95(load.submits) <= AIM),
        held(f"a step at a listener within {1e3 * WITHIN:.0f} ms (p95): {1e3 * late:.1f}",
             late <= WITHIN),
    ]  # fmt: skip


def model_jobs(count: int) -> list[bool]:
    """Jobs of the bundled model, against the library in this process."""
    import sfumato as sf

    fields = {"steps": 4, "stages": 1}

    async def all_of(port: int, pid: int) -> tuple[list[dict[str, Any]], dict[int, str]]:
        line, ids = Line(port), {}
        for seed in range(count):
            status, body = await line.ask("POST", "/v1/jobs", recipe(seed, **fields))
            assert status == 202, body
            ids[seed] = json.loads(body)["id"]
        line.close()
        return await until_done(port, count, pid, []), ids

    def of_library(seed: int) -> bytes:
        body = recipe(seed, **fields)["recipe"]
        return sf.run(sf.Recipe.from_data(body)).images[0].encode("PNG")

    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        process("serve", folder, "emoji") as (server, url),
    ):
        port = int(url.rpartition(":")[2])
        shown, ids = asyncio.run(all_of(port, server.pid))
        seconds = time.monotonic() - began
        wrong = asyncio.run(wrong_bytes(port, shown, of_library))
    lost, twice = once(ids, shown)
    print(f"{count} jobs of the bundled model: {seconds:.1f} s with its loading")
    return [
        held(f"none lost, none twice: {lost} lost, {twice} twice", not lost and not twice),
        held(f"bytes equal the library's: {wrong} differ", not wrong),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--listeners", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=50)
    parser.add_argument("--part", nargs="+")
    given = parser.parse_args()
    if given.part:
        part, *rest = given.part
        if part == "serve":
            serve(*rest)
        elif part == "bare":
            bare(*rest)
        else:
            listen(*map(int, rest))
        return
    holds = stub_jobs(given.jobs, given.listeners) if given.jobs else []
    holds += model_jobs(given.pictures) if given.pictures else []
    print(f"{sum(holds)} of {len(holds)} held")
    sys.exit(not all(holds))


if __name__ == "__main__":
    main()
