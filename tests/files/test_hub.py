"""The network and the files: pull from a hub on this machine, offline, export, convert."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
import torch
from safetensors.torch import load_file

import sfumato as sf
from helpers import pipelines
from sfumato.core.errors import SfumatoError
from sfumato.models.files import hub

COMMIT = "c" * 40
UNET = "unet/diffusion_pytorch_model.safetensors"


@dataclass
class Served:
    """A hub with one repository. cut: bytes after which the network's connection breaks, once and
    then for good until it is 0; ranges: of every request for the network."""

    files: dict[str, bytes]
    cut: int = 0
    broken: bool = False
    spoilt: bool = False
    ranges: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def sibling(self, path: str) -> dict[str, Any]:
        data = self.files[path]
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        made: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": blob}
        if path.endswith((".safetensors", ".bin")):
            digest = hashlib.sha256(data).hexdigest()
            made["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 130}
        return made

    def etag(self, path: str) -> str:
        found = self.sibling(path)
        return str(found["lfs"]["sha256"] if "lfs" in found else found["blobId"])


def handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def send(self, code: int, body: bytes, **headers: Any) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlparse(self.path).path)
            served.asked.append(path)
            if path.startswith("/api/models/some/pipeline/tree"):
                return self.tree()
            if path.startswith("/api/models/some/pipeline"):
                info = {
                    "id": "some/pipeline", "modelId": "some/pipeline", "sha": COMMIT,
                    "private": False, "tags": [], "downloads": 0, "likes": 0,
                    "siblings": [served.sibling(name) for name in served.files],
                }  # fmt: skip
                return self.send(200, json.dumps(info).encode(), Content_Type="application/json")
            _, _, name = path.partition(f"/resolve/{COMMIT}/")
            if name not in served.files:
                return self.send(404, b"{}", X_Error_Code="RepoNotFound")
            return self.file(name)

        def tree(self) -> None:
            entries = []
            for name in served.files:
                found = served.sibling(name)
                entry = {
                    "type": "file",
                    "path": name,
                    "size": found["size"],
                    "oid": found["blobId"],
                }
                if lfs := found.get("lfs"):
                    entry["lfs"] = {"oid": lfs["sha256"], "size": lfs["size"], "pointerSize": 130}
                entries.append(entry)
            self.send(200, json.dumps(entries).encode(), Content_Type="application/json")

        def file(self, name: str) -> None:
            data = served.files[name]
            etag = f'"{served.etag(name)}"'
            if served.spoilt and name == UNET:
                data = bytes(len(data))
            common = {"ETag": etag, "X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
            if self.command == "HEAD":
                return self.send(200, data, **common)
            given = self.headers.get("Range", "bytes=0-")
            first = int(given.removeprefix("bytes=").partition("-")[0] or 0)
            if name == UNET:
                served.ranges.append(first)
                if served.broken:
                    return self.send(503, b"later")
                if served.cut:
                    served.broken = True
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(data)))
                    for key, value in common.items():
                        self.send_header(key.replace("_", "-"), value)
                    self.end_headers()
                    self.wfile.write(data[: served.cut])
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return None
            if first:
                span = f"bytes {first}-{len(data) - 1}/{len(data)}"
                return self.send(206, data[first:], Content_Range=span, **common)
            return self.send(200, data, **common)

    return Handler


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A pipeline as a repository has it, with what nobody needs."""
    folder = tmp_path_factory.mktemp("repository")
    pipelines.stable(folder, "sd1")
    root = folder / "pipeline"
    found = {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}
    weights = found[UNET]
    found["unet/diffusion_pytorch_model.bin"] = weights
    found["unet/diffusion_pytorch_model.fp16.safetensors"] = weights
    found["v1-5-pruned.safetensors"] = weights
    found["safety_checker/model.safetensors"] = weights
    found["feature_extractor/preprocessor_config.json"] = b"{}"
    found["image_encoder/config.json"] = b"{}"
    found["image_encoder/model.safetensors"] = b"weights of an image encoder"
    found["image_encoder/pytorch_model.bin"] = b"the same once more"
    found["README.md"] = b"# a model"
    return found


