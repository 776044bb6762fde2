"""The server as a program: killed and started again, stopped, backed up, refused."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi")

from helpers.program import fails
from helpers.served import StubRunner, in_loop, picture, recipe_job
from sfumato.server import serving
from sfumato.server.server import Server
from sfumato.server.settings import Address, Settings

TESTS = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def program(folder: Path, port: int, pause: float = 0.0, *tls: str) -> Iterator[Any]:
    """The server in a process of its own, and a client of it. tls: certificate and key."""
    words = [sys.executable, "-m", "helpers.stub_server", str(folder), str(port), str(pause), *tls]
    url = f"http{'s' if tls else ''}://127.0.0.1:{port}"
    known = ssl.create_default_context(cafile=tls[0]) if tls else True
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    log = folder.with_name("log")  # a pipe that nobody reads holds up who writes much
    with log.open("a") as errors, subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process:  # fmt: skip
        try:
            with httpx.Client(base_url=url, timeout=20, verify=known) as client:
                client.process = process  # type: ignore[attr-defined]
                reached(client, process, log)
                yield client
        finally:
            process.kill()


def reached(client: httpx.Client, process: Any, log: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            client.get("/livez")
            return
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
    raise AssertionError("it does not answer")


def ended(client: httpx.Client, ids: list[str]) -> dict[str, Any]:
    """All jobs, once they have ended; asked for together, as a client may ask so often a second."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        listed = client.get("/v1/jobs", params={"limit": 200}).json()["jobs"]
        jobs = {job["id"]: job for job in listed if job["id"] in ids}
        assert len(jobs) == len(ids)
        if all(job["state"] not in ("queued", "running") for job in jobs.values()):
            return jobs
        time.sleep(0.1)
    raise AssertionError("they do not end")


def test_jobs_survive_a_server_that_is_killed(tmp_path: Path) -> None:
    """40 jobs, kill -9 at random moments, paused at each start: all done once, no half picture."""
    port, chance, ids = free_port(), random.Random(1), []
    for time_ in range(3):
        with program(tmp_path / "f", port, 0.001) as client:
            if time_:
                queue = client.get("/v1/queue").json()
                assert queue["paused"] or not queue["waiting"]
            for seed in range(len(ids), min(len(ids) + 20, 40)):
                ids.append(client.post("/v1/jobs", json=recipe_job(seed)).json()["id"])
            client.post("/v1/queue/resume")
            time.sleep(chance.uniform(0, 0.2))
            client.process.kill()
            client.process.wait()
    with program(tmp_path / "f", port) as client:
        client.post("/v1/queue/resume")
        jobs = ended(client, ids)
        assert {job["state"] for job in jobs.values()} == {"done"}
        for seed, id in enumerate(ids):
            (file,) = jobs[id]["results"]
            assert client.get(f"/v1/images/{file['sha256']}").content == picture(seed)
        listed = client.get("/v1/jobs", params={"limit": 200}).json()["jobs"]
        assert sorted(job["id"] for job in listed) == sorted(ids)


