"""Clients that are generated from the document: the Python one runs, the others are read."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from helpers.missing import missing
from helpers.served import StubRunner, in_loop, listening, picture, served

ROOT = Path(__file__).parents[2]
TOKEN = "p" * 20
MADE_UP = re.compile(r"(Any|One|All)_?[Oo]f\d*(Enum)?$|Inline|Type_?\d|(Model|Job|Response)_?\d")
"""Names of things that the document has none for."""
MORE = {"AnyOf", "OneOf"}  # of Dart's package one_of


def generated(client: str, folder: Path) -> Path:
    """The client, made anew; where its generator is not installed that is said."""
    command = [sys.executable, str(ROOT / "tools" / "clients.py"), client, "--to", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.stderr.startswith("clients: "):
        missing(made.stderr.strip(), client != "typescript" or shutil.which("npm") is not None)
    assert made.returncode == 0, made.stderr
    return folder / client


def names_of(document: dict[str, Any]) -> Iterator[str]:
    for name, schema in document["components"]["schemas"].items():
        assert schema["title"] == name
        yield name


@in_loop
async def test_the_document_names_all_its_parts(tmp_path: Path) -> None:
    """Every schema is named as it is called, every operation has one tag; bodies by name."""
    async with served(tmp_path) as service, listening(service) as client:
        document = (await client.get("/openapi.json")).json()
    names = list(names_of(document))
    assert not [name for name in names if MADE_UP.search(name)]
    operations = [o for path in document["paths"].values() for o in path.values()]
    assert len({o["operationId"] for o in operations}) == len(operations)
    for operation in operations:
        assert len(operation["tags"]) == 1
        assert operation["summary"]
        for media, content in operation.get("requestBody", {"content": {}})["content"].items():
            assert media in ("application/json", "multipart/form-data")
            assert "$ref" in content["schema"]
    assert '"itemSchema"' not in json.dumps(document)


def test_the_python_client_runs_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log in, upload, submit, wait, fetch; what is refused is a Problem."""
    folder = generated("python", tmp_path)
    files = [file.stem for file in folder.rglob("models/*.py")]
    assert len(files) > 50
    assert not [name for name in files if MADE_UP.search(name)]
    monkeypatch.syspath_prepend(str(folder))

    @in_loop
    async def run() -> None:
        async with (
            served(tmp_path / "server", StubRunner(), tokens={"phone": TOKEN}) as service,
            listening(service) as client,
        ):
            assert await asyncio.to_thread(ran, str(client.base_url)) == picture(7)

    run()


def ran(url: str) -> bytes:
    """What the client of a server gets for a job."""
    package: Any = importlib.import_module("sfumato_client")
    models: Any = importlib.import_module("sfumato_client.models")
    types: Any = importlib.import_module("sfumato_client.types")

    def api(name: str) -> Any:
        return importlib.import_module(f"sfumato_client.api.{name}")

    with package.Client(base_url=url) as client:
        refused = api("session.who_am_i").sync(client=client)
        assert isinstance(refused, models.Problem)
        assert (refused.status, refused.field) == (401, "Authorization")
        session = api("session.login").sync(client=client, body=models.LoginRequest(TOKEN))
        assert session.client == "phone"
        file = types.File(io.BytesIO(picture(40, (64, 64))), "a.png", "image/png")
        guide = api("pictures.upload_image").sync(client=client, body=models.ImageUpload(file))
        image = models.PictureRef(sha256=guide.sha256, name="a.png")
        method = models.SDEditMethod(method="sdedit", image=image, t0=0.6)
        recipe = models.Recipe(model="emoji", prompt="red apple", seed=7, methods=[method])
        body = models.RecipeJob(kind="recipe", recipe=recipe)
        plan = api("catalogue.plan_job").sync(client=client, body=body)
        assert plan.calls == 3
        job = api("jobs.submit_job").sync(client=client, body=body)
        while job.state in (models.State.QUEUED, models.State.RUNNING):
            time.sleep(0.02)
            job = api("jobs.get_job").sync(client=client, id=job.id)
        assert job.state is models.State.DONE
        again = api("jobs.get_job_request").sync(client=client, id=job.id)
        assert again.recipe.methods == recipe.methods
        fetched = api("pictures.get_image").sync(client=client, sha256=job.results[0].sha256)
        data: bytes = fetched.payload.read()
        return data


def test_types_of_typescript_compile(tmp_path: Path) -> None:
    """schema.ts, and the code that uses it."""
    folder = generated("typescript", tmp_path)
    for name in ("tsconfig.json", "use.ts"):
        shutil.copy(ROOT / "clients" / "typescript" / name, folder)
    tsc = ROOT / "clients" / "typescript" / "node_modules" / ".bin" / "tsc"
    made = subprocess.run([tsc, "--noEmit"], cwd=folder, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout


def test_each_dart_file_can_be_read(tmp_path: Path) -> None:
    """It parses, and names no class of this package that is nowhere written."""
    tree_sitter = pytest.importorskip("tree_sitter")
    dart = pytest.importorskip("tree_sitter_dart")
    folder = generated("flutter", tmp_path)
    parser = tree_sitter.Parser(tree_sitter.Language(dart.language()))
    declared, named, files = set(), set(), sorted(folder.rglob("*.dart"))
    assert len(files) > 80
    for file in files:
        assert not MADE_UP.search(file.stem), file
        tree = parser.parse(file.read_bytes())
        assert not tree.root_node.has_error, file
        text = file.read_text()
        declared |= set(re.findall(r"\b(?:class|enum|extension|mixin|typedef) (\w+)", text))
        named |= set(re.findall(r"FullType(?:\.nullable)?\((\w+)[,)]", text))
        named |= set(re.findall(r"Future<Response<(\w+)>>", text))
    known = {"BuiltList", "BuiltMap", "BuiltSet", "DateTime", "Date", "JsonObject", "MultipartFile",
             "String", "Uint8List", "bool", "int", "num", "void", "type"}  # fmt: skip
    assert named - declared - known - MORE == set()
    assert "required MultipartFile file" in (folder / "lib/src/api/pictures_api.dart").read_text()
    spec = (folder / "pubspec.yaml").read_text()
    assert spec.startswith("name: sfumato_client\n")
    page = (ROOT / "docs" / "clients.md").read_text()
    code = "\n".join(re.findall(r"(?ms)^```dart\n(.*?)^```$", page))
    assert not parser.parse(code.encode()).root_node.has_error
    whole = "\n".join(file.read_text() for file in files)
    used = set(re.findall(r"\b([A-Z]\w+)\(\(b\)|\bget(\w+Api)\(|\bis ([A-Z]\w+)", code))
    for name in {name for names in used for name in names} - {"", "String", "Map"}:
        assert re.search(rf"\bclass {name}\b", whole), name
    for call in re.findall(r"Api\(\)\s*\.(\w+)\(", code):
        assert re.search(rf"> {call}\(", whole), call