@pytest.fixture
def served(files: dict[str, bytes]) -> Iterator[tuple[Served, str]]:
    hub_ = Served(dict(files))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub_))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield hub_, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def call(home: Path, endpoint: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own: the hub's library reads its settings at import."""
    given = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "COLUMNS": "200", **env}
    given |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_ETAG_TIMEOUT": "5"}
    return subprocess.run(
        [sys.executable, "-m", "sfumato.cli.main", *args],
        env=given, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


NOWHERE = "http://127.0.0.1:9"


def test_pull_fetches_what_loads_and_then_needs_no_network(
    served: tuple[Served, str], tmp_path: Path
) -> None:
    remote, endpoint = served
    before = call(tmp_path, endpoint, "info", "some/pipeline")
    assert before.returncode == 1
    assert "sfumato models pull some/pipeline` or --download" in before.stderr
    assert remote.asked == [], "loading alone asks nobody"
    made = call(tmp_path, endpoint, "models", "pull", "some/pipeline")
    assert made.returncode == 0, made.stderr
    folder = Path(made.stdout.strip())
    names = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}
    assert {UNET, "model_index.json", "scheduler/scheduler_config.json"} <= names
    assert not any("fp16" in n or n.endswith(".bin") or "safety" in n for n in names)
    assert not any(n.startswith("feature_extractor") for n in names)
    assert {"image_encoder/config.json", "image_encoder/model.safetensors"} <= names
    assert "v1-5-pruned.safetensors" not in names
    info = call(tmp_path, NOWHERE, "info", "some/pipeline", "--json", HF_HUB_OFFLINE="1")
    assert json.loads(info.stdout)["title"] == "Stable Diffusion (eps)", info.stderr
    listed = call(tmp_path, NOWHERE, "models")
    group = "Here, pulled from the hub:\n  some/pipeline  StableDiffusionPipeline\n"
    assert group in listed.stdout
    offline = call(tmp_path, endpoint, "models", "pull", "some/pipeline", HF_HUB_OFFLINE="1")
    assert offline.returncode == 1
    assert "HF_HUB_OFFLINE is set" in offline.stderr


@pytest.mark.slow
def test_download_is_a_pull_where_it_is_needed(served: tuple[Served, str], tmp_path: Path) -> None:
    remote, endpoint = served
    args = ["generate", "-p", "red cat", "--steps", "1", "--size", "32", "--quiet"]
    args += ["--model", "some/pipeline", "--download", "-o", str(tmp_path / "{seed}.png")]
    made = call(tmp_path, endpoint, *args)
    assert made.returncode == 0, made.stderr
    assert sf.open_image(tmp_path / "0.png").size == (32, 32)
    asked = len(remote.asked)
    again = call(tmp_path, endpoint, *args, "--seed", "1")
    assert again.returncode == 0, again.stderr
    assert len(remote.asked) == asked, "what is here is not asked for again"


def test_a_broken_pull_goes_on_where_it_stopped(served: tuple[Served, str], tmp_path: Path) -> None:
    remote, endpoint = served
    remote.files[UNET] = bytes(range(256)) * (100 << 10)  # their library writes 10 MB at once
    remote.cut = len(remote.files[UNET]) // 2
    failed = call(tmp_path, endpoint, "models", "pull", "some/pipeline")
    assert failed.returncode == 1
    assert "started again it goes on" in failed.stderr
    assert "Traceback" not in failed.stderr
    remote.cut, remote.broken = 0, False
    remote.ranges.clear()
    made = call(tmp_path, endpoint, "models", "pull", "some/pipeline")
    assert made.returncode == 0, made.stderr
    assert remote.ranges
    assert min(remote.ranges) > 0, "it began anew"
    assert (Path(made.stdout.strip()) / UNET).read_bytes() == remote.files[UNET]


def test_a_file_with_another_digest_is_refused(served: tuple[Served, str], tmp_path: Path) -> None:
    remote, endpoint = served
    remote.spoilt = True
    failed = call(tmp_path, endpoint, "models", "pull", "some/pipeline")
    assert failed.returncode == 1
    assert f"{UNET}: differs from its digest and was removed" in failed.stderr
    remote.spoilt = False
    made = call(tmp_path, endpoint, "models", "pull", "some/pipeline")
    assert made.returncode == 0, made.stderr


def test_what_cannot_be_pulled_is_said(served: tuple[Served, str], tmp_path: Path) -> None:
    _, endpoint = served
    for name, said in (("nobody/nothing", "pull nobody/nothing: "), ("plain", "write org/name")):
        failed = call(tmp_path, endpoint, "models", "pull", name)
        assert failed.returncode == 1
        assert said in failed.stderr
        assert "Traceback" not in failed.stderr
    gone = call(tmp_path, NOWHERE, "models", "pull", "some/pipeline")
    assert gone.returncode == 1
    assert "pull some/pipeline: " in gone.stderr


