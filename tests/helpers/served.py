"""A server for tests: a runner without networks, the app in this process, or on a port."""

from __future__ import annotations

import asyncio
import functools
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from PIL import Image

from sfumato.core.errors import SfumatoError
from sfumato.server.api.app import create_app
from sfumato.server.api.head import Protocol
from sfumato.server.runner.protocol import (
    Failed,
    Finished,
    Happening,
    Made,
    ModelInfo,
    Ready,
    Runner,
    RunnerLostError,
    Stepped,
    Stopped,
    Task,
)
from sfumato.server.server import Server
from sfumato.server.service import Service
from sfumato.server.settings import Settings

EMOJI = ModelInfo(
    "emoji", "a stub", (32, 32), 8, 256, 8, 30, True, ("flat",), {"ink drawing": "art.safetensors"}
)
READY = Ready("cpu", "float32", (EMOJI,), {"sfumato": "0"})


def picture(seed: int, size: tuple[int, int] = (8, 8)) -> bytes:
    """A PNG that no other seed has."""
    red, green, blue = seed & 255, (seed >> 8) & 255, (seed >> 16) & 255
    buffer = io.BytesIO()
    Image.new("RGB", size, (red, green, blue)).save(buffer, "PNG")
    return buffer.getvalue()


def recipe_job(seed: int = 0, prompt: str = "red apple", **recipe: Any) -> dict[str, Any]:
    """The body of a job of one picture."""
    return {"recipe": {"model": "emoji", "prompt": prompt, "seed": seed, **recipe}}


def task_of(
    seed: int = 0, prompt: str = "x", inputs: Mapping[str, Path] | None = None, **recipe: Any
) -> Task:
    """A runner's task of one picture."""
    request = json.dumps({"kind": "recipe", **recipe_job(seed, prompt, **recipe)})
    return Task(f"{seed:020x}", 1, request, inputs or {})


def happenings(task: Task) -> list[Happening]:
    """What a stub tells of a task: its steps, its pictures, its end; "fail" in a prompt fails."""
    request = json.loads(task.request)
    recipe = request["recipe"]
    if "fail" in recipe["prompt"]:
        return [Failed("emoji: cannot draw that; take another prompt")]
    steps = recipe.get("steps") or 3
    told: list[Happening] = [
        Stepped(i + 1, steps, 0, i + 1, steps, 0.1 * (steps - i)) for i in range(steps)
    ]
    seeds = range(recipe["seed"], recipe["seed"] + recipe.get("n", 1))
    told += [Made(f"{k + 1}.png", picture(seed), seed) for k, seed in enumerate(seeds)]
    return [*told, Finished(0.1)]


@dataclass
class StubRunner:
    """Does tasks in this process: what it was given is in `tasks`.

    pause: seconds before each happening. hold: while it is not set, nothing happens. single: each
    time it is set one thing happens. dies: how many tasks it dies in the middle of.
    """

    name: str = "stub"
    pause: float = 0.0
    hold: asyncio.Event | None = None
    single: bool = False
    dies: int = 0
    tell: Callable[[Task], Sequence[Happening]] = happenings
    tasks: list[Task] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    current: str | None = None
    alive: bool = False
    starts: int = 0

    async def start(self) -> Ready:
        self.alive = True
        self.starts += 1
        return READY

    async def run(self, task: Task) -> AsyncIterator[Happening]:
        self.tasks.append(task)
        self.current, self.stop = task.id, asyncio.Event()
        for k, happening in enumerate(self.tell(task)):
            if k == 1 and self.dies:
                self.dies -= 1
                self.alive = False
                raise RunnerLostError(self.name)
            await self._wait()
            if self.stop.is_set():
                yield Stopped()
                return
            yield happening
        self.current = None

    async def _wait(self) -> None:
        waits = [asyncio.ensure_future(self.stop.wait())]
        if self.hold is not None:
            waits.append(asyncio.ensure_future(self.hold.wait()))
        else:
            waits.append(asyncio.ensure_future(asyncio.sleep(self.pause)))
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()
        if self.hold is not None and self.single:
            self.hold.clear()

    def cancel(self, id: str) -> None:
        if self.current == id:
            self.cancelled.add(id)
            self.stop.set()

    async def plan(self, request: str, inputs: Mapping[str, Path]) -> dict[str, Any]:
        if "fail" in request:
            raise SfumatoError("emoji: cannot draw that")
        return {"calls": 3, "seconds": 0.3}

    async def close(self) -> None:
        self.alive = False


