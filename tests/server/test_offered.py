"""Weights that methods name at a server: offered by name or hash, listed, and never by a path."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

import httpx
import torch
from PIL import Image
from safetensors.torch import save_file

import sfumato as sf
from helpers.adapters import of_a_style
from helpers.served import (
    StubRunner,
    client_of,
    happenings,
    in_loop,
    picture,
    recipe_job,
    served,
    submitted,
    task_of,
    until_ended,
)
from sfumato import methods
from sfumato.cli.remote.weights import referred
from sfumato.cli.scaled import shipping
from sfumato.core.errors import SfumatoError
from sfumato.methods import to_data
from sfumato.methods.asyrp import Asyrp
from sfumato.methods.common.named import weights_fields
from sfumato.methods.controlnet import ControlNet
from sfumato.recipe import Recipe
from sfumato.server.jobs import Kind, State
from sfumato.server.offering import Offering, offerings
from sfumato.server.requests import RecipeJob, Row, SweepJob
from sfumato.server.runner.library import Offer
from sfumato.server.runner.protocol import (
    Failed,
    Finished,
    Happening,
    Made,
    Ready,
    Task,
    WeightsInfo,
)
from sfumato.server.runner.replaying import replayed
from sfumato.server.runner.shelf import Shelf
from sfumato.server.runner.sweeping import cells
from sfumato.server.service import Service
from sfumato.server.states import new_id
from sfumato.server.store.records import New
from sfumato.server.trained import MADE
from sfumato.train.reads import names as known_tuners

A, B = "a" * 64, "b" * 64
SHIFT = WeightsInfo("smile.safetensors", A, 10, ("asyrp.file", "asyrp.also"))
HEAD = WeightsInfo("head.pt", B, 20, ("aesthetic.head",))


@dataclass
class Offers(StubRunner):
    """A stub that offers weights."""

    files: tuple[WeightsInfo, ...] = (SHIFT, HEAD)

    async def start(self) -> Ready:
        return replace(await super().start(), files=self.files)


def job(**entry: Any) -> dict[str, Any]:
    return recipe_job(methods=[{"method": "asyrp", **entry}])


def test_what_is_offered_is_said_by_the_command_line(tmp_path: Path) -> None:
    """METHOD, METHOD.FIELD or several; an adapter wherever one may be; one line for all else."""
    one, adapter = tmp_path / "one.safetensors", tmp_path / "lora.safetensors"
    for file in (one, adapter, tmp_path / "text.txt", tmp_path / "two" / "one.safetensors"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")
    assert Offering.of(f"asyrp={one}").fields == ("asyrp.file", "asyrp.also")
    both = Offering.of(f"ip_adapter.encoder,clip_guidance={tmp_path}")
    assert both.fields == ("ip_adapter.encoder", "clip_guidance.clip")
    assert Offering.of("controlnet=lllyasviel/sd-controlnet-canny").name.startswith("lllyasviel/")
    merged = offerings([f"asyrp.file={one}", f"boundary_diffusion={one}"], [adapter])
    assert [len(offering.fields) for offering in merged] == [2, 2]
    assert merged[1].fields == ("diffstyler.art", "sine.tuned")
    for text, said in {
        "one.safetensors": "write METHOD=FILE",
        "asyrp=": "write METHOD=FILE",
        f"asyrq={one}": r"no method with weights \(here it is asyrp\)",
        f"cfg={one}": "no method with weights",
        f"asyrp.image={one}": "asyrp names weights by file, also",
        f"asyrp={tmp_path / 'none'}": "no such file",
        f"asyrp={tmp_path / 'text.txt'}": "files end in",
    }.items():
        with pytest.raises(SfumatoError, match=said):
            offerings([text], [])
    with pytest.raises(SfumatoError, match=r"another is called one\.safetensors too"):
        offerings([f"asyrp={one}", f"asyrp={tmp_path / 'two' / 'one.safetensors'}"], [])


@in_loop
async def test_the_catalogue_says_what_is_offered(tmp_path: Path) -> None:
    """Weights with their hashes, fields with what they may name, methods that nobody can use."""
    async with served(tmp_path, Offers()) as service, client_of(service) as client:
        listed = (await client.get("/v1/models")).json()["weights"]
        assert [(one["name"], one["sha256"]) for one in listed] == [
            ("smile.safetensors", A), ("head.pt", B),
        ]  # fmt: skip
        methods = {one["id"]: one for one in (await client.get("/v1/methods")).json()["methods"]}
        lacking = {id for id, one in methods.items() if one["unavailable"]}
        assert lacking == {"boundary_diffusion", "controlnet", "ip_adapter"}
        assert "--weights controlnet=FILE" in methods["controlnet"]["unavailable"]
        asyrp = methods["asyrp"]["fields"]["properties"]
        assert asyrp["file"]["offered"] == asyrp["also"]["offered"] == ["smile.safetensors"]
        assert methods["aesthetic"]["fields"]["properties"]["head"]["offered"] == ["head.pt"]
        tuned = methods["sine"]["fields"]["properties"]["tuned"]
        assert (tuned["format"], tuned["offered"]) == ("denoiser", ["ink drawing", "emoji"])
    two = (Offers("one"), Offers("two", files=(replace(SHIFT, sha256=B), HEAD)))
    async with served(tmp_path / "two", *two) as service, client_of(service) as client:
        listed = (await client.get("/v1/models")).json()["weights"]
        assert [one["name"] for one in listed] == ["head.pt"], "the same on every device"


@in_loop
async def test_recipes_name_weights_by_name_or_hash(tmp_path: Path) -> None:
    """What is not offered to that field, a path, and another's file: one sentence each."""
    runner = Offers(tell=lambda task: made(task))

    def made(task: Task) -> Sequence[Happening]:
        if "leave" in task.request:
            return [Made("best/own.safetensors", b"weights"), Finished()]
        return happenings(task)

    tokens = {"mine": "a-token-of-some-length", "theirs": "b-token-of-some-length"}
    async with (
        served(tmp_path, runner, tokens=tokens) as service,
        client_of(service, tokens["mine"]) as mine,
        client_of(service, tokens["theirs"]) as theirs,
    ):
        adapter = {"file": "grin.safetensors", "sha256": A, "scale": 1.0}
        assert (await mine.post("/v1/jobs", json=recipe_job(adapters=[adapter]))).status_code == 202
        id = await submitted(mine, recipe_job(prompt="leave"))
        own = (await until_ended(mine, id))["results"][0]["sha256"]
        named = f"own.safetensors@sha256:{own}"
        for value in ("smile.safetensors", f"sha256:{A}", f"grin.safetensors@sha256:{A}", named):
            body = job(file=value, also=[value])
            ended = await until_ended(mine, await submitted(mine, body))
            assert ended["state"] == "done", value
            assert ended["recipe"]["methods"][0]["file"] == value
        assert own in runner.tasks[-1].inputs
        batch = {"kind": "batch", "rows": [job(file=named)]}
        await until_ended(mine, await submitted(mine, batch))
        assert own in runner.tasks[-1].inputs
        for value, said in {
            "other.safetensors": "not offered by this server; it offers smile.safetensors",
            "head.pt": "not offered",
            f"sha256:{B}": "not offered",
            f"x.pt@sha256:{own}": "not offered",
            "emoji": "not offered",
            "/etc/passwd": "no bare name",
            f"../x@sha256:{A}": "no bare name",
            f"..@sha256:{A}": "no bare name",
        }.items():
            answer = await mine.post("/v1/jobs", json=job(file=value))
            assert answer.status_code == 422, value
            assert said in answer.json()["detail"], value
        answer = await theirs.post("/v1/jobs", json=job(file=named))
        assert answer.status_code == 422, "another's training"
        assert (await theirs.post("/v1/jobs", json=job(file=f"sha256:{A}"))).status_code == 202


