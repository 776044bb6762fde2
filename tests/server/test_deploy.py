"""The files of deploy/: linted, read by the programs that they are for, nginx with a server behind.

What needs a program of Debian is left out where it is not; deploy/check.sh builds the image.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import CliRunner

pytest.importorskip("fastapi")

from helpers.served import StubRunner, in_loop, listening, picture, recipe_job, served

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
IMAGES = ("Dockerfile", "Dockerfile.cuda")


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def program(*words: str) -> str:
    """What it prints; it must be content."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def instructions(name: str) -> list[str]:
    """Of a Dockerfile, each in one line."""
    lines = text_of(name).replace("\\\n", " ").splitlines()
    return [re.sub(r" +", " ", line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("name", IMAGES)
def test_images_pass_the_linter(name: str) -> None:
    assert program(str(Path(sys.executable).with_name("hadolint")), str(DEPLOY / name)) == ""


def test_the_images_differ_in_what_a_card_needs_alone() -> None:
    plain, cuda = map(instructions, IMAGES)
    words = ("ARG BASE", "ARG TORCH", "RUN --mount", "ENV", "HEALTHCHECK", "CMD")
    for ours in (plain, cuda):
        assert ours[-1].startswith("CMD")
        assert "USER 10001:10001" in ours
    same = [[line for line in ours if not line.startswith(words)] for ours in (plain, cuda)]
    assert same[0] == same[1]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of the program in a file of deploy/."""
    for name in IMAGES:
        parts = dict(
            line.split(" ", 1) for line in instructions(name) if line[:3] in ("CMD", "ENT")
        )
        yield name, [*json.loads(parts["ENTRYPOINT"]), *json.loads(parts["CMD"])]
    for name in ("compose.yaml", "compose.cuda.yaml"):
        command = yaml.safe_load(text_of(name))["services"]["server"]["command"]
        yield name, ["sfumato", *(word.replace("${SFUMATO_HOST_NAME:-", "{") for word in command)]
    unit = text_of("sfumato.service").replace("\\\n", " ")
    yield "sfumato.service", shlex.split(re.findall(r"(?m)^ExecStart=(.*)$", unit)[0])


@pytest.mark.parametrize(("name", "words"), list(commands()), ids=[name for name, _ in commands()])
def test_their_commands_are_read(
    name: str, words: list[str], app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Path(words[0]).name == "sfumato"
    read: list[dict[str, Any]] = []
    monkeypatch.setattr("sfumato.cli.main.guarded", lambda body, values, debug: read.append(values))
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, done.output
    assert read[0]["tokens"]
    assert read[0]["https"] is (name not in IMAGES)


def test_a_card_adds_to_compose_what_it_needs() -> None:
    whole, more = (yaml.safe_load(text_of(f"compose{part}.yaml")) for part in ("", ".cuda"))
    assert set(more) == {"services"}
    ours, added = whole["services"]["server"], more["services"]["server"]
    assert added["command"] == [*ours["command"], "--device=cuda:0"]
    mounted = {volume.partition(":")[0] for volume in ours["volumes"]}
    assert mounted == set(whole["volumes"])
    for name in IMAGES:
        volumes = next(line for line in instructions(name) if line.startswith("VOLUME"))
        assert all(volume.split(":")[1] in volumes for volume in ours["volumes"])


@needs("systemd-analyze")
def test_the_unit_is_one_for_systemd(tmp_path: Path) -> None:
    """And hardened: exposure as systemd counts it, of 10."""
    unit = tmp_path / "sfumato.service"
    unit.write_text(text_of(unit.name).replace("/opt/sfumato/bin/sfumato", "/bin/true"))
    assert program("systemd-analyze", "verify", str(unit)) == ""
    counted = program("systemd-analyze", "security", "--offline=true", "--no-pager", str(unit))
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", counted)
    assert exposure
    assert float(exposure[1]) < 2.5


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


WRAPPED = """
{user}
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/sfumato.conf;
}}
"""


@contextmanager
def proxied(folder: Path, behind: int) -> Iterator[int]:
    """nginx with the example, before a server on that port; the port of its TLS."""
    port, plain = free_port(), free_port()
    key, certificate = folder / "studio.key", folder / "studio.pem"
    files = ("-keyout", str(key), "-out", str(certificate))
    subject = ("-nodes", "-subj", "/CN=studio.example")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    program("openssl", "req", "-x509", *kind, *subject, *files)
    example = text_of("nginx.conf")
    for ours, theirs in (
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("/etc/ssl/sfumato", str(folder)),
        ("127.0.0.1:8642", f"127.0.0.1:{behind}"),
    ):
        assert ours in example
        example = example.replace(ours, theirs)
    (folder / "sfumato.conf").write_text(example)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(WRAPPED.format(folder=folder, user=user))
    words = ["nginx", "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
    program(*words, "-t")
    with subprocess.Popen([*words, "-g", "daemon off;"]) as running:
        try:
            yield port
        finally:
            running.terminate()


@needs("nginx", "openssl")
@in_loop
async def test_events_pass_the_proxy_as_they_happen(tmp_path: Path) -> None:
    """Under its path, by TLS: a cookie, a picture, a job, events while the runner waits."""
    hold = asyncio.Event()
    proxy = tmp_path / "proxy"
    proxy.mkdir()
    settings: dict[str, Any] = {
        "root_path": "/sfumato", "secure": True, "hosts": ("studio.example",),
        "tokens": {"phone": "x" * 20},
    }  # fmt: skip
    async with (
        served(tmp_path / "server", StubRunner(hold=hold), **settings) as service,
        listening(service) as direct,
    ):
        with proxied(proxy, direct.base_url.port or 0) as port:
            host = f"studio.example:{port}"
            trusting = ssl.create_default_context(cafile=str(proxy / "studio.pem"))
            trusting.check_hostname = False
            async with httpx.AsyncClient(
                base_url=f"https://127.0.0.1:{port}/sfumato", verify=trusting, timeout=20,
                headers={"Host": host, "Origin": f"https://{host}"},
            ) as client:  # fmt: skip
                await _pass(client, port, hold)


async def _pass(client: httpx.AsyncClient, port: int, hold: asyncio.Event) -> None:
    for _ in range(100):  # until nginx listens
        try:
            answer = await client.post("/v1/session", json={"token": "x" * 20})
            break
        except httpx.ConnectError:
            await asyncio.sleep(0.05)
    assert answer.status_code == 200, answer.text
    cookie = answer.headers["set-cookie"]
    assert "Secure" in cookie
    assert "Path=/sfumato" in cookie
    files = {"file": ("a.png", picture(1))}
    assert (await client.post("/v1/images", files=files)).status_code == 201
    answer = await client.post("/v1/jobs", json=recipe_job())
    assert answer.status_code == 202
    place = answer.headers["location"]
    assert place == f"/sfumato/v1/jobs/{answer.json()['id']}"
    url = f"https://127.0.0.1:{port}{place}"
    assert (await client.get(url)).status_code == 200
    async with client.stream("GET", f"{url}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        seen = []
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                seen.append(line[7:])
            if line == "event: started":
                assert not hold.is_set()
                hold.set()  # it came while nothing else could
    assert seen[:2] == ["queued", "started"]
    assert seen[-1] == "done"
    client.cookies.clear()
    assert (await client.get("/metrics")).status_code == 401
