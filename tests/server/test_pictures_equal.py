"""What the server makes of the bundled model is what the library makes, byte for byte."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import sfumato as sf
from helpers.program import STROKES, call
from helpers.served import client_of, served, submitted, until_ended
from sfumato.recipe.store import keep
from sfumato.server.runner.library import Offer
from sfumato.server.runner.process import ProcessRunner

STROKE = next(STROKES.glob("*.png"))


def recipe(sha256: str, **more: Any) -> dict[str, Any]:
    method = {"method": "sdedit", "image": {"sha256": sha256, "name": STROKE.name}, "t0": 0.5}
    return {"model": "emoji", "prompt": "red apple", "seed": 3, "steps": 2, "stages": 1,
            "methods": [method], **more}  # fmt: skip


async def run(folder: Path, *bodies: Any) -> list[dict[str, bytes]]:
    """Files of each job by name; a body is made of the hash of the stroke."""
    runner = ProcessRunner("cpu", Offer({"emoji": "emoji"}, "cpu"))
    async with served(folder, runner) as service, client_of(service) as client:
        upload = await client.post("/v1/images", files={"file": (STROKE.name, STROKE.read_bytes())})
        sha256 = upload.json()["sha256"]
        made = []
        for body in bodies:
            id = await submitted(client, body(sha256))
            job = await until_ended(client, id, 120)
            assert job["state"] == "done", job
            made.append({
                file["name"]: (await client.get(f"/v1/jobs/{id}/files/{file['name']}")).content
                for file in job["results"]
            })  # fmt: skip
        plan = await client.post("/v1/plan", json={"recipe": recipe(sha256)})
        assert plan.json()["calls"] == 2, plan.text
        return made


def test_pictures_and_sweeps_are_the_librarys(tmp_path: Path, app: Any) -> None:
    """One way to make pictures: a recipe's of two, and all files of a sweep."""
    over = "sdedit.t0=0.4,0.6"
    pair, swept = asyncio.run(run(
        tmp_path / "server",
        lambda sha256: {"recipe": recipe(sha256, n=2)},
        lambda sha256: {"kind": "sweep", "recipe": recipe(sha256), "over": over, "seeds": 2},
    ))  # fmt: skip
    keep(STROKE.read_bytes())
    result = sf.run(sf.Recipe.from_data(recipe(sf.images.ImageInput.of(STROKE).sha256, n=2)))
    assert list(pair.values()) == [image.encode("PNG") for image in result.images]
    folder = tmp_path / "local"
    options = ["--t0", "0.5", "--steps", "2", "--stages", "1", "--seed", "3", "--seeds", "2"]
    made = ("--over", over, "-o", str(folder))
    local = call(app, "sweep", "sdedit", str(STROKE), "-p", "red apple", *options, *made)
    assert local.exit_code == 0, local.output
    files = {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }
    assert sorted(swept) == sorted(files)
    assert not [name for name in files if swept[name] != files[name]]