LEFT: dict[str, tuple[str, ...]] = {
    "controlnet": ("model/control.safetensors", "state.safetensors"),
    "ip_adapter": ("model/adapter.safetensors",),
    "boundary": ("model/boundary.safetensors",),
    "dreambooth": ("best/adapter.safetensors", "model/adapter.safetensors", "state.safetensors"),
    "classifier": ("model/classifier.safetensors",),
}


@in_loop
async def test_methods_may_name_what_ones_own_trainings_have_made(tmp_path: Path) -> None:
    """Of finished ones the best file by name and hash; a method is there by it, for that client."""
    told = {tuner: [Made(name, f"{tuner} {name}".encode()) for name in names]
            for tuner, names in LEFT.items()}  # fmt: skip

    def made(task: Task) -> Sequence[Happening]:
        request = json.loads(task.request)
        if request["kind"] != "train":
            return happenings(task)
        end = Failed("no more") if "fails" in request["name"] else Finished()
        return [*told[request["config"]["tuner"]], end]

    tokens = {"mine": "a-token-of-some-length", "theirs": "b-token-of-some-length"}
    async with (
        served(tmp_path, Offers(tell=made), tokens=tokens) as service,
        client_of(service, tokens["mine"]) as mine,
        client_of(service, tokens["theirs"]) as theirs,
    ):

        async def lacking(client: httpx.AsyncClient) -> set[str]:
            methods = (await client.get("/v1/methods")).json()["methods"]
            return {one["id"] for one in methods if one["unavailable"]}

        async def offered(client: httpx.AsyncClient, field: str) -> list[str]:
            methods = (await client.get("/v1/methods")).json()["methods"]
            id, _, name = field.partition(".")
            (fields,) = (one["fields"]["properties"] for one in methods if one["id"] == id)
            names: list[str] = fields[name]["offered"]
            return names

        before = await lacking(mine)
        assert before == {"boundary_diffusion", "controlnet", "ip_adapter"}
        await trained_by(service, "mine", "controlnet", "fails")
        assert await lacking(mine) == before, "what has failed is not offered"
        for tuner in LEFT:
            await trained_by(service, "mine", tuner, f"my {tuner}: 시험/1")
        assert await lacking(mine) == set()
        assert await lacking(theirs) == before
        (control,) = await offered(mine, "controlnet.file")
        sha256 = hashlib.sha256(b"controlnet model/control.safetensors").hexdigest()
        assert control == f"my-controlnet-시험-1.safetensors@sha256:{sha256}"
        (adapter,) = await offered(mine, "ip_adapter.file")
        assert adapter.startswith("my-ip_adapter-시험-1.safetensors@sha256:")
        for field in ("sine.tuned", "diffstyler.art"):
            (best,) = [name for name in await offered(mine, field) if "@" in name]
            digest = hashlib.sha256(b"dreambooth best/adapter.safetensors").hexdigest()
            assert best == f"my-dreambooth-시험-1.safetensors@sha256:{digest}"
        listed = (await mine.get("/v1/models")).json()["weights"]
        assert control in [one["name"] for one in listed]
        assert len((await theirs.get("/v1/models")).json()["weights"]) == 2
        hint = await uploaded(mine)
        entry = {"method": "controlnet", "hint": {"sha256": hint}, "file": control}
        ended = await until_ended(mine, await submitted(mine, recipe_job(methods=[entry])))
        assert ended["state"] == "done"
        entry["hint"] = {"sha256": await uploaded(theirs)}
        answer = await theirs.post("/v1/jobs", json=recipe_job(methods=[entry]))
        assert (answer.status_code, "not offered" in answer.json()["detail"]) == (422, True)


