"""`sfumato --server URL VERB`: what a server makes is what a run here makes, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from helpers.adapters import of_a_style
from helpers.program import FAST, STROKES, call, fails, home
from helpers.remote import Program, both, stub_server
from sfumato.models.card import read_card
from sfumato.models.loaders.library import BUNDLED
from sfumato.server.settings import Limits

__all__ = ["home"]

STROKE = STROKES / "hamburger.png"
STYLE = next(iter(read_card(BUNDLED["emoji"]).adapters), "art.safetensors")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("server")
    program = Program(folder, "--adapter", str(of_a_style(folder)))
    program.start()
    yield program
    program.stop()


@pytest.fixture
def pictures(tmp_path: Path) -> None:
    """A small picture, its mask, a folder of two, a manifest of which a row is wrong, and an
    adapter."""
    of_a_style(Path.cwd())
    small = Image.open(STROKE).convert("RGBA").resize((48, 48))
    small.save("small.png")
    Image.linear_gradient("L").resize((48, 48)).point(lambda v: 255 * (v > 128)).save("mask.png")
    Path("in").mkdir()
    for name in ("rose", "leaf"):
        small.save(f"in/{name}.png")
    Path("rows.csv").write_text("prompt,seed\nrose,1\nleaf,wrong\nred apple,2\nrose,1\n")


VERBS = {
    "generate": ("generate", "red apple", *FAST, "-n", "2", "--sheet", "-o", "out/"),
    "json": ("generate", "red apple", *FAST, "--json", "-o", "out/a.jpg", "--seed", "7"),
    "adapter": ("generate", "red apple", *FAST, "--adapt", f"{STYLE}=0.5", "-o", "out/a.png"),
    "sdedit": ("sdedit", "small.png", "-p", "rose", *FAST, "--t0", "0.6", "--embed", "--sheet",
               "-o", "out/a.webp"),
    "inpaint": ("inpaint", "small.png", "--mask", "mask.png", "-p", "rose", *FAST, "-o", "out/"),
    "ilvr": ("ilvr", "small.png", "-p", "rose", *FAST, "--with", "cfg.window=0.2,1", "-o", "out/"),
    "sweep of windows": ("sweep", "generate", "rose", "--over", "cfg.window=0,1|0,0.4", *FAST,
                         "--seeds", "1", "-o", "out/s"),
    "sweep": ("sweep", "sdedit", "small.png", "-p", "rose", "--over", "t0=0.4,0.6", *FAST,
              "--seeds", "1", "--json", "-o", "out/s"),
    "failing sweep": ("sweep", "sdedit", "small.png", "-p", "rose", "--over",
                      "sdedit.t0=0.5,2", *FAST, "--seeds", "1", "-o", "out/s"),
    "batch": ("batch", "generate", "rows.csv", *FAST, "-o", "out/{prompt}-{seed}.png", "--json"),
    "batch of pictures": ("batch", "sdedit", "in", "-p", "{name}", *FAST, "-o", "out/{name}.png"),
}  # fmt: skip
SLOW = {
    "auto": ("sdedit", "small.png", "-p", "rose", *FAST, "--t0", "auto", "-o", "out/"),
    "quiet": ("sdedit", "small.png", "-p", "rose", *FAST, "--t0", "auto", "-q", "-o", "out/"),
    "sweep of a found number": ("sweep", "sdedit", "small.png", "-p", "rose", "--t0", "auto",
                                "--over", "cfg.scale=1,2", *FAST, "--seeds", "1", "-o", "out/s"),
    "diffstyler": ("diffstyler", "small.png", "-p", "ink drawing", *FAST, "-o", "out/"),
    "upscale": ("upscale", "small.png", "-o", "out/"),
}  # fmt: skip


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("verb", VERBS)
def test_remote_equals_local(app: Any, server: Program, verb: str) -> None:
    code, *_, made = both(app, server, *VERBS[verb])
    assert code == (1 if verb in ("batch", "failing sweep") else 0)
    assert made


@pytest.mark.slow
@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("verb", SLOW)
def test_remote_equals_local_also_where_it_takes_longer(
    app: Any, server: Program, verb: str
) -> None:
    code, *_, made = both(app, server, *SLOW[verb])
    assert code == 0
    assert made


@pytest.mark.usefixtures("pictures")
def test_run_and_plan(app: Any, server: Program) -> None:
    """A picture of a batch again, and a plan, whose seconds are measured."""
    assert call(app, "generate", "rose", *FAST, "-n", "2", "-o", "a.png").exit_code == 0
    code, *_, made = both(app, server, "run", "a-2.png", "-o", "out/a.png")
    assert code == 0
    assert made["a.png"] == Path("a-2.png").read_bytes()
    words = ("sdedit", "small.png", "-p", "rose", *FAST, "--plan")
    here, there = call(app, *words), call(app, "--server", server.url, *words)
    assert there.stderr == here.stderr
    plain = [line for line in here.stdout.splitlines() if "That takes" not in line]
    assert [line for line in there.stdout.splitlines() if "That takes" not in line] == plain
    here, there = call(app, *words, "--json"), call(app, "--server", server.url, *words, "--json")
    mine, theirs = json.loads(here.stdout), json.loads(there.stdout)
    assert list(theirs) == list(mine)
    assert {**theirs, "seconds": 0} == {**mine, "seconds": 0}


@pytest.mark.slow
@pytest.mark.usefixtures("pictures")
def test_a_plan_whose_number_has_to_be_found(app: Any, server: Program) -> None:
    """That takes a job; what it says is what it says here."""
    words = ("sdedit", "small.png", "-p", "rose", *FAST, "--t0", "auto", "--plan", "--json")
    here, there = call(app, *words), call(app, "--server", server.url, *words)
    assert there.stderr == here.stderr
    assert "sdedit.t0 = " in here.stderr
    mine, theirs = json.loads(here.stdout), json.loads(there.stdout)
    assert {**theirs, "seconds": 0} == {**mine, "seconds": 0}
    assert len(server.ask("/v1/jobs?kind=plan")["jobs"]) == 1


@pytest.mark.usefixtures("pictures")
def test_pictures_are_sent_once(app: Any, server: Program) -> None:
    uploads = server.folder / "pictures"
    words = ("--server", server.url, "ilvr", "in/rose.png", "-p", "leaf", *FAST, "-o")
    assert call(app, *words, "a.png").exit_code == 0
    before = {file: file.stat().st_mtime_ns for file in uploads.rglob("*") if file.is_file()}
    assert call(app, *words, "b.png").exit_code == 0
    after = {file: file.stat().st_mtime_ns for file in uploads.rglob("*") if file.is_file()}
    assert {file: after[file] for file in before} == before
    stored = [file for file in Path("home/store").rglob("*") if file.is_file()]
    assert [file.read_bytes() for file in stored] == [Path("in/rose.png").read_bytes()]


def test_detached_jobs_are_listed_watched_and_fetched(app: Any, server: Program) -> None:
    away = ("--server", server.url)
    sent = call(app, *away, "--detach", "generate", "rose", *FAST)
    assert sent.exit_code == 0, sent.output
    id = sent.stdout.strip()
    assert list(Path().glob("*.png")) == []
    assert id in call(app, *away, "jobs", "watch", id).stdout
    assert f"{id}  " in call(app, *away, "jobs", "list").stdout
    fetched = call(app, *away, "jobs", "fetch", id, "-o", "there.png")
    assert (fetched.exit_code, fetched.stdout) == (0, "there.png\n"), fetched.output
    assert call(app, "generate", "rose", *FAST, "-o", "here.png").exit_code == 0
    assert Path("there.png").read_bytes() == Path("here.png").read_bytes()
    assert "nothing to retry" in fails(app, 1, *away, "jobs", "retry", id)
    assert "has ended" in fails(app, 1, *away, "jobs", "cancel", id)
    Path("rows.txt").write_text("rose\nleaf\n")
    rows = call(app, *away, "--detach", "batch", "generate", "rows.txt", *FAST).stdout.strip()
    fetched = call(app, *away, "jobs", "fetch", rows, "-o", "{row}.png")
    assert fetched.stdout == "1.png\n2.png\n", fetched.output
    assert Path("1.png").read_bytes() == Path("here.png").read_bytes()


def test_what_no_server_does(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one line; the environment names a server for what servers do, and no more."""
    away = ("--server", "http://127.0.0.1:9")
    assert "about this machine" in fails(app, 1, *away, "doctor")
    assert "no server answers there" in fails(app, 1, *away, "eval")
    assert "no server answers there" in fails(app, 1, *away, "generate", "rose")
    assert "no server answers there" in fails(app, 1, *away, "jobs", "list")
    assert "write it such as" in fails(app, 1, "--server", "localhost", "generate", "rose")
    assert "the server has its own" in fails(app, 1, *away, "generate", "rose", "--device", "cpu")
    moved = ("--offload", "layers")
    assert "the server has its own" in fails(app, 1, *away, "generate", "rose", *moved)
    assert "of which server" in fails(app, 1, "jobs", "list")
    assert "goes with --server" in fails(app, 2, "--detach", "generate", "rose")
    assert "before the verb" in fails(app, 2, "generate", "rose", "--detach")
    training = ("dreambooth", "in", "-o", "dog")
    assert "no server answers there" in fails(app, 1, *away, *training)
    assert "holds no run" in fails(app, 1, *away, *training, "--resume")
    monkeypatch.setenv("SFUMATO_SERVER", "http://127.0.0.1:9")
    assert "no server answers there" in fails(app, 1, "generate", "rose")
    assert call(app, "info", "emoji").exit_code == 0


def test_refusals_are_a_line(app: Any, server: Program, tmp_path: Path) -> None:
    assert "not offered" in fails(app, 1, "--server", server.url, "generate", "x", "--model", "no")
    tokens = {"laptop": "a-token-of-some-length"}
    with stub_server(tmp_path / "a", tokens=tokens, limits=Limits(queued=1)) as url:
        assert "needs a token" in fails(app, 1, "--server", url, "generate", "rose")
        token = Path("token")
        token.write_text("another-of-some-length\n")
        token.chmod(0o600)
        away = ("--server", url, "--token-file", "token", "--detach")
        assert "that token is unknown" in fails(app, 1, *away, "generate", "rose")
        token.write_text("a-token-of-some-length\n")
        for _ in range(2):  # one is at work, one waits
            assert call(app, *away, "generate", "rose").exit_code == 0
        assert "the queue is full" in fails(app, 1, *away, "generate", "rose")
        token.chmod(0o644)
        assert "chmod 600" in fails(app, 1, *away, "generate", "rose")


def test_httpx_is_named_where_it_is_missing(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "httpx", None)
    assert "pip install 'sfumato[remote]'" in fails(app, 1, "--server", "http://x", "jobs", "list")
