"""Trainings that are lost, stopped or begun again: they go on where they were, bit for bit."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from helpers.program import STROKES
from helpers.served import (
    StubRunner,
    client_of,
    in_loop,
    served,
    submitted,
    unhurried,
    until_ended,
)
from helpers.subjects import OPTIONS, subject_config
from helpers.training import RECIPE, data
from sfumato.cli.training_recipe import tables
from sfumato.server.requests import JobRequest
from sfumato.server.runner.library import Library, Offer
from sfumato.server.runner.process import ProcessRunner
from sfumato.server.runner.protocol import (
    Expanded,
    Failed,
    Finished,
    Happening,
    Made,
    RunnerLostError,
    Said,
    Stepped,
    Stopped,
    Task,
)
from sfumato.server.runner.warm import Warm
from sfumato.train import origin
from sfumato.train.config import parse
from sfumato.train.subject import class_pictures
from sfumato.train.trainer import Trainer
from sfumato.train.tuners.dreambooth import DreamBooth

__all__ = ["data"]

STEPS = 60
TIMED = ("log.csv", "curves.png", origin.CHECKPOINT, origin.FILE, origin.RECIPE)
"""Files of a run that tell its time, or its place."""


def captioned(folder: Path) -> tuple[list[dict[str, str]], dict[str, Path]]:
    """The pictures of a request, and where they are."""
    lines = (folder / "captions.csv").read_text().splitlines()[1:]
    rows = [line.split(",") for line in lines]
    files = {name: folder / name for name, _ in rows}
    hashes = {n: hashlib.sha256(file.read_bytes()).hexdigest() for n, file in files.items()}
    pictures = [{"sha256": hashes[n], "name": n, "caption": caption} for n, caption in rows]
    return pictures, {hashes[n]: file for n, file in files.items()}


def small(steps: int = STEPS, **more: Any) -> dict[str, Any]:
    made = tomllib.loads(RECIPE)
    made["optim"]["steps"] = steps
    made["run"] |= {"log": 20, "grid": 10_000, "judge": 10_000, **more}
    return made


def task_of(data: Path, folder: Path | None, **request: Any) -> Task:
    pictures, inputs = captioned(data)
    body = {"kind": "train", "config": small(), "pictures": pictures, **request}
    return Task("a" * 20, 1, json.dumps(body), inputs, folder=folder)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run here leaves that nobody disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    made = small()
    recipe = parse(made, RECIPE)
    Trainer(recipe, data, folder, say=lambda line: None).run()
    return untimed({f.relative_to(folder).as_posix(): f.read_bytes()
                    for f in folder.rglob("*") if f.is_file()})  # fmt: skip


def untimed(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without what tells how long it took."""
    return {
        name: re.sub(rb'"minutes": [0-9.]+', b"", content)
        for name, content in files.items()
        if name not in TIMED
    }


def made_of(told: list[Happening]) -> dict[str, bytes]:
    return {one.name: one.data for one in told if isinstance(one, Made)}


async def until_step(runner: ProcessRunner, task: Task, act: Callable[[], None]) -> list[Happening]:
    """All that is told; act: once some steps are done."""
    told: list[Happening] = []
    acted = False
    async for happening in runner.run(task):
        told.append(happening)
        if isinstance(happening, Stepped) and happening.i >= 25 and not acted:
            acted = True
            act()
    return told