async def trained_by(service: Service, client: str, tuner: str, name: str) -> None:
    """A training that has ended, whose recipe nobody has read."""
    text = json.dumps({"kind": "train", "config": {"tuner": tuner, "model": {"start": "emoji"}},
                       "pictures": [], "name": name})  # fmt: skip
    job = New(new_id(), client, Kind.TRAIN, text, name=name)
    await service.dispatcher.states.insert([job])
    while not State(service.job(client, job.id).state).ended:
        await asyncio.sleep(0.01)


async def uploaded(client: httpx.AsyncClient) -> str:
    answer = await client.post("/v1/images", files={"file": ("hint.png", picture(1))})
    sha256: str = answer.json()["sha256"]
    return sha256


def test_files_of_trainings_are_those_that_tuners_leave() -> None:
    """By their own names; every field is one of weights, and every method that needs a file of a
    tuner's is among them."""
    tuners = {tuner: importlib.import_module(f"sfumato.train.tuners.{tuner}") for tuner in MADE}
    assert {tuner: module.FILE for tuner, module in tuners.items()} == {
        tuner: file for tuner, (file, _) in MADE.items()
    }
    fields = {
        f"{id}.{name}" for id, cls in methods.registry().items() for name in weights_fields(cls)
    }
    named = {field for _, of in MADE.values() for field in of}
    assert named <= fields
    with_file = [name for name in known_tuners() if hasattr(importlib.import_module(
        f"sfumato.train.tuners.{name}"), "FILE")]  # fmt: skip
    assert set(with_file) == set(MADE)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shift of the bundled model's bottleneck."""
    network: Any = sf.load("emoji", dtype="float32").denoiser.network
    channels = network.config.widths[-1]
    file = tmp_path_factory.mktemp("weights") / "smile.safetensors"
    save_file({"shift": torch.randn(channels, 1, 1)}, file)
    return file