@in_loop
async def test_whoever_has_read_the_address_is_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However long it takes until it serves; and what it sends then leaves at once."""
    serve, told = serving.Web.serve, asyncio.Event()

    async def late(web: serving.Web, sockets: list[socket.socket]) -> None:
        await told.wait()
        await serve(web, sockets)

    monkeypatch.setattr(serving.Web, "serve", late)
    address = Address(port=0)
    listening = serving.bound(address)
    server = Server(Settings(tmp_path, drain=0.1), lambda: [StubRunner()])
    running = asyncio.create_task(serving._serve(server, address, listening, serving.Welcome()))
    while not (line := capsys.readouterr().out):
        await asyncio.sleep(0.01)
    async with httpx.AsyncClient(base_url=line.strip(), timeout=20) as client:
        asked = asyncio.create_task(client.get("/livez"))
        await asyncio.sleep(0.05)
        told.set()
        assert (await asked).status_code == 200
    assert listening.proto == socket.IPPROTO_TCP  # or asyncio sets no TCP_NODELAY
    os.kill(os.getpid(), signal.SIGTERM)
    await running


def test_a_server_stops_when_it_is_told_to(tmp_path: Path) -> None:
    """SIGTERM: the job at work ends, streams are closed, exit code 0, and no pause afterwards."""
    port = free_port()
    with program(tmp_path / "f", port, 0.1) as client:
        id = client.post("/v1/jobs", json=recipe_job(1)).json()["id"]
        with client.stream("GET", f"/v1/jobs/{id}/events") as stream:
            lines = stream.iter_lines()
            while "started" not in next(lines):
                pass
            client.process.send_signal(signal.SIGTERM)
            rest = list(lines)
        assert "event: done" in rest
        assert client.process.wait(20) == 0
        errors = (tmp_path / "log").read_text()
        assert "Traceback" not in errors
    with program(tmp_path / "f", port) as client:
        assert not client.get("/v1/queue").json()["paused"]
        assert client.get(f"/v1/jobs/{id}").json()["state"] == "done"


def test_a_backup_of_a_server_at_work_is_restored(tmp_path: Path, app: Any) -> None:
    """Jobs and pictures are there again; what is there already is never written over."""
    port, copy = free_port(), tmp_path / "copy"
    with program(tmp_path / "f", port) as client:
        ids = [client.post("/v1/jobs", json=recipe_job(s)).json()["id"] for s in range(3)]
        before = ended(client, ids)
        fails_not(app, "serve", "backup", str(copy), "--folder", str(tmp_path / "f"))
        line = fails(app, 1, "serve", "backup", str(copy), "--folder", str(tmp_path / "f"))
        assert "is there already" in line
    other = tmp_path / "other"
    fails_not(app, "serve", "restore", str(copy), "--folder", str(other))
    assert "holds a server" in fails(app, 1, "serve", "restore", str(copy), "--folder", str(other))
    assert "is no backup" in fails(app, 1, "serve", "restore", str(tmp_path), "--folder", str(copy))
    with program(other, port) as client:
        assert ended(client, ids) == before
        sha256 = before[ids[1]]["results"][0]["sha256"]
        assert client.get(f"/v1/images/{sha256}").content == picture(1)


def fails_not(app: Any, *words: str) -> None:
    from helpers.program import call

    result = call(app, *words)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--host", "0.0.0.0"), "give --tokens"),
        (("--certfile", "x.pem"), "go together"),
        (("--root-path", "x"), "such as /sfumato"),
        (("--days", "-1"), "give 0 or more"),
        (("--port", "70000"), "0 to 65,535"),
        (("--tokens", "none.toml"), "no such file"),
        (("--device", "cpu", "--device", "cpu"), "given twice"),
        (("--model", ""), "is empty"),
        (("--folder", ""), "is empty"),
        (("--limit", "x=1"), "NAME=NUMBER of upload"),
        (("--limit", "rate=fast"), "is no number"),
        (("--limit", "side=0"), "more than 0"),
        (("--adapter", "none.safetensors"), "no such file"),
    ],
)
def test_what_cannot_be_served_is_one_line(app: Any, words: tuple[str, ...], said: str) -> None:
    """Before a model is loaded."""
    assert said in fails(app, 1, "serve", *words)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl not installed")
def test_a_server_of_its_own_certificate(tmp_path: Path, app: Any) -> None:
    """A job over https, its events as they come; files that are no such pair are a line."""
    pairs = []
    for name in ("one", "two"):
        key, certificate = str(tmp_path / f"{name}.key"), str(tmp_path / f"{name}.pem")
        subject = ("-nodes", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        words = ["openssl", "req", "-x509", *kind, *subject, "-keyout", key, "-out", certificate]
        subprocess.run(words, check=True, capture_output=True)
        pairs.append((certificate, key))
    with program(tmp_path / "f", free_port(), 0.0, *pairs[0]) as client:
        id = client.post("/v1/jobs", json=recipe_job(3)).json()["id"]
        with client.stream("GET", f"/v1/jobs/{id}/events") as events:
            told = [line for line in events.iter_lines() if line.startswith("event: ")]
        assert told[-1] == "event: done"
        assert client.get(f"/v1/jobs/{id}/files/1.png").content == picture(3)
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    for pair in ((pairs[0][0], pairs[1][1]), (str(text), pairs[0][1]), (pairs[0][0], str(text))):
        said = fails(app, 1, "serve", "--certfile", pair[0], "--keyfile", pair[1])
        assert "give a certificate and its own key" in said


def test_tokens_are_read_strictly(tmp_path: Path, app: Any) -> None:
    """Short ones, twins, and files that others may read are refused."""
    file = tmp_path / "tokens.toml"
    good = "a" * 20
    for text, mode, said in (
        ('phone = "short"', 0o600, "at least 16"),
        (f'phone = "{good}"\nlaptop = "{good}"', 0o600, "the same token"),
        (f'phone = "{good}"', 0o644, "chmod 600"),
        ("", 0o600, "has no token"),
    ):
        file.write_text(text)
        file.chmod(mode)
        assert said in fails(app, 1, "serve", "--tokens", str(file))


def test_a_port_that_is_taken_is_one_line(app: Any, tmp_path: Path) -> None:
    """Said before models are loaded."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = str(one.getsockname()[1])
        line = fails(app, 1, "serve", "--port", port, "--folder", str(tmp_path))
        assert "give another --port" in line