def test_a_lost_training_goes_on_from_its_checkpoint(
    data: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Killed in the middle, it begins where it was saved, and its result is the same."""

    @unhurried
    async def go() -> None:
        runner = ProcessRunner("cpu", Offer({"emoji": "emoji"}, "cpu"))
        await runner.start()
        task = task_of(data, tmp_path / "kept")
        with pytest.raises(RunnerLostError):
            await until_step(runner, task, lambda: os.kill(runner.process.pid, signal.SIGKILL))
        assert (tmp_path / "kept" / "run" / origin.CHECKPOINT).is_file()
        await runner.start()
        told = [happening async for happening in runner.run(replace(task, attempt=2))]
        assert isinstance(told[-1], Finished), told[-1]
        resumed = [one.text for one in told if isinstance(one, Said) and "resumed" in one.text]
        assert resumed
        assert resumed != ["resumed at step 0"]
        assert untimed(made_of(told)) == whole
        await runner.close()

    go()


def test_a_training_that_is_stopped_leaves_what_it_goes_on_from(
    data: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Cancelled, its checkpoint comes; another job takes it up. Asked to finish, it is done."""

    @unhurried
    async def go() -> None:
        runner = ProcessRunner("cpu", Offer({"emoji": "emoji"}, "cpu"))
        await runner.start()
        task = task_of(data, tmp_path / "one", name="mine")
        told = await until_step(runner, task, lambda: runner.cancel(task.id))
        assert isinstance(told[-1], Stopped)
        left = made_of(told)
        assert origin.CHECKPOINT in left
        assert "done.json" not in left
        paths = {}
        for name, content in left.items():
            digest = hashlib.sha256(content).hexdigest()
            paths[name] = (digest, tmp_path / digest)
            paths[name][1].write_bytes(content)
        run = [{"name": name, "sha256": digest} for name, (digest, _) in paths.items()]
        again = task_of(data, None, run=run)
        again = replace(again, inputs={**again.inputs, **dict(paths.values())})
        told = [happening async for happening in runner.run(again)]
        assert isinstance(told[-1], Finished), told[-1]
        assert untimed(made_of(told)) == whole
        task = task_of(data, tmp_path / "two")
        told = await until_step(runner, task, lambda: runner.finish(task.id))
        assert isinstance(told[-1], Finished), told[-1]
        done = json.loads(made_of(told)["done.json"])
        assert 0 < done["step"] < STEPS
        assert {name for name in whole if not name.startswith("grid")} <= set(made_of(told))
        await runner.close()

    go()


def test_until_stops_a_training_there(data: Path, tmp_path: Path) -> None:
    """As --until does; the same job without it would go on."""
    told: list[Any] = []
    library = Library(Warm({"emoji": "emoji"}, "cpu"))
    library.perform(task_of(data, tmp_path / "kept", until=3), told.append)
    assert isinstance(told[-1], Finished), told[-1]
    assert origin.CHECKPOINT in made_of(told)
    assert "done.json" not in made_of(told)
    packed = json.loads(task_of(data, None).request) | {"pictures": [], "packed": "a" * 64}
    told.clear()
    library.perform(Task("b" * 20, 1, json.dumps(packed)), told.append)
    assert isinstance(told[-1], Failed)
    assert "another packed set" in told[-1].line


def test_class_pictures_are_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any device; the trainer finds them made, the same as those that it makes itself."""
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(DreamBooth, "judge", lambda self: {})  # these two take most of the time
    monkeypatch.setattr(DreamBooth, "show", lambda self, file: None)
    asked = subject_config()
    asked["subject"] |= {"prior": 1.0, "class_pictures": 3}
    asked["optim"] |= {"steps": 1, "batch": 2}
    file = STROKES / "red-apple.png"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    pictures = [{"sha256": sha256, "name": "a.png"}]
    request = json.dumps({"kind": "train", "config": asked, "pictures": pictures})
    library = Library(Warm({"emoji": "emoji"}, "cpu"))
    task = Task("a" * 20, 1, request, {sha256: file}, folder=tmp_path / "kept")
    told: list[Any] = []
    library.perform(task, told.append)
    (expanded,) = (one for one in told if isinstance(one, Expanded))
    assert expanded.names == (("0.png", "1.png"), ("2.png", "3.png"))
    files: dict[str, Path] = {}
    for child, names in zip(expanded.requests, expanded.names, strict=True):
        assert JobRequest.model_validate_json(child).job.kind == "recipe"
        made: list[Any] = []
        library.perform(Task("b" * 20, 1, child), made.append)
        assert isinstance(made[-1], Finished), made[-1]
        for name, content in zip(names, made_of(made).values(), strict=True):
            files[name] = tmp_path / name
            files[name].write_bytes(content)

    def unwanted(self: Any, *arguments: Any) -> Any:
        raise AssertionError("a class picture was made again")

    with monkeypatch.context() as patched:
        patched.setattr(class_pictures.Wanted, "seed_of", unwanted)
        told.clear()
        library.perform(replace(task, files=files), told.append)
    assert isinstance(told[-1], Finished), told[-1]
    cached = {f.name: f.read_bytes() for f in (tmp_path / "home").rglob("*.png")}
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "other"))
    told.clear()
    library.perform(replace(task, files={}, folder=None), told.append)
    assert isinstance(told[-1], Finished), told[-1]
    own = {f.name: f.read_bytes() for f in (tmp_path / "other").rglob("*.png")}
    assert sorted(own) == ["0000.png", "0001.png", "0002.png"]
    assert {name: cached[name] for name in own} == own


def test_a_training_with_children_is_one_job(tmp_path: Path) -> None:
    """Its class pictures come first, by any runner; then it is done itself, its files shown."""

    def tell(task: Task) -> list[Happening]:
        request = json.loads(task.request)
        if request["kind"] != "train":
            return [Made("1.png", STROKES.joinpath("red-apple.png").read_bytes(), 1), Finished()]
        if task.files is None:
            child = {"kind": "recipe", "recipe": {"model": "emoji", "prompt": "x"}}
            return [Expanded((json.dumps(child),), (("0.png",),))]
        assert list(task.files) == ["0.png"]
        assert task.folder == tmp_path / "runs" / task.id
        task.folder.mkdir(parents=True)
        return [Made("done.json", b"{}"), Finished()]

    @in_loop
    async def go() -> None:
        runner = StubRunner(tell=tell)
        async with served(tmp_path, runner) as service, client_of(service) as client:
            upload = {"file": ("a.png", STROKES.joinpath("red-apple.png").read_bytes())}
            made = (await client.post("/v1/images", files=upload)).json()
            pictures = [{"sha256": made["sha256"], "name": "a.png"}]
            body = {"kind": "train", "config": subject_config(), "pictures": pictures}
            job = await until_ended(client, await submitted(client, body))
            assert job["state"] == "done", job
            assert job["children"]["done"] == 1
            assert [file["name"] for file in job["results"]] == ["done.json"]
            async with asyncio.timeout(20):  # its folder goes once the job has ended
                while (tmp_path / "runs" / job["id"]).exists():
                    await asyncio.sleep(0.01)

    go()


def test_stop_and_keep_the_best(tmp_path: Path) -> None:
    """after_picture lets a training finish with what it has; it is done then, not cancelled."""

    @in_loop
    async def go() -> None:
        hold = asyncio.Event()
        runner = StubRunner(hold=hold, tell=lambda task: [Made("done.json", b"{}"), Finished()])
        async with served(tmp_path, runner) as service, client_of(service) as client:
            upload = {"file": ("a.png", STROKES.joinpath("red-apple.png").read_bytes())}
            made = (await client.post("/v1/images", files=upload)).json()
            pictures = [{"sha256": made["sha256"], "name": "a.png"}]
            body = {"kind": "train", "config": subject_config(), "pictures": pictures}
            id = await submitted(client, body)
            while runner.current != id:
                await asyncio.sleep(0.01)
            when = {"when": "after_picture"}
            assert (await client.post(f"/v1/jobs/{id}/cancel", json=when)).status_code == 200
            assert runner.finished == {id}
            assert not runner.cancelled
            hold.set()
            assert (await until_ended(client, id))["state"] == "done"

    go()


def test_a_training_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the program's own lines; without a noun, by what the pictures show."""
    from sfumato.cli.verbs.dreambooth import planned

    file = STROKES / "red-apple.png"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    pictures = [{"sha256": sha256, "name": "a.png"}]
    asked = subject_config()
    library = Library(Warm({"emoji": "emoji"}, "cpu"))
    request = json.dumps({"kind": "train", "config": asked, "pictures": pictures})
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(file.read_bytes())
    options = {**OPTIONS, "name": "zwx"}
    assert [model.own for model in library.ready().models] == [True]
    far = {**options, "model": "not-here", "steps": None}
    steps = [tables("in", far, own)["optim"]["steps"] for own in (None, lambda name: True)]
    assert steps == [800, 120]  # a server says of which kind its model is
    here = planned(parse(tables(str(tmp_path / "in"), options)))
    assert "\n".join(library.plan(request, {sha256: file})["sentences"]) == here
    asked["subject"]["noun"] = ""
    request = json.dumps({"kind": "train", "config": asked, "pictures": pictures})
    assert len(library.plan(request, {sha256: file})["nouns"]) == 3