def test_a_runner_makes_what_a_run_here_makes(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name and by hash, byte for byte, under the name that the recipe gives; of a sweep too."""
    offered = Offering.of(f"asyrp={weights}")
    library = Offer({"emoji": "emoji"}, "cpu", weights=(offered,))()
    (info,) = library.ready().files
    assert info.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    fields: Any = {"steps": 2, "stages": 1}

    def there(name: str, inputs: Any = None) -> bytes:
        entry = {"method": "asyrp", "file": name, "t_edit": 0.0}
        told: list[Happening] = []
        library.perform(task_of(3, "rose", inputs, methods=[entry], **fields), told.append)
        assert isinstance(told[-1], Finished), told[-1]
        return next(one.data for one in told if isinstance(one, Made))

    def here(name: str) -> bytes:
        Path(name).write_bytes(weights.read_bytes())
        entry = {"method": "asyrp", "file": name, "t_edit": 0.0}
        data = recipe_job(3, "rose", methods=[entry], **fields)["recipe"]
        return sf.run(Recipe.from_data(data)).images[0].encode("PNG")

    assert there("smile.safetensors") == there(f"sha256:{info.sha256}") == here(weights.name)
    mine = f"mine.safetensors@sha256:{info.sha256}"
    assert there(mine) == here("mine.safetensors")
    other = f"own.safetensors@sha256:{B}"
    assert there(other, {B: weights}) == here("own.safetensors")
    warm = library.warm
    entry = {"method": "asyrp", "file": mine, "also": [other]}
    recipe = Recipe.from_data(recipe_job(3, "rose", methods=[entry], **fields)["recipe"])
    sweep = SweepJob(kind="sweep", recipe=recipe, over="asyrp.strength=0,1")
    again = replayed(Row(recipe=recipe), {B: weights}, warm)
    for cell in cells(sweep, again, warm.shelf):
        (named,) = (m for m in cell.recipe.methods if m["method"] == "asyrp")
        assert (named["file"], named["also"]) == (mine, [other]), "a child finds them again"
        replayed(RecipeJob(recipe=cell.recipe), {B: weights}, warm)
    with pytest.raises(SfumatoError, match="not offered by this server"):
        replayed(RecipeJob(recipe=cell.recipe), {}, warm)


def test_an_adapter_is_known_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever name a client has it."""
    style = of_a_style(tmp_path)
    ink = tmp_path / "offered" / "ink.safetensors"
    ink.parent.mkdir()
    ink.write_bytes(style.read_bytes())
    (tmp_path / "mine.safetensors").write_bytes(style.read_bytes())
    sha256 = hashlib.sha256(style.read_bytes()).hexdigest()
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    fields: Any = {"steps": 1, "stages": 1, "adapters": [
        {"file": "mine.safetensors", "sha256": sha256, "scale": 0.5}]}  # fmt: skip
    there = Offer({"emoji": "emoji"}, "cpu", (ink,), weights=offerings([], [ink]))()
    told: list[Happening] = []
    there.perform(task_of(3, "rose", **fields), told.append)
    assert isinstance(told[-1], Finished), told[-1]
    here = sf.run(Recipe.from_data(recipe_job(3, "rose", **fields)["recipe"])).images[0]
    assert here.encode("PNG") in [one.data for one in told if isinstance(one, Made)]


def test_the_program_sends_hashes(tmp_path: Path) -> None:
    """What lies here by its hash, what does not by name; one line where it is not offered."""
    mine, other = tmp_path / "mine.safetensors", tmp_path / "other.safetensors"
    mine.write_bytes(b"smile")
    other.write_bytes(b"other")
    sha256 = hashlib.sha256(b"smile").hexdigest()
    files = (replace(SHIFT, sha256=sha256), HEAD)
    own: set[str] = set()
    server: Any = SimpleNamespace(
        weights=files, models={}, connection=SimpleNamespace(url="http://far"),
        has=lambda sha256: sha256 in own,
    )  # fmt: skip
    told = referred(server, Asyrp(mine, also=(SHIFT.name,)), {})
    assert told["file"] == f"mine.safetensors@sha256:{sha256}"
    assert told["also"] == [SHIFT.name]
    assert {**told, "file": 0, "also": 0} == {**to_data(Asyrp(mine)), "file": 0, "also": 0}
    same = tmp_path / "here" / SHIFT.name
    same.parent.mkdir()
    same.write_bytes(b"smile")
    assert referred(server, Asyrp(same), {})["file"] == SHIFT.name
    gone = {("asyrp.file", "gone.safetensors"): sha256}
    assert (
        referred(server, Asyrp("gone.safetensors"), gone)["file"]
        == f"gone.safetensors@sha256:{sha256}"
    )
    for value in (other, "gone.safetensors"):
        with pytest.raises(SfumatoError, match=r"asyrp.file = .* not offered by http://far; it "):
            referred(server, Asyrp(value), {})
    with pytest.raises(SfumatoError, match=r"controlnet.file = .*; it offers none"):
        referred(server, ControlNet(Image.new("RGB", (8, 8)), other), {})
    own.add(hashlib.sha256(b"other").hexdigest())
    assert referred(server, Asyrp(other), {})["file"].startswith("other.safetensors@sha256:")


def test_a_batch_on_a_cluster_takes_its_weights_along(tmp_path: Path) -> None:
    """Files by their hash, which the nodes' runners find among a task's inputs."""
    (tmp_path / "mine.safetensors").write_bytes(b"smile")
    method = Asyrp(tmp_path / "mine.safetensors", also=("org/name",))
    with shipping() as inputs:
        entry = to_data(method)
    sha256 = hashlib.sha256(b"smile").hexdigest()
    assert (entry["file"], entry["also"]) == (f"mine.safetensors@sha256:{sha256}", ["org/name"])
    assert inputs == {sha256: tmp_path / "mine.safetensors"}
    shelf = Shelf()
    link = Path(shelf.finder(inputs)(entry["file"]) or "")
    assert (link.name, link.read_bytes()) == ("mine.safetensors", b"smile")
    assert to_data(method)["file"] == "mine.safetensors"


def test_without_a_server_a_hash_is_refused() -> None:
    """One line that says what to do."""
    from sfumato.methods import from_data

    with pytest.raises(SfumatoError, match="by which only a server knows its own; name the file"):
        from_data({"method": "asyrp", "file": f"x.safetensors@sha256:{A}"})