@dataclass(frozen=True)
class StubWork:
    """What a runner's process does in tests; pickled. pause: seconds of a step.

    "die" in a prompt ends the process in its middle.
    """

    pause: float = 0.0

    def __call__(self) -> StubWork:
        return self

    def ready(self) -> Ready:
        return READY

    def perform(self, task: Task, tell: Callable[[Happening], None]) -> None:
        from sfumato.core.interrupts import Stopped as Interrupt

        try:
            for k, happening in enumerate(happenings(task)):
                if k == 1 and '"die' in task.request:
                    import os
                    import signal

                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(self.pause)
                tell(happening)
        except Interrupt:
            tell(Stopped())

    def plan(self, request: str, inputs: Mapping[str, Path]) -> dict[str, Any]:
        return {"calls": 3, "seconds": 0.3}


@asynccontextmanager
async def served(
    folder: Path, *runners: Runner, resume: bool = False, **settings: Any
) -> AsyncIterator[Service]:
    """A server of the folder, with a stub where no runner is given."""
    chosen = {"drain": 0.5, "floor": 0, **settings}
    server = Server(Settings(folder, **chosen), lambda: runners or (StubRunner(),), resume)
    async with server.running() as service:
        yield service


@asynccontextmanager
async def client_of(service: Service, token: str = "", **options: Any) -> AsyncIterator[Any]:
    """A client of the app in this process; it cannot listen to streams as they happen."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost", headers=headers, **options
    ) as client:
        yield client


@asynccontextmanager
async def listening(service: Service, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app on a port of the loopback."""
    config = uvicorn.Config(
        create_app(service),
        http=Protocol,
        port=0,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=1,
        root_path=service.settings.root_path,
    )
    web = uvicorn.Server(config)
    web.capture_signals = nullcontext  # type: ignore[method-assign,assignment]  # not ours
    task = asyncio.create_task(web.serve())
    while not web.started:
        await asyncio.sleep(0.01)
    port = web.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30
        ) as client:
            yield client
    finally:
        service.kept.hub.close()
        web.should_exit = True
        await task


async def until_ended(client: httpx.AsyncClient, id: str, seconds: float = 20.0) -> dict[str, Any]:
    """The job once it has ended."""
    async with asyncio.timeout(seconds):
        while True:
            job: dict[str, Any] = (await client.get(f"/v1/jobs/{id}")).json()
            if job["state"] not in ("queued", "running"):
                return job
            await asyncio.sleep(0.01)


async def submitted(client: httpx.AsyncClient, body: Mapping[str, Any]) -> str:
    """The id of a job that is taken."""
    answer = await client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    id: str = answer.json()["id"]
    return id


async def events_of(
    client: httpx.AsyncClient, path: str, last: int | None = None
) -> AsyncIterator[dict[str, Any]]:
    """Events of a stream as they come, each with its `id` where it is kept."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    async with client.stream("GET", path, headers=headers) as stream:
        assert stream.status_code == 200, await stream.aread()
        number: int | None = None
        async for line in stream.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                number = int(value)
            elif name == "data":
                yield {**json.loads(value), "id": number}
                number = None


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an asynchronous test."""

    @functools.wraps(test)
    def run(*args: Any, **values: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **values), 60))  # type: ignore[arg-type]

    return run
