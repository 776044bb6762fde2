"""The gallery over HTTP: search, pages, thumbnails, delete and its undoing, lineage, archives."""

from __future__ import annotations

import asyncio
import io
import json
import queue
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from PIL import Image

from helpers.served import (
    StubRunner,
    client_of,
    in_loop,
    picture,
    recipe_job,
    served,
    submitted,
    until_ended,
)
from sfumato.server import retention
from sfumato.server.runner import showing
from sfumato.server.runner.protocol import Finished, Happening, Made, Task
from sfumato.server.store import schema


async def made(client: Any, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
    """The ended jobs of these bodies."""
    return [await until_ended(client, await submitted(client, body)) for body in bodies]


async def found(client: Any, **query: Any) -> list[int | None]:
    """Seeds of the pictures that a search finds."""
    answer = await client.get("/v1/gallery", params=query)
    assert answer.status_code == 200, answer.text
    return [one["seed"] for one in answer.json()["pictures"]]


def chosen(*jobs: dict[str, Any]) -> dict[str, Any]:
    return {"pictures": [{"job": job["id"], "place": 0} for job in jobs]}


def edit(sha256: str) -> dict[str, Any]:
    return {"method": "sdedit", "image": {"sha256": sha256, "name": "a.png"}, "t0": 0.5}


@in_loop
async def test_pictures_come_in_pages_and_each_once(tmp_path: Path) -> None:
    """Keyset paging over jobs of several pictures; the total is of the first page."""
    async with served(tmp_path) as service, client_of(service) as client:
        await made(client, *(recipe_job(10 * k, n=3) for k in range(4)))
        first = (await client.get("/v1/gallery", params={"limit": 5})).json()
        assert first["total"] == 12
        seen, page = [*first["pictures"]], first
        while page["next"]:
            query = {"limit": 5, "before": page["next"]}
            page = (await client.get("/v1/gallery", params=query)).json()
            assert page["total"] is None
            seen += page["pictures"]
        assert [one["seed"] for one in seen] == [30, 31, 32, 20, 21, 22, 10, 11, 12, 0, 1, 2]
        assert seen[0]["prompt"] == "red apple"
        assert (seen[0]["width"], seen[0]["model"]) == (8, "emoji")


@in_loop
async def test_words_are_found_whatever_their_case_accents_and_endings(tmp_path: Path) -> None:
    """All words, anywhere in prompt or name; Korean within a word; by model and method."""
    async with served(tmp_path) as service, client_of(service) as client:
        upload = await client.post("/v1/images", files={"file": ("a.png", picture(99))})
        sha256 = upload.json()["sha256"]
        await made(
            client,
            recipe_job(1, "Café NOIR"),
            recipe_job(2, "빨간 사과가 있다"),
            {**recipe_job(3, "red apple"), "name": "My Fruit"},
            recipe_job(4, "blue house", methods=[edit(sha256)]),
        )
        assert await found(client, words="cafe noir") == [1]
        assert await found(client, words="사과") == [2]
        assert await found(client, words="fruit RED") == [3]
        assert await found(client, words="red cafe") == []
        assert await found(client, words="%") == []
        assert await found(client, method="sdedit") == [4]
        assert await found(client, method="cfg") == []
        assert await found(client, model="emoji", words="house") == [4]
        assert await found(client, model="moji") == []


@in_loop
async def test_a_deleted_picture_comes_back_or_goes_for_good(tmp_path: Path) -> None:
    """Gone from gallery and job at once, there again when undone, its bytes gone an hour later."""
    now = [1e9]
    async with served(tmp_path) as service, client_of(service) as client:
        service.kept.clock = lambda: now[0]
        a, b = await made(client, recipe_job(1), recipe_job(2))
        sha256 = a["results"][0]["sha256"]
        assert (await client.get(f"/v1/images/{sha256}/thumbnail")).status_code == 200
        assert (await client.post("/v1/gallery/delete", json=chosen(a, b))).status_code == 204
        assert await found(client) == []
        assert (await client.get(f"/v1/jobs/{a['id']}")).json()["results"] == []
        assert (await client.post("/v1/gallery/restore", json=chosen(b))).status_code == 204
        assert await found(client) == [2]
        now[0] += retention.UNDONE + 1
        await retention.tidy(service)
        assert (await client.get(f"/v1/images/{sha256}")).status_code == 404
        assert not list((tmp_path / "thumbnails").glob(f"*/{sha256}*"))
        gone = await client.post("/v1/gallery/restore", json=chosen(a))
        assert gone.status_code == 404
        assert gone.json()["detail"] == f"picture 1 of job {a['id']}: not here"
        assert gone.json()["field"] == "pictures.0"


@in_loop
async def test_a_job_at_work_keeps_its_pictures(tmp_path: Path) -> None:
    """What has not ended is not deleted from."""
    runner = StubRunner(pause=0.05)
    async with served(tmp_path, runner) as service, client_of(service) as client:
        id = await submitted(client, recipe_job(1, n=20))
        while not (await client.get(f"/v1/jobs/{id}")).json()["results"]:
            await asyncio.sleep(0.02)
        refused = await client.post("/v1/gallery/delete", json=chosen({"id": id}))
        assert refused.status_code == 409
        assert "has not ended" in refused.json()["detail"]
        await client.post(f"/v1/jobs/{id}/cancel", json={})


@in_loop
async def test_a_thumbnail_is_small_and_upright(tmp_path: Path) -> None:
    """WebP within its square, turned as the camera says, never larger than the picture."""
    buffer, tags = io.BytesIO(), Image.Exif()
    tags[0x0112] = 6
    Image.new("RGB", (600, 300), (200, 0, 0)).save(buffer, "JPEG", exif=tags)
    async with served(tmp_path) as service, client_of(service) as client:
        for data, size, expected in (
            (buffer.getvalue(), "small", (64, 128)),
            (buffer.getvalue(), "large", (256, 512)),
            (picture(1), "medium", (8, 8)),
        ):
            upload = await client.post("/v1/images", files={"file": ("a", data)})
            path = f"/v1/images/{upload.json()['sha256']}/thumbnail"
            for _ in range(2):  # made, and kept
                answer = await client.get(path, params={"size": size})
                assert answer.headers["content-type"] == "image/webp"
                assert "immutable" in answer.headers["cache-control"]
                assert Image.open(io.BytesIO(answer.content)).size == expected
        refused = await client.get(path, params={"size": "huge"})
        assert (refused.status_code, refused.json()["field"]) == (422, "size")


@in_loop
async def test_a_lineage_has_what_came_before_and_after(tmp_path: Path) -> None:
    """Upload -> edit -> edit of the edit, and a painting over the first edit by its parents."""
    async with served(tmp_path) as service, client_of(service) as client:
        upload = await client.post("/v1/images", files={"file": ("a.png", picture(99))})
        photo = upload.json()["sha256"]
        (first,) = await made(client, recipe_job(1, methods=[edit(photo)]))
        one = first["results"][0]["sha256"]
        (second,) = await made(client, recipe_job(2, methods=[edit(one)]))
        two = second["results"][0]["sha256"]
        over = await client.post("/v1/images", files={"file": ("b.png", picture(98))})
        painted = over.json()["sha256"]
        body = recipe_job(3, methods=[edit(painted)], parents=[one, "f" * 64])
        (third,) = await made(client, body)
        three = third["results"][0]["sha256"]
        for of in (photo, one, two, three):
            tree = (await client.get(f"/v1/images/{of}/lineage")).json()
            assert tree["whole"]
            steps = {(s["source"], s["made"]): s["role"] for s in tree["steps"]}
            assert steps[photo, one] == "sdedit.image"
            known = {p["sha256"]: p for p in tree["pictures"]}
            assert known[photo]["job"] is None
            assert known[one]["job"] == first["id"]
            if of != two:
                assert steps[one, three] == "parent"
            if of == three:
                assert set(known) == {photo, one, painted, three}


@in_loop
async def test_many_are_one_archive(tmp_path: Path) -> None:
    """Each picture byte for byte, with its recipe beside it."""
    async with served(tmp_path) as service, client_of(service) as client:
        jobs = await made(client, recipe_job(1, "a/b: 사과"), recipe_job(2))
        answer = await client.post("/v1/gallery/archive", json=chosen(*jobs))
        assert answer.headers["content-type"] == "application/zip"
        archive = zipfile.ZipFile(io.BytesIO(answer.content))
        names = ["1-a-b-사과-1.png", "1-a-b-사과-1.json", "2-red-apple-2.png", "2-red-apple-2.json"]
        assert archive.namelist() == names
        assert archive.read(names[0]) == picture(1)
        assert json.loads(archive.read(names[3]))["seed"] == 2


@in_loop
async def test_another_clients_pictures_are_not_there(tmp_path: Path) -> None:
    """Not in the gallery, not to be deleted, no thumbnail, no lineage."""
    tokens = {"a": "a" * 20, "b": "b" * 20}
    async with (
        served(tmp_path, tokens=tokens) as service,
        client_of(service, tokens["a"]) as a,
        client_of(service, tokens["b"]) as b,
    ):
        (job,) = await made(a, recipe_job(1))
        sha256 = job["results"][0]["sha256"]
        assert await found(b) == []
        for route in ("delete", "restore", "archive"):
            answer = await b.post(f"/v1/gallery/{route}", json=chosen(job))
            assert answer.status_code == 404
        for route in ("thumbnail", "lineage"):
            assert (await b.get(f"/v1/images/{sha256}/{route}")).status_code == 404
        assert await found(a) == [1]


@in_loop
async def test_pictures_of_the_former_schema_are_found(tmp_path: Path) -> None:
    """A database of version 2 is brought to this one, its prompts searched as new ones are."""
    former = sqlite3.connect(tmp_path / "server.db")
    former.executescript(schema.FIRST + schema.COSTS)
    former.execute(f"PRAGMA application_id = {schema.APPLICATION}")
    former.execute("PRAGMA user_version = 2")
    request = json.dumps({"kind": "recipe", **recipe_job(5, "Été")})
    former.execute(
        "INSERT INTO jobs (id, client, kind, state, phase, priority, position, request, created,"
        " attempt) VALUES (?, 'local', 'recipe', 'done', 'begin', 0, 1, ?, 1, 1)",
        ("a" * 20, request),
    )
    former.execute("INSERT INTO pictures VALUES (?, 3, 'image/png', 8, 8, 1)", ("b" * 64,))
    former.execute("INSERT INTO results VALUES (?, 0, '1.png', ?, 5)", ("a" * 20, "b" * 64))
    former.commit()
    former.close()
    async with served(tmp_path) as service, client_of(service) as client:
        assert await found(client, words="ete") == [5]


@in_loop
async def test_a_file_that_is_told_again_takes_its_own_place(tmp_path: Path) -> None:
    """A training's curves grow: the job has each file once, as it is now."""

    def tell(task: Task) -> list[Happening]:
        names = ["log.csv", "grid-000001.png", "log.csv", "log.csv"]
        return [*(Made(name, f"{k}".encode()) for k, name in enumerate(names)), Finished()]

    async with served(tmp_path, StubRunner(tell=tell)) as service, client_of(service) as client:
        (job,) = await made(client, recipe_job())
        assert [file["name"] for file in job["results"]] == ["log.csv", "grid-000001.png"]
        assert (await client.get(f"/v1/jobs/{job['id']}/files/log.csv")).content == b"3"


def test_what_a_training_writes_is_shown_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grids and numbers, each when it has changed, and no checkpoint."""
    monkeypatch.setattr(showing, "LOOKED_AT", 0.01)
    told: queue.SimpleQueue[Happening] = queue.SimpleQueue()
    with showing.shown(tmp_path, told.put):
        (tmp_path / "state.safetensors").write_bytes(b"weights")
        for text in ("step,loss\n1,0.5\n", "step,loss\n1,0.5\n2,0.4\n"):
            (tmp_path / "part").write_text(text)
            (tmp_path / "part").replace(tmp_path / "log.csv")
            assert told.get(timeout=5) == Made("log.csv", text.encode())
        (tmp_path / "part").write_bytes(b"png")
        (tmp_path / "part").replace(tmp_path / "grid-000002.png")
        assert told.get(timeout=5) == Made("grid-000002.png", b"png")
    assert told.empty()
