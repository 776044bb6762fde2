"""Stopping the program: exit codes, no traceback, nothing half, during imports and in the work."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from sfumato import claims
from sfumato.core.interrupts import Stopped, undisturbed

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
FAST = ["--steps", "2", "--stages", "1"]
VERBS = {
    "generate": ["generate", "-p", "rose", "--steps", "40", "-n", "2", "-o", "a.png"],
    "batch": ["batch", "generate", "p.txt", *FAST, "-o", "{name}.png"],
    "sweep": ["sweep", "generate", "--over", "steps=2:40:20", "--seeds", "1", "--stages", "1",
              "-o", "s"],
}  # fmt: skip
WHOLE = {"generate": 2, "batch": 60, "sweep": 2}  # pictures of each, when it is done


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Path("p.txt").write_text("rose\n" * 60)


def start(*words: str, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sfumato", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **more)


def wait_for(what: Callable[[], Any], program: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not what():
        assert program.poll() is None, program.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def stopped(program: subprocess.Popen[str], number: int, code: int) -> str:
    program.send_signal(number)
    _, errors = program.communicate(timeout=120)
    assert program.returncode == code, errors
    assert "Traceback" not in errors
    assert "ignored" not in errors
    return errors


def check_files(killed: bool = False) -> list[Path]:
    """Every picture here is whole, and nothing half is left; of a killed run, the claim is."""
    pictures = list(Path().rglob("*.png"))
    for picture in pictures:
        PIL.Image.open(picture).load()
    hidden = [path.name for path in Path().rglob(".*")]
    assert [name for name in hidden if not (killed and name == claims.FILE)] == []
    return pictures


SLOW_IMPORT = {
    "plain": "time.sleep(60)",
    "swallows": "try: time.sleep(60)\nexcept BaseException: time.sleep(60)",
    "in C": "import ctypes\nctypes.CFUNCTYPE(None)(lambda: time.sleep(60))()",
}


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("kind", SLOW_IMPORT)
def test_during_imports(tmp_path: Path, kind: str, number: int) -> None:
    """torch takes seconds to import; here it takes for ever, in several ways."""
    fake = tmp_path / "fake"
    fake.mkdir()
    reached = tmp_path / "reached"
    text = f"import time\nopen({str(reached)!r}, 'w').close()\n{SLOW_IMPORT[kind]}\n"
    (fake / "torch.py").write_text(text)
    path = os.pathsep.join([str(fake), *filter(None, [os.environ.get("PYTHONPATH")])])
    program = start("generate", "-p", "rose", env={**os.environ, "PYTHONPATH": path})
    wait_for(reached.exists, program)
    time.sleep(0.05)
    assert "cancelled" in stopped(program, number, CODES[signal.Signals(number)])


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has none")
def test_a_terminal_that_closes_before_the_imports() -> None:
    text = "import os; from sfumato.cli import early; early.hear(); os.kill(os.getpid(), 1)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (129, "cancelled; what was finished is kept\n")


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_a_batch_notes_what_it_did_not_reach(number: int) -> None:
    program = start(*VERBS["batch"])
    wait_for(lambda: Path("0002.png").exists(), program)
    stopped(program, number, CODES[signal.Signals(number)])
    made = {int(path.stem) for path in check_files()}
    noted = {json.loads(line)["row"] for line in Path("failed.jsonl").read_text().splitlines()}
    assert made | noted == set(range(1, 61))
    assert made & noted <= {max(made)}, "made, and stopped before that was noted"


def test_a_sweep_goes_on_after_it_was_stopped() -> None:
    program = start(*VERBS["sweep"])
    wait_for(lambda: list(Path().glob("s/pictures/*.png")), program)
    stopped(program, signal.SIGTERM, 143)
    assert check_files()


SCRIPT = """
import sys, time
from sfumato.cli import signals
from sfumato.core.interrupts import Stopped, undisturbed

class Late:
    def __del__(self):
        print("deleting", flush=True)
        time.sleep(3)

def swallowed():
    late = Late()
    del late  # what is raised in a destructor is lost
    time.sleep(60)