def test_one_set_of_weights_for_each_part() -> None:
    """safetensors before pickles, full precision before half, variants and shards kept together."""
    names = [
        "model_index.json", "unet/config.json", "unet/model.fp16.safetensors",
        "unet/model-00001-of-00002.safetensors", "unet/model-00002-of-00002.safetensors",
        "vae/model.bin", "vae/model.fp16.bin", "text_encoder/model.fp16.safetensors",
        "text_encoder/pytorch_model.fp16.bin", "unet/flax_model.msgpack", "whole.ckpt",
    ]  # fmt: skip
    kept = {f.path for f in hub.files_to_pull([hub.Remote(name, 1) for name in names])}
    assert kept == {
        "model_index.json", "unet/config.json", "unet/model-00001-of-00002.safetensors",
        "unet/model-00002-of-00002.safetensors", "vae/model.bin",
        "text_encoder/model.fp16.safetensors",
    }  # fmt: skip
    plain = [hub.Remote("pytorch_lora_weights.safetensors", 1), hub.Remote("x.png", 1)]
    assert [f.path for f in hub.files_to_pull(plain)] == ["pytorch_lora_weights.safetensors"]


def test_what_is_no_pipeline_is_pulled_once() -> None:
    """Adapters of many kinds are all wanted, but not each as a pickle and in half precision too."""
    names = [
        "models/a.bin", "models/a.safetensors", "models/b.bin", "models/image_encoder/model.bin",
        "model.fp16.safetensors", "model.safetensors", "pytorch_model.bin", "v1.0.safetensors",
        "v1.5.safetensors", "lora.fp16.safetensors", "c-00001-of-00002.safetensors",
        "c.fp16-00001-of-00002.safetensors", "c-00002-of-00002.safetensors", "d.ckpt",
    ]  # fmt: skip
    kept = {f.path for f in hub.files_to_pull([hub.Remote(name, 1) for name in names])}
    assert set(names) - kept == {
        "models/a.bin", "model.fp16.safetensors", "pytorch_model.bin",
        "c.fp16-00001-of-00002.safetensors",
    }  # fmt: skip


def test_everything_local_loads_with_the_network_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bundled, pipeline, single file: no connection is even tried."""
    from helpers.singles import single_file

    pipe = pipelines.single(tmp_path, "sd1")
    file = single_file(pipe, "sd1", tmp_path / "model.safetensors")

    def refused(*args: Any) -> None:
        raise AssertionError(f"the network was asked: {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    for name in ("emoji", str(tmp_path / "pipeline"), str(file)):
        model = sf.load(name, dtype="float32")
        model.process("red cat", steps=1, size=32, stages=1).sample()


def test_export_is_a_folder_that_loads(tmp_path: Path, app_home: Path) -> None:
    from sfumato.models.loaders import export

    made = export.export("emoji", tmp_path / "carried")
    there = sf.load(str(made), dtype="float32")
    here = sf.load("emoji", dtype="float32")
    assert there.weights == here.weights
    with pytest.raises(SfumatoError, match="not empty"):
        export.export("emoji", made)
    with pytest.raises(SfumatoError, match="no-such"):
        export.export("no-such", tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.fixture
def app_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_convert_reads_no_code(tmp_path: Path) -> None:
    from sfumato.models.loaders import export

    shared = torch.randn(4, 4)
    torch.save({"state_dict": {"a": shared, "b": shared}, "step": 3}, tmp_path / "model.ckpt")
    target, count = export.convert(tmp_path / "model.ckpt", tmp_path / "model.safetensors")
    assert count == 2
    assert torch.equal(load_file(target)["b"], shared)
    with pytest.raises(SfumatoError, match="nothing is overwritten"):
        export.convert(tmp_path / "model.ckpt", target)
    torch.save({"string_to_param": {"*": shared}, "name": "mine"}, tmp_path / "word.pt")
    word, _ = export.convert(tmp_path / "word.pt", tmp_path / "word.safetensors")
    assert list(load_file(word)) == ["emb_params"]
    torch.save({"state_dict": {"a": Evil()}}, tmp_path / "evil.ckpt")
    with pytest.raises(SfumatoError, match="cannot be read as weights"):
        export.convert(tmp_path / "evil.ckpt", tmp_path / "evil.safetensors")
    assert not (tmp_path / "ran").exists()


class Evil:
    def __reduce__(self) -> Any:
        return (os.system, ("touch ran",))
