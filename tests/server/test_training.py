"""A training as a job: the client's pictures, the trainer, the run's files."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import sfumato as sf
from helpers.program import STROKES
from helpers.served import (
    StubRunner,
    client_of,
    events_of,
    listening,
    recipe_job,
    served,
    submitted,
    until_ended,
)
from sfumato.cli.training_recipe import tables
from sfumato.server.runner import teaching
from sfumato.server.runner.library import Library, Offer
from sfumato.server.runner.process import ProcessRunner
from sfumato.server.runner.protocol import Finished, Made, Said, Stepped, Task
from sfumato.server.runner.warm import Warm
from sfumato.train import origin

OPTIONS: dict[str, Any] = {
    "model": "emoji", "noun": "apple", "name": "zwx", "steps": 2, "batch": 1, "prior": 0.0,
    "rank": 2, "vectors": None, "rate": None, "seed": None, "word": False, "text": False,
    "class_pictures": None, "class_folder": None, "output": "subject",
}  # fmt: skip


def config() -> dict[str, Any]:
    """What the program makes of its options, without the folders."""
    made = tables("unused", OPTIONS)
    del made["subject"]["pictures"], made["subject"]["class_folder"]
    made["run"] |= {"grid": 1000, "judge": 1000}  # neither draws nor measures
    return made


@pytest.mark.slow
def test_a_subject_is_learned_on_the_server(tmp_path: Path) -> None:
    """Uploaded, trained, its adapter and log among the results; another is cancelled."""

    async def go() -> None:
        runner = ProcessRunner("cpu", Offer({"emoji": "emoji"}, "cpu"))
        async with served(tmp_path, runner) as service, listening(service) as client:
            pictures = []
            for file in sorted(STROKES.glob("*.png"))[:2]:
                upload = {"file": (file.name, file.read_bytes())}
                made = (await client.post("/v1/images", files=upload)).json()
                pictures.append({"sha256": made["sha256"], "name": file.name})
            body = {"kind": "train", "config": config(), "pictures": pictures}
            job = await until_ended(client, await submitted(client, body), 100)
            assert job["state"] == "done", job
            names = [file["name"] for file in job["results"]]
            assert "done.json" in names
            assert any(name.endswith(".safetensors") for name in names)
            assert origin.CHECKPOINT not in names
            long = config()
            long["optim"]["steps"] = 100_000
            id = await submitted(client, {**body, "config": long})
            async for event in events_of(client, f"/v1/jobs/{id}/events"):
                if event["event"] == "step" and event["i"] >= 1:
                    assert event["n"] == 100_000
                    await client.post(f"/v1/jobs/{id}/cancel", json={})
            assert (await until_ended(client, id))["state"] == "cancelled"

    asyncio.run(go())


def test_the_trainer_gets_the_pictures_and_its_files_are_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under names of their own, progress told, nothing of the server's folders said."""
    trainer: dict[str, Any] = {}

    class Trainer:
        step = 0

        def __init__(self, config: Any, data: Path, folder: Path, device: str, say: Any) -> None:
            trainer.update(config=config, data=data, folder=folder)
            self.say = say

        def run(self) -> None:
            folder, self.step = trainer["folder"], 2
            trainer["seen"] = sorted(file.name for file in trainer["data"].iterdir())
            (folder / "best").mkdir()
            (folder / "best" / "adapter.safetensors").write_bytes(b"weights")
            (folder / origin.CHECKPOINT).write_bytes(b"state")
            self.say(f"exported to {folder}/adapter.safetensors")
            time.sleep(3 * teaching.LOOKED_AT)

    monkeypatch.setattr("sfumato.train.trainer.Trainer", Trainer)
    monkeypatch.setattr(teaching, "LOOKED_AT", 0.01)
    file = STROKES / "red-apple.png"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    pictures = [{"sha256": sha256, "name": "a.png"}] * 2
    request = json.dumps({"kind": "train", "config": config(), "pictures": pictures})
    told: list[Any] = []
    library = Library(Warm({"emoji": "emoji"}, "cpu"))
    library.perform(Task("a" * 20, 1, request, {sha256: file}), told.append)
    assert isinstance(told[-1], Finished), told
    assert trainer["seen"] == ["2-a.png", "a.png"]
    assert 'tuner = "dreambooth"' in trainer["config"].text
    made = {one.name: one.data for one in told if isinstance(one, Made)}
    assert made == {"best/adapter.safetensors": b"weights"}
    assert Said("exported to adapter.safetensors") in told
    assert [(one.i, one.n) for one in told if isinstance(one, Stepped)] == [(2, 2)]
    assert not trainer["folder"].exists()


def test_a_training_that_cannot_be_is_refused_at_once(tmp_path: Path) -> None:
    """By the reader of training recipes; folders of the server cannot be named."""

    async def go() -> None:
        async with served(tmp_path) as service, client_of(service) as client:
            file = STROKES / "red-apple.png"
            upload = {"file": (file.name, file.read_bytes())}
            sha256 = (await client.post("/v1/images", files=upload)).json()["sha256"]
            pictures = [{"sha256": sha256}]
            for change, said in (
                ({"tuner": "diffusion"}, "tuner"),
                ({"optim": {"steps": -1}}, "steps"),
                ({"model": {"start": "../other"}}, "not offered"),
                ({"model": {"start": "emoji", "tokenizer": "/etc/passwd"}}, "tokenizer"),
                ({"unknown": 1}, "unknown"),
                ({"subject": []}, "subject"),
            ):
                body = {"kind": "train", "config": {**config(), **change}, "pictures": pictures}
                answer = await client.post("/v1/jobs", json=body)
                assert answer.status_code == 422, answer.text
                assert said in answer.json()["detail"]

    asyncio.run(go())


def test_what_a_client_has_trained_is_its_own_to_use(tmp_path: Path) -> None:
    """An adapter by its hash, found under the recipe's name for it; another client's is not."""
    file = Path(str(sf.__file__)).parent / "models" / "emoji" / "art.safetensors"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    adapters = [{"file": "mine.safetensors", "sha256": sha256, "scale": 1.0}]
    body = recipe_job(adapters=adapters, steps=1, stages=1)
    told: list[Any] = []
    library = Library(Warm({"emoji": "emoji"}, "cpu"))
    library.perform(Task("a" * 20, 1, json.dumps({"kind": "recipe", **body}), {sha256: file}),
                    told.append)  # fmt: skip
    assert isinstance(told[-1], Finished), told[-1]
    assert b"mine.safetensors" in next(one.data for one in told if isinstance(one, Made))

    async def go() -> None:
        made = [Made("adapter.safetensors", file.read_bytes()), Finished()]
        runner = StubRunner(tell=lambda task: made)
        tokens = {"phone": "p" * 20, "laptop": "l" * 20}
        async with (
            served(tmp_path, runner, tokens=tokens) as service,
            client_of(service, tokens["phone"]) as phone,
            client_of(service, tokens["laptop"]) as laptop,
        ):
            assert (await phone.post("/v1/jobs", json=body)).status_code == 422
            await until_ended(phone, await submitted(phone, recipe_job()))
            await until_ended(phone, await submitted(phone, body))
            assert runner.tasks[-1].inputs[sha256].read_bytes() == file.read_bytes()
            assert (await laptop.post("/v1/jobs", json=body)).status_code == 422

    asyncio.run(go())
