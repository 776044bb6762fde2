"""Several devices: jobs are shared out fairly, and one that dies takes no other."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import httpx
from PIL import Image

import sfumato as sf
from helpers.remote import Program
from helpers.served import (
    StubRunner,
    StubWork,
    client_of,
    in_loop,
    listening,
    recipe_job,
    served,
    submitted,
    until_ended,
)
from sfumato.core.errors import SfumatoError
from sfumato.server import serving
from sfumato.server.runner.process import ProcessRunner

DEVICES = ("cuda:0", "cuda:1")
TOKENS = {"phone": "p" * 20, "laptop": "l" * 20}


def test_each_device_has_a_runner_of_its_own() -> None:
    """As `serve --device cuda:0 --device cuda:1` makes them."""
    runners = serving.Offered(devices=DEVICES, offload="layers").runners()
    assert [runner.name for runner in runners] == list(DEVICES)
    made: Any = [runner.make for runner in runners]  # type: ignore[attr-defined]
    assert [offer.device for offer in made] == list(DEVICES)
    assert [offer().warm.offload for offer in made] == ["layers"] * 2


def test_a_device_that_is_not_there_is_said(tmp_path: Path) -> None:
    """In a line, before the server listens."""

    @in_loop
    async def go() -> None:
        runners = serving.Offered(devices=("cpu", "cuda:7")).runners()
        with pytest.raises(SfumatoError, match=r"runner cuda:7: .*not (available|there)"):
            async with served(tmp_path, *runners):
                pass

    import torch

    if torch.cuda.is_available():
        pytest.skip("there are cards here")
    go()


@in_loop
async def test_devices_share_the_jobs_of_all_clients(tmp_path: Path) -> None:
    """Both work as long as anything waits, and a client of few jobs does not wait for many."""
    holds = [asyncio.Event() for _ in DEVICES]
    runners = [StubRunner(name=name, hold=hold) for name, hold in zip(DEVICES, holds, strict=True)]
    async with (
        served(tmp_path, *runners, tokens=TOKENS) as service,
        client_of(service, TOKENS["phone"]) as phone,
        client_of(service, TOKENS["laptop"]) as laptop,
    ):
        many = [await submitted(phone, recipe_job(seed)) for seed in range(20)]
        few = [await submitted(laptop, recipe_job(seed)) for seed in range(100, 102)]
        assert len(list(service.kept.queue.running())) == 2
        for hold in holds:
            hold.set()
        for id in many:
            assert (await until_ended(phone, id))["state"] == "done"
        for id in few:
            assert (await until_ended(laptop, id))["state"] == "done"
        done = [[task.id for task in runner.tasks] for runner in runners]
        assert Counter(done[0] + done[1]) == Counter([*many, *few])
        assert min(map(len, done)) >= 8
        order = service.kept.db.read("SELECT id FROM jobs ORDER BY started, number")
        assert {row["id"] for row in order[:6]} >= set(few)


def test_a_device_that_dies_takes_no_other(tmp_path: Path) -> None:
    """Two processes: one is killed by its job, which the other may then do; all are done once."""

    @in_loop
    async def go() -> None:
        runners = [ProcessRunner(name, StubWork(0.01)) for name in DEVICES]
        async with served(tmp_path, *runners) as service, listening(service) as client:
            ids = [await submitted(client, recipe_job(seed)) for seed in range(6)]
            bad = await submitted(client, recipe_job(7, prompt="die"))
            ids += [await submitted(client, recipe_job(seed)) for seed in range(10, 16)]
            jobs = [await until_ended(client, id, 50) for id in ids]
            assert {job["state"] for job in jobs} == {"done"}
            assert {len(job["results"]) for job in jobs} == {1}
            lost = await until_ended(client, bad, 50)
            assert (lost["state"], lost["attempt"]) == ("interrupted", 3)
            told = service.kept.db.read("SELECT data FROM events WHERE event = 'started'")
            assert {json.loads(row["data"])["runner"] for row in told} == set(DEVICES)

    go()


@pytest.mark.slow
def test_serve_with_two_devices(tmp_path: Path) -> None:
    """The program with two of --device: both make pictures, each as the library makes it."""
    program = Program(tmp_path / "server", "--device", "cpu:0")  # beside "cpu"
    program.start()
    fields = {"steps": 2, "stages": 1}
    try:
        with httpx.Client(base_url=program.url, trust_env=False, timeout=60) as client:
            rows = [recipe_job(seed, **fields) for seed in range(8)]
            body = {"kind": "batch", "rows": rows}
            id = client.post("/v1/jobs", json=body).json()["id"]
            told = client.get(f"/v1/jobs/{id}/events", timeout=600).text
            for name in ("cpu", "cpu:0"):
                assert f'"runner":"{name}"' in told
            assert "event: done" in told
            children = client.get("/v1/jobs", params={"parent": id}).json()["jobs"][::-1]
            for seed, child in enumerate(children):
                made = client.get(f"/v1/jobs/{child['id']}/files/1.png").content
                recipe = sf.Recipe.from_data(recipe_job(seed, **fields)["recipe"])
                picture = sf.run(recipe).images[0]  # whose recipe names its device
                assert Image.open(io.BytesIO(made)).tobytes() == picture.tobytes()
    finally:
        program.stop()