def shielded():
    with undisturbed():
        print("begun", flush=True)
        time.sleep(1)
        print("ended", flush=True)
    time.sleep(60)

sys.unraisablehook = lambda *_: None
signals.listen()
try:
    with signals.working():
        {body}()
except Stopped as stop:
    signals.leave()
    sys.exit(stop.code)
"""


@pytest.mark.parametrize(("body", "begins"), [("swallowed", "deleting"), ("shielded", "begun")])
def test_a_signal_is_neither_lost_nor_early(body: str, begins: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.replace("{body}", body)], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert program.stdout.readline().strip() == begins
    program.send_signal(signal.SIGINT)
    rest = program.stdout.read()
    assert program.wait(20) == 130
    assert rest.split() == (["ended"] if body == "shielded" else [])


AT_THE_END = """
import os, signal, sys
from sfumato.cli import signals

class Late:
    def __del__(self, kill=os.kill, own=os.getpid(), number=signal.SIGTERM):
        kill(own, number)

late = Late()  # goes when Python has given its handlers back
signals.listen()
with signals.working():
    pass
signals.leave()
sys.exit({code})
"""


@pytest.mark.parametrize("code", [0, 143])
def test_a_signal_while_python_ends_changes_nothing(code: int) -> None:
    text = AT_THE_END.replace("{code}", str(code))
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == code


def test_work_that_must_be_whole_is_not_disturbed() -> None:
    done = []

    def work(asked: int) -> None:
        with undisturbed(), undisturbed():
            for _ in range(asked):
                signal.raise_signal(signal.SIGINT)
            done.append(asked)

    with pytest.raises(KeyboardInterrupt):
        work(1)
    assert done == [1]
    with pytest.raises(KeyboardInterrupt):
        work(2)  # who asks twice means it
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert Stopped(signal.SIGTERM).code == 143


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
def test_at_random_moments(seed: int) -> None:
    rng = random.Random(seed)
    verb, number = rng.choice(sorted(VERBS)), rng.choice([*CODES, signal.SIGKILL])
    program = start(*VERBS[verb])
    time.sleep(rng.uniform(0.2, 6))  # before that it is Python's own start that is stopped
    program.send_signal(number)
    _, errors = program.communicate(timeout=120)
    pictures = check_files(killed=number == signal.SIGKILL)
    if program.returncode == 0:  # it was done already
        assert len(pictures) >= WHOLE[verb]
    else:
        assert program.returncode == CODES.get(number, -number), errors
    assert "Traceback" not in errors
    assert "ignored" not in errors


CONSOLES = [
    ({"PYTHONIOENCODING": "ascii"}, "", "\\uc0ac\\uacfc-3d-render"),
    ({}, "2>/dev/full", "사과-3d-render"),
    pytest.param({}, "2>&-", "사과-3d-render", marks=pytest.mark.slow),
    pytest.param(
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "", "3d-render",
        marks=pytest.mark.slow,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("variables", "redirected", "shown"), CONSOLES)
def test_any_console_will_do(variables: dict[str, str], redirected: str, shown: str) -> None:
    """Letters that it lacks are escaped; a stderr that is full or closed ends nothing."""
    Path("p.txt").write_text("사과\n사과 " + "word " * 500 + "\n", encoding="utf-8")
    words = ["batch", "generate", "p.txt", *FAST, "-o", "{prompt}.png"]
    line = " ".join([sys.executable, "-m", "sfumato", *map(repr, words), redirected])
    done = subprocess.run(line, shell=True, capture_output=True, env={**os.environ, **variables})
    assert done.returncode == 1
    assert done.stdout.decode("utf-8").split() == [f"{shown}.png"], done.stderr
    assert b"Traceback" not in done.stderr
    assert json.loads(Path("failed.jsonl").read_text(encoding="utf-8"))["row"] == 2
    if not redirected:
        assert b"1 made, 0 there already, 1 failed" in done.stderr


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_a_full_stdout_is_a_failure(word: str) -> None:
    line = f"{sys.executable} -m sfumato {word} >/dev/full"
    done = subprocess.run(line, shell=True, capture_output=True)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("sfumato: ")
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
