"""What goes wrong around a server: no job lost, none done twice, no half picture, states true."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from helpers.served import (
    StubRunner,
    StubWork,
    client_of,
    in_loop,
    picture,
    recipe_job,
    served,
    submitted,
    until_ended,
)
from sfumato.core.errors import SfumatoError
from sfumato.server import kept
from sfumato.server.retention import tidy
from sfumato.server.runner.process import ProcessRunner
from sfumato.server.service import Service
from sfumato.server.settings import Retention
from sfumato.server.store import schema
from sfumato.server.store.database import FILE, Database


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried at once."""
    monkeypatch.setattr(kept, "AGAIN", (0.01, 0.05))
    monkeypatch.setattr("sfumato.server.dispatch.AGAIN", (0.01, 0.05))
    monkeypatch.setattr("sfumato.server.api.operation.LASTS", 0.0)


async def refusal(folder: Path) -> str:
    with pytest.raises(SfumatoError) as error:
        async with served(folder):
            pass
    return str(error.value)


@in_loop
async def test_a_second_server_of_a_folder_is_refused(tmp_path: Path) -> None:
    """Two would do every job twice."""
    async with served(tmp_path):
        assert "another server is at work" in await refusal(tmp_path)
    async with served(tmp_path):
        pass


@in_loop
async def test_a_damaged_or_strange_database_is_one_line(tmp_path: Path) -> None:
    """Damaged, no database, another program's, of a newer version: named, and left as it is."""
    damaged, none, foreign, newer = (tmp_path / name for name in ("d", "n", "f", "v"))
    async with served(damaged) as service, client_of(service) as client:
        for seed in range(20):
            await until_ended(client, await submitted(client, recipe_job(seed)))
    data = bytearray((damaged / FILE).read_bytes())
    data[4096 : len(data) // 2] = os.urandom(len(data) // 2 - 4096)
    (damaged / FILE).write_bytes(data)
    none.mkdir()
    (none / FILE).write_bytes(b"a text, and long enough to be looked at by SQLite" * 100)
    for folder in (foreign, newer):
        folder.mkdir()
        with sqlite3.connect(folder / FILE) as connection:
            connection.execute("CREATE TABLE t (x)")
            if folder is newer:
                connection.execute(f"PRAGMA application_id = {schema.APPLICATION}")
                connection.execute("PRAGMA user_version = 99")
    assert "damaged" in await refusal(damaged)
    assert "damaged" in await refusal(none)
    assert "another program" in await refusal(foreign)
    assert "update sfumato" in await refusal(newer)


@in_loop
async def test_a_database_of_the_former_schema_is_brought_to_this_one(tmp_path: Path) -> None:
    """Its jobs are there, and go on."""
    former = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    former.executescript(schema.FIRST)
    former.execute(f"PRAGMA application_id = {schema.APPLICATION}")
    former.execute("PRAGMA user_version = 1")
    former.execute(
        "INSERT INTO jobs (id, client, kind, state, phase, priority, position, request, created)"
        " VALUES (?, 'local', 'recipe', 'queued', 'begin', 0, 1, ?, 0)",
        ("ab" * 10, '{"recipe": {"model": "emoji", "prompt": "x", "seed": 4}}'),
    )
    former.close()
    async with served(tmp_path) as service, client_of(service) as client:
        assert (await until_ended(client, "ab" * 10))["state"] == "done"
        assert service.kept.db.read("PRAGMA user_version")[0][0] == schema.VERSION
        assert service.kept.db.read("SELECT * FROM costs")


@in_loop
async def test_a_locked_database_refuses_for_now_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 while another program holds it; what was done meanwhile is kept when it lets go."""
    monkeypatch.setattr("sfumato.server.store.database.WRITER_WAITS", 0.05)
    runner = StubRunner(hold=asyncio.Event())
    async with served(tmp_path, runner) as service, client_of(service) as client:
        id = await submitted(client, recipe_job(1))
        while runner.current != id:
            await asyncio.sleep(0.01)
        other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answer = await client.post("/v1/jobs", json=recipe_job(2))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "locked" in answer.json()["detail"]
        runner.hold.set()
        await asyncio.sleep(0.2)
        assert (await client.get("/readyz")).status_code == 503
        other.execute("ROLLBACK")
        assert (await until_ended(client, id))["results"]
        assert (await client.get("/readyz")).status_code == 200
        assert len((await client.get("/v1/jobs")).json()["jobs"]) == 1


@in_loop
async def test_a_full_disk_refuses_for_now_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """507 to who submits or uploads; a picture that is made waits for room, whole."""
    runner = StubRunner(hold=asyncio.Event())
    async with served(tmp_path, runner) as service, client_of(service) as client:
        id = await submitted(client, recipe_job(1))
        while runner.current != id:
            await asyncio.sleep(0.01)
        pages = service.kept.db.one("PRAGMA page_count")
        assert pages is not None
        full = f"PRAGMA max_page_count = {pages[0]}"
        await service.kept.db.write(lambda connection: connection.execute(full).fetchone())
        files = type(service.kept.files)

        def no_room(*args: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(files, "_write", no_room)
            upload = await client.post("/v1/images", files={"file": ("a.png", picture(9))})
            assert upload.status_code == 507, upload.text
            status = 202
            for seed in range(500):
                answer = await client.post("/v1/jobs", json=recipe_job(seed, "x" * 5000))
                status = answer.status_code
                if status != 202:
                    break
            assert (status, "full" in answer.text) == (507, True)
            taken = len(service.kept.queue.open)
            runner.hold.set()
            await asyncio.sleep(0.1)
            assert (await client.get(f"/v1/jobs/{id}")).json()["state"] == "running"
        more = "PRAGMA max_page_count = 1000000"
        await service.kept.db.write(lambda connection: connection.execute(more).fetchone())
        assert (await until_ended(client, id))["results"]
        while service.kept.queue.open:
            await asyncio.sleep(0.01)
        done = service.kept.db.one("SELECT count(*) AS n FROM jobs WHERE state = 'done'")
        assert done is not None
        assert done["n"] == taken


def running(service: Service) -> set[str]:
    """The jobs that a runner has."""
    return {entry.id for entry in service.kept.queue.running()}


@in_loop
async def test_jobs_survive_a_runner_that_is_killed(tmp_path: Path) -> None:
    """50 jobs, kill -9 at random moments: each is done once, with its own picture."""
    runner = ProcessRunner("stub", StubWork(0.005))
    async with served(tmp_path, runner) as service, client_of(service) as client:
        ids = [await submitted(client, recipe_job(seed)) for seed in range(50)]
        chance = random.Random(0)
        for k in range(4):
            await asyncio.sleep(chance.uniform(0, 0.15))
            while not runner.alive:
                await asyncio.sleep(0.01)
            before = running(service)
            while not (k or running(service) - before):
                await asyncio.sleep(0.001)  # the first kill falls on one that began
            runner.process.kill()
        jobs = [await until_ended(client, id, 50) for id in ids]
        assert {job["state"] for job in jobs} == {"done"}
        for seed, job in enumerate(jobs):
            (file,) = job["results"]
            assert service.kept.files.get(file["sha256"]) == picture(seed)
        assert max(job["attempt"] for job in jobs) in (2, 3, 4)


@in_loop
async def test_a_job_that_always_kills_its_runner_is_given_up(tmp_path: Path) -> None:
    """Begun three times, then interrupted; the others are done, and it can be tried again."""
    runner = StubRunner(dies=3)
    async with served(tmp_path, runner) as service, client_of(service) as client:
        deadly, other = [await submitted(client, recipe_job(seed)) for seed in (1, 2)]
        job = await until_ended(client, deadly)
        assert (job["state"], job["attempt"]) == ("interrupted", 3)
        assert "lost" in job["error"]
        assert (await until_ended(client, other))["state"] == "done"
        await client.post(f"/v1/jobs/{deadly}/retry")
        assert (await until_ended(client, deadly))["state"] == "done"


@in_loop
async def test_what_an_attempt_made_that_was_lost_is_not_told_twice(tmp_path: Path) -> None:
    """A picture of the first attempt is replaced by that of the second."""
    runner = StubRunner(dies=0)
    made = StubRunner().tell

    def dying(task: Any) -> Any:
        if task.attempt > 1:
            return made(task)
        runner.dies = 1
        return [happening for happening in made(task) if hasattr(happening, "data")] * 2

    runner.tell = dying
    async with served(tmp_path, runner) as service, client_of(service) as client:
        job = await until_ended(client, await submitted(client, recipe_job(3)))
        assert (job["attempt"], len(job["results"])) == (2, 1)


@in_loop
async def test_a_clock_that_is_set_back_changes_no_order(tmp_path: Path) -> None:
    """Times never go back, and nothing that has just ended is taken for old."""
    keeping = Retention(days=1)
    async with served(tmp_path, retention=keeping) as service, client_of(service) as client:
        first = await until_ended(client, await submitted(client, recipe_job(1)))
        clock = service.kept.clock
        service.kept.clock = lambda: clock() - 10 * 86_400
        second = await until_ended(client, await submitted(client, recipe_job(2)))
        assert second["created"] >= first["ended"]
        assert await tidy(service) == 0
        listed = (await client.get("/v1/jobs")).json()["jobs"]
        assert [job["id"] for job in listed] == [second["id"], first["id"]]


@in_loop
async def test_a_server_that_is_stopped_drains(tmp_path: Path) -> None:
    """Jobs at work get their time; one that needs more waits for the next start, no loss."""
    runner = StubRunner(hold=asyncio.Event())
    async with served(tmp_path, runner, drain=5) as service, client_of(service) as client:
        first, second = [await submitted(client, recipe_job(seed)) for seed in (1, 2)]
        while runner.current != first:
            await asyncio.sleep(0.01)
        stopping = asyncio.ensure_future(service.dispatcher.drain(5))
        await asyncio.sleep(0.05)
        assert (await client.post("/v1/jobs", json=recipe_job(3))).status_code == 503
        assert (await client.get("/readyz")).status_code == 503
        runner.hold.set()
        await stopping
        assert (await client.get(f"/v1/jobs/{first}")).json()["state"] == "done"
    slow = StubRunner(hold=asyncio.Event())
    async with served(tmp_path, slow, drain=0.05) as service, client_of(service) as client:
        assert not (await client.get("/v1/queue")).json()["paused"]
        while slow.current != second:
            await asyncio.sleep(0.01)
    async with served(tmp_path) as service, client_of(service) as client:
        job = await until_ended(client, second)
        assert (job["state"], job["attempt"]) == ("done", 2)
        lost = service.kept.db.one("SELECT losses FROM jobs WHERE id = ?", (second,))
        assert lost is not None
        assert lost["losses"] == 0


@in_loop
async def test_files_of_a_write_that_never_ended_are_cleared(tmp_path: Path) -> None:
    """A file without a row is nobody's, and half a file is no file."""
    async with served(tmp_path) as service, client_of(service) as client:
        job = await until_ended(client, await submitted(client, recipe_job(1)))
    files = tmp_path / "pictures"
    (files / "ab").mkdir(exist_ok=True)
    (files / "ab" / ("ab" * 32)).write_bytes(b"orphan")
    (files / "x.1.part").write_bytes(b"half")
    async with served(tmp_path) as service:
        assert service.kept.files.all() == [job["results"][0]["sha256"]]
        assert not list(files.glob("*.part"))


@in_loop
async def test_a_write_that_fails_alone_leaves_nothing(tmp_path: Path) -> None:
    """Whatever it raises, and the next one is made."""
    database = Database(tmp_path)

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO facts (name, value) VALUES ('half', '')")
        raise KeyError("half")

    with pytest.raises(KeyError):
        await database.write(half)
    await database.write(lambda c: c.execute("INSERT INTO facts (name, value) VALUES ('b', '')"))
    assert [row["name"] for row in database.read("SELECT name FROM facts")] == ["b"]
    database.close()


def test_writes_that_wait_are_one_transaction(tmp_path: Path) -> None:
    """A group shares its sync; one that fails takes none of the others with it."""

    async def go() -> None:
        database = Database(tmp_path)
        commits: list[str] = []
        database.writer.set_trace_callback(
            lambda sql: commits.append(sql) if sql == "COMMIT" else None
        )

        def insert(name: str) -> Any:
            sql = "INSERT INTO facts (name, value) VALUES (?, '')"
            return lambda connection: connection.execute(sql, (name,)).rowcount

        names = [f"fact {k}" for k in range(50)]
        results = await asyncio.gather(
            *(database.write(insert(name)) for name in [*names, names[0]]), return_exceptions=True
        )
        assert results[:50] == [1] * 50
        assert isinstance(results[50], SfumatoError)
        assert len(database.read("SELECT * FROM facts")) == 50
        assert len(commits) < 40
        database.close()

    asyncio.run(go())


@in_loop
async def test_what_nobody_waits_for_waits_for_company(tmp_path: Path) -> None:
    """Until a write comes that somebody waits for, or a moment is over; in its order."""
    db = Database(tmp_path)
    db.takes = 10.0  # a slow disk's commits
    groups: list[int] = []
    commit = db._commit
    db._commit = lambda group: (groups.append(len(group)), commit(group))[1]  # type: ignore[method-assign,func-returns-value]
    order: list[int] = []
    waits = [
        asyncio.ensure_future(db.write(lambda c, k=k: order.append(k), hurry=k == 3))  # type: ignore[misc]
        for k in range(4)
    ]
    await asyncio.gather(*waits)
    assert order == [0, 1, 2, 3]
    assert groups == [4]
    await db.write(lambda c: order.append(4), hurry=False)  # which its patience ends
    assert groups == [4, 1]
    await asyncio.to_thread(db.close)
