"""RayRunner: a Runner whose tasks are done by an actor on a node of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError, one_line
from sfumato.server.runner.child import Work
from sfumato.server.runner.process import STARTS_IN
from sfumato.server.runner.protocol import LAST, Happening, Ready, RunnerLostError, Stopped, Task
from sfumato.server.scale.fleet import Fleet, Placement
from sfumato.server.scale.node import DEPARTS, Node, Parcel, Refusal, packed

ROOM = 60.0  # seconds in which Ray finds room for an actor
SILENT = 30.0  # seconds without a word from the node, after which it is lost
STUCK = 1800.0  # seconds without a happening, after which an actor is replaced


class RayRunner:
    """One actor at a time: another, maybe elsewhere, when it is lost. gather: as a Node's."""

    def __init__(
        self, name: str, fleet: Fleet, make: Callable[[], Work], gather: float = 0.0
    ) -> None:
        self.name, self.fleet, self.make, self.gather = name, fleet, make, gather
        self.actor: Any = None
        self.place: Placement | None = None
        self.watching: asyncio.Task[None] | None = None
        self.there: frozenset[str] = frozenset()
        self.at_work: str | None = None
        self.early: str | None = None  # cancelled before it was sent
        self.alive = False
        self.pid = 0

    async def start(self) -> Ready:
        """An actor on a node that has the models; RunnerLostError where there is none now."""
        await self.close()
        while True:
            try:
                place = await self.fleet.take()
            except RunnerLostError as error:
                raise RunnerLostError(f"runner {self.name}: {error}") from None
            self.place = place
            try:
                ready = await self._begin(place)
                why = self.fleet.objection(ready)
            except RunnerLostError as error:
                why = str(error)
            if why is None:
                self.alive = True
                self.watching = asyncio.create_task(self._watch(self.actor))
                return ready
            self.fleet.refuse(place, why)
            await self.close()

    async def _begin(self, place: Placement) -> Ready:
        ray = self.fleet.ray
        node = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(place.id, soft=False)
        options = {**place.asks, "scheduling_strategy": node, "max_restarts": 0}
        self.actor = ray.remote(Node).options(**options).remote(self.name, self.make, self.gather)
        late = f"has found no room for an actor within {ROOM:.0f} s; another program may have it"
        _, self.pid = await self._answer(self.actor.here.remote(), ROOM, late)
        late = f"was not ready within {STARTS_IN:.0f} s"
        answer = await self._answer(self.actor.start.remote(), STARTS_IN + DEPARTS, late)
        if isinstance(answer, Refusal):
            raise RunnerLostError(answer.line)
        assert isinstance(answer, Ready)
        return answer

    async def _answer(self, ref: Any, seconds: float, late: str) -> Any:
        try:
            return await asyncio.wait_for(_value(ref), seconds)
        except TimeoutError:
            raise RunnerLostError(late) from None
        except self.fleet.ray.exceptions.RayError as error:
            raise RunnerLostError(_why(error)) from None

    async def _watch(self, actor: Any) -> None:
        """Until the actor or its process is gone."""
        with suppress(self.fleet.ray.exceptions.RayError):
            await _value(actor.watch.remote())
        if self.actor is actor:
            self.alive = False

    async def run(self, task: Task) -> AsyncIterator[Happening]:
        """What happens while the task is done."""
        self.at_work, self.early = task.id, None
        try:
            parcel = await asyncio.to_thread(packed, task, self.there)
            if self.early == task.id:
                yield Stopped()
                return
            async for happening in self._told(parcel):
                if isinstance(happening, LAST):
                    self.at_work = None
                yield happening
                if isinstance(happening, LAST):
                    return
            raise RunnerLostError(f"{self.name}: its stream ended early")
        except RunnerLostError:
            await self.close()
            raise
        finally:
            if self.at_work is not None and self.actor is not None:  # nobody listens any more
                self.actor.cancel.remote(task.id)
            self.at_work = None

    async def _told(self, parcel: Parcel) -> AsyncIterator[Happening]:
        if self.actor is None:
            raise RunnerLostError(self.name)
        loop = asyncio.get_running_loop()
        stream = self.actor.run.options(num_returns="streaming").remote(parcel)
        self.there = frozenset(parcel.inputs)
        heard = loop.time()
        while True:
            try:
                happenings = await asyncio.wait_for(_following(stream), SILENT)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise RunnerLostError(f"{self.name}: silent for {SILENT:.0f} s") from None
            except self.fleet.ray.exceptions.RayError as error:
                raise RunnerLostError(f"{self.name}: {_why(error)}") from None
            for happening in happenings:
                yield happening
            if happenings:
                heard = loop.time()
            elif loop.time() - heard > STUCK:
                raise RunnerLostError(f"{self.name}: no progress for {STUCK:.0f} s")

    def cancel(self, id: str) -> None:
        """Stop the task; a process that does not within a while is killed on its node."""
        if self.at_work == id:
            self.early = id
            if self.actor is not None:
                self.actor.cancel.remote(id)

    def finish(self, id: str) -> None:
        """Let the task end with what it has, if it is one that can."""
        if self.at_work == id and self.actor is not None:
            self.actor.finish.remote(id)

    async def plan(self, request: str, inputs: Mapping[str, Path]) -> dict[str, Any]:
        """What a request would do."""
        if self.actor is None:
            raise SfumatoError("plan: the runner is not there now; ask again in a while")
        data = {sha256: await asyncio.to_thread(path.read_bytes) for sha256, path in inputs.items()}
        try:
            answer = await self._answer(self.actor.plan.remote(request, data), STARTS_IN, "late")
        except RunnerLostError:
            raise SfumatoError("plan: the runner is gone; ask again in a while") from None
        if isinstance(answer, Refusal):
            raise SfumatoError(answer.line)
        planned: dict[str, Any] = answer
        return planned

    async def close(self) -> None:
        """End the actor, and what it has on its node."""
        actor, place, watching = self.actor, self.place, self.watching
        self.actor = self.place = self.watching = None
        alive, self.alive, self.there = self.alive, False, frozenset()
        if watching is not None:
            watching.cancel()
        if actor is not None:
            if alive:
                with suppress(RunnerLostError):
                    await self._answer(actor.close.remote(), DEPARTS, "late")
            await asyncio.to_thread(self.fleet.ray.kill, actor)
        if place is not None:
            self.fleet.release(place)


async def _value(ref: Any) -> Any:
    return await ref


async def _following(stream: Any) -> Any:
    return await (await anext(stream))


def _why(error: BaseException) -> str:
    """The line of an error of Ray's that says most; its last, of a trace from elsewhere."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return one_line(lines[-1] if "Traceback" in str(error) else lines[0])[:300] if lines else "lost"
