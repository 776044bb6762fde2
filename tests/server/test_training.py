"""A training as a job: the client's pictures, the trainer, the run's files."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import httpx

from helpers.adapters import of_a_style
from helpers.program import STROKES
from helpers.served import (
    StubRunner,
    client_of,
    events_of,
    listening,
    recipe_job,
    served,
    submitted,
    unhurried,
    until_ended,
)
from helpers.subjects import subject_config
from sfumato.server.events import ENDING
from sfumato.server.runner import teaching
from sfumato.server.runner.library import Library, Offer
from sfumato.server.runner.process import ProcessRunner
from sfumato.server.runner.protocol import Finished, Made, Said, Stepped, Task
from sfumato.server.runner.warm import Warm
from sfumato.train import origin


@pytest.mark.slow
def test_a_subject_is_learned_on_the_server(tmp_path: Path) -> None:
    """Uploaded, trained, its adapter and log among the results; another is cancelled."""

    async def ended(client: httpx.AsyncClient, id: str) -> dict[str, Any]:
        async for event in events_of(client, f"/v1/jobs/{id}/events"):
            if event["event"] in ENDING:
                break
        job: dict[str, Any] = (await client.get(f"/v1/jobs/{id}")).json()
        return job

    @unhurried
    async def go() -> None:
        runner = ProcessRunner("cpu", Offer({"emoji": "emoji"}, "cpu"))
        async with served(tmp_path, runner) as service, listening(service) as client:
            pictures = []
            for file in sorted(STROKES.glob("*.png"))[:2]:
                upload = {"file": (file.name, file.read_bytes())}
                made = (await client.post("/v1/images", files=upload)).json()
                pictures.append({"sha256": made["sha256"], "name": file.name})
            body = {"kind": "train", "config": subject_config(), "pictures": pictures}
            job = await ended(client, await submitted(client, body))
            assert job["state"] == "done", job
            names = [file["name"] for file in job["results"]]
            assert "done.json" in names
            assert any(name.endswith(".safetensors") for name in names)
            assert origin.CHECKPOINT in names
            while list((tmp_path / "runs").iterdir()):  # soon after it is told
                await asyncio.sleep(0.01)
            long = subject_config()
            long["optim"]["steps"] = 100_000
            id = await submitted(client, {**body, "config": long})
            async for event in events_of(client, f"/v1/jobs/{id}/events"):
                if event["event"] == "step" and event["i"] >= 1:
                    assert event["n"] == 100_000
                    await client.post(f"/v1/jobs/{id}/cancel", json={})
            job = (await client.get(f"/v1/jobs/{id}")).json()
            assert job["state"] == "cancelled"
            assert origin.CHECKPOINT in [file["name"] for file in job["results"]]

    go()


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

        def run(self, until: int | None, listens: bool) -> None:
            assert not listens
            folder, self.step = trainer["folder"], 2
            trainer["seen"] = sorted(file.name for file in trainer["data"].iterdir())
            (folder / "best").mkdir()
            (folder / "best" / "adapter.safetensors").write_bytes(b"weights")
            (folder / origin.CHECKPOINT).write_bytes(b"state")
            self.say(f"exported to {folder}/adapter.safetensors")
            assert looked_at.wait(60)

    monkeypatch.setattr("sfumato.train.trainer.Trainer", Trainer)
    monkeypatch.setattr(teaching, "LOOKED_AT", 0.01)
    file = STROKES / "red-apple.png"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    pictures = [{"sha256": sha256, "name": "a.png"}] * 2
    request = json.dumps({"kind": "train", "config": subject_config(), "pictures": pictures})
    told: list[Any] = []
    looked_at = threading.Event()

    def tell(happening: Any) -> None:
        told.append(happening)
        if isinstance(happening, Stepped) and happening.i == 2:
            looked_at.set()

    library = Library(Warm({"emoji": "emoji"}, "cpu"))
    library.perform(Task("a" * 20, 1, request, {sha256: file}), tell)
    assert isinstance(told[-1], Finished), told
    assert trainer["seen"] == ["2-a.png", "a.png"]
    assert 'tuner = "dreambooth"' in trainer["config"].text
    made = {one.name: one.data for one in told if isinstance(one, Made)}
    assert made == {"best/adapter.safetensors": b"weights", origin.CHECKPOINT: b"state"}
    assert Said("exported to adapter.safetensors") in told
    assert [(one.i, one.n) for one in told if isinstance(one, Stepped)][-1] == (2, 2)
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
                body = {
                    "kind": "train",
                    "config": {**subject_config(), **change},
                    "pictures": pictures,
                }
                answer = await client.post("/v1/jobs", json=body)
                assert answer.status_code == 422, answer.text
                assert said in answer.json()["detail"]

    asyncio.run(go())


def test_what_a_client_has_trained_is_its_own_to_use(tmp_path: Path) -> None:
    """An adapter by its hash, found under the recipe's name for it; another client's is not."""
    file = of_a_style(tmp_path)
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
