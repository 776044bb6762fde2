"""What a verb on a server survives: a cut wire, a server that dies or restarts, ctrl-C."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from helpers.program import FAST, STROKES, call, home
from helpers.remote import Program, Wire, start, until

__all__ = ["home"]

LONG = ("generate", "red apple", "--steps", "150", "--stages", "1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(tmp_path_factory.mktemp("server"), "--drain", "0")
    program.start()
    yield program
    program.stop()


@pytest.fixture
def wire(server: Program) -> Iterator[Wire]:
    made = Wire(server.port)
    yield made
    made.close()


def working(wire: Wire) -> None:
    """Until steps of a job come through."""
    until(lambda: wire.seen.count(b"event: step") > 2)


def states(server: Program) -> list[str]:
    return [job["state"] for job in server.ask("/v1/jobs")["jobs"]]


@pytest.mark.slow
def test_a_cut_wire_changes_nothing(app: Any, server: Program, wire: Wire) -> None:
    """Twice in one run: it says so, goes on, submits nothing again, and the picture is the same."""
    jobs = len(states(server))
    program = start("--server", wire.url, *LONG, "-o", "there.png")
    for _ in range(2):
        wire.seen = b""
        working(wire)
        wire.drop(0.6)
    out, errors = program.communicate(timeout=120)
    assert (program.returncode, out) == (0, "there.png\n"), errors
    assert errors.count("does not answer") == errors.count("is back") == 2
    assert "Traceback" not in errors
    assert len(states(server)) == jobs + 1
    assert call(app, *LONG, "-o", "here.png").exit_code == 0
    assert Path("there.png").read_bytes() == Path("here.png").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_dies_is_waited_for(
    app: Any, server: Program, wire: Wire, number: signal.Signals
) -> None:
    """Killed, it comes back paused, and whoever waits resumes it; stopped, it just goes on."""
    program = start("--server", wire.url, *LONG, "-o", "there.png")
    working(wire)
    server.stop(number)
    until(lambda: program.poll() is not None or time.sleep(0.5) or True)
    server.start()
    out, errors = program.communicate(timeout=120)
    assert (program.returncode, out) == (0, "there.png\n"), errors
    assert "does not answer" in errors
    assert "is back" in errors
    assert "begun again" in errors
    assert call(app, *LONG, "-o", "here.png").exit_code == 0
    assert Path("there.png").read_bytes() == Path("here.png").read_bytes()


def stopped(program: Any) -> str:
    program.send_signal(signal.SIGINT)
    out, errors = program.communicate(timeout=60)
    assert (program.returncode, out) == (130, ""), errors
    assert "Traceback" not in errors
    assert errors.strip().splitlines()[-1] == "cancelled; what was finished is kept"
    return str(errors)


def test_ctrl_c_cancels_the_job(server: Program, wire: Wire) -> None:
    program = start("--server", wire.url, *LONG, "-o", "a.png")
    working(wire)
    stopped(program)
    until(lambda: states(server)[0] == "cancelled")
    assert not Path("a.png").exists()


def test_ctrl_c_keeps_the_rows_that_are_made(app: Any, server: Program, wire: Wire) -> None:
    """The first row's picture, and a manifest of the others."""
    rows = [f"prompt,seed,cfg.scale\nrose,0,3\nrose,1,{3}\n"] + ["rose,2,3\n"] * 30
    Path("rows.csv").write_text("".join(rows))
    words = ("batch", "generate", "rows.csv", "--steps", "10", "--stages", "1", "-o",
             "out/{row}.png")  # fmt: skip
    program = start("--server", wire.url, *words)
    until(lambda: Path("out/1.png").exists() or program.poll() is not None)
    stopped(program)
    until(lambda: states(server)[0] == "cancelled")
    kept = sorted(int(file.stem) for file in Path("out").glob("*.png"))
    left = [json.loads(line) for line in Path("out/failed.jsonl").read_text().splitlines()]
    assert kept == list(range(1, len(kept) + 1))
    assert sorted(line["row"] for line in left) == list(range(len(kept) + 1, 33))
    assert {line["error"] for line in left} == {"not reached"}
    done = server.ask(f"/v1/jobs/{server.ask('/v1/jobs')['jobs'][0]['id']}")["children"]["done"]
    assert done == len(kept)


@pytest.mark.slow
def test_ctrl_c_keeps_the_cells_of_a_sweep(app: Any, server: Program, wire: Wire) -> None:
    """What is left is a sweep's folder, in which a run here goes on."""
    words = ("sweep", "generate", "rose", "--over", "cfg.scale=1:3:9", "--steps", "10", "--stages",
             "1", "--seeds", "1", "-o", "s")  # fmt: skip
    program = start("--server", wire.url, *words)
    until(lambda: list(Path("s").glob("pictures/*.png")) or program.poll() is not None)
    stopped(program)
    kept = {file: file.read_bytes() for file in Path("s/pictures").glob("*.png")}
    assert 0 < len(kept) < 9
    assert Path("s/sweep.json").is_file()
    assert call(app, *words).exit_code == 0
    assert not [file for file in kept if file.read_bytes() != kept[file]]
    assert call(app, *words[:-1], "whole").exit_code == 0
    assert {f.name: f.read_bytes() for f in Path("whole/pictures").iterdir()} == {
        f.name: f.read_bytes() for f in Path("s/pictures").iterdir()
    }


def test_a_job_without_a_server_to_cancel_it_is_named(server: Program, wire: Wire) -> None:
    program = start("--server", wire.url, *LONG, "-o", "a.png")
    working(wire)
    thread = threading.Thread(target=wire.drop, args=(6.0,))
    thread.start()
    time.sleep(0.5)
    errors = stopped(program)
    assert "could not be stopped" in errors
    assert "sfumato jobs cancel" in errors
    thread.join()


@pytest.mark.slow
def test_a_training_leaves_what_it_leaves_here(app: Any, server: Program, wire: Wire) -> None:
    """All but times."""
    Path("in").mkdir()
    for file in sorted(STROKES.glob("*.png"))[:2]:
        Path("in", file.name).write_bytes(file.read_bytes())
    words = ("dreambooth", "in", "--class", "apple", "--name", "zwx", "--steps", "2", "--batch",
             "1", "--prior", "0", "--rank", "2", "-o", "dog")  # fmt: skip
    there = call(app, "--server", wire.url, *words)
    assert there.exit_code == 0, there.output
    Path("dog").rename("there")
    here = call(app, *words)
    assert here.stdout == there.stdout == "dog\n"
    made = {f.relative_to("dog").as_posix(): f for f in Path("dog").rglob("*") if f.is_file()}
    got = {f.relative_to("there").as_posix(): f for f in Path("there").rglob("*") if f.is_file()}
    assert sorted(got) == sorted(made)
    timed = ("log.csv", "curves.png", "state.safetensors")
    differ = [n for n in got if n not in timed and got[n].read_bytes() != made[n].read_bytes()]
    assert differ == []
    learned = ("generate", "zwx apple", *FAST, "-o")
    assert call(app, *learned, "here.png", "--adapt", "dog").exit_code == 0
    away = call(app, "--server", wire.url, *learned, "there.png", "--adapt", "there")
    assert away.exit_code == 0, away.output
    assert Path("there.png").read_bytes() == Path("here.png").read_bytes()
