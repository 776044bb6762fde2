"""The server against its own document: schemathesis, all checks, stateful, on a port."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("schemathesis")

from helpers.served import StubRunner, listening, served, until_ended
from sfumato.server.service import Service
from sfumato.server.settings import Limits

CONFIG = """
hooks = "hooks.py"

[checks.positive_data_acceptance]
# What no schema can say is 422: a hash of no picture that was uploaded, a model that is not
# offered, methods that exclude one another.
expected-statuses = ["2xx", "401", "403", "404", "409", "422", "5xx"]

[checks.negative_data_rejection]
# As it is by default, and 413: of more pictures than may be, the body alone is too large.
expected-statuses = [
    "400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx",
]

[[operations]]
# A job's files come when it has made them, which no document can say.
include-operation-id = ["getJobFile"]
checks.ensure_resource_availability.enabled = false
"""
HOOKS = """
import schemathesis

@schemathesis.hook
def before_call(context, case, kwargs):
    # The document asks for a kind, which generators of clients need, and the server does without.
    if isinstance(case.body, dict) and "recipe" in case.body:
        case.body.setdefault("kind", "none")
"""
SHORT = """
[[operations]]
# Thousands of ways to get a recipe wrong, which the long run tries.
include-operation-id = ["submitJob", "planJob"]
phases.coverage.enabled = false

[phases.stateful.generation]
max-examples = 20
"""
STREAM = 0.3  # seconds after which streams are cut, as those of jobs that wait have no end


async def cut(service: Service) -> None:
    while True:
        await asyncio.sleep(STREAM)
        service.kept.hub.close()


async def attacked(folder: Path, settings: str, *words: str) -> None:
    """It finds nothing wrong with a server, which works after all of it."""
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG + settings)
    (folder / "hooks.py").write_text(HOOKS)
    import_module("sfumato.train.config")  # which takes seconds, and the first training must wait
    limits = Limits(rate=1e6, burst=1_000_000)
    async with (
        served(folder / "server", StubRunner(), limits=limits) as service,
        listening(service) as client,
    ):
        cutting = asyncio.create_task(cut(service))
        command = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "--no-color",
            "run",
            f"{client.base_url}/openapi.json",
            "--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure",
            "--request-timeout", "60",
            *words,
            cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            output, _ = await command.communicate()
        finally:
            cutting.cancel()
            if command.returncode is None:
                command.kill()
        await client.post("/v1/queue/resume")
        answer = await client.post("/v1/jobs", json={"recipe": {"model": "emoji", "prompt": "x"}})
        await until_ended(client, answer.json()["id"], 60)  # after all that it is at work
    assert command.returncode == 0, output.decode()


def run(folder: Path, seconds: float, settings: str, *words: str) -> None:
    asyncio.run(asyncio.wait_for(attacked(folder, settings, *words), seconds))


def test_the_server_does_as_its_document_says(tmp_path: Path) -> None:
    """Every operation, right and wrong data, chains of them."""
    run(tmp_path, 240, SHORT, "--seed", "20", "--max-examples", "5")


@pytest.mark.slow
def test_the_server_does_as_its_document_says_for_long(tmp_path: Path) -> None:
    """The same, with other data each time."""
    run(tmp_path, 1800, "", "--max-examples", "50")
