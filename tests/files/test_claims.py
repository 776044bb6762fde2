"""Two runs on one folder: the second is one line, and a killed one stops nobody."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sfumato as sf
from helpers.training import RECIPE
from sfumato.claims import FILE, claimed
from sfumato.core.errors import SfumatoError
from sfumato.measure.sweep import sweep
from sfumato.train import program
from sfumato.train.config import parse

HOLD = """
import sys
from pathlib import Path
from sfumato.claims import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
REFUSED = "another run is at work in it; wait for it, or stop it, or give another -o"


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert held.stdout is not None
        assert held.stdout.readline() == "held\n"
        yield held
    finally:
        held.communicate("")


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    with holder(tmp_path), pytest.raises(SfumatoError, match=REFUSED), claimed(tmp_path):
        pass
    with claimed(tmp_path):
        assert (tmp_path / FILE).exists()
        with pytest.raises(SfumatoError, match=REFUSED), claimed(tmp_path):  # of this process too
            pass
    assert not list(tmp_path.iterdir())


def test_a_killed_process_stops_nobody(tmp_path: Path) -> None:
    with holder(tmp_path) as held:
        held.kill()
        held.wait()
        assert (tmp_path / FILE).exists()
        with claimed(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_a_failure_lets_go(tmp_path: Path) -> None:
    with pytest.raises(KeyError), claimed(tmp_path):
        raise KeyError
    with claimed(tmp_path):
        pass


def test_a_claim_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SfumatoError, match="cannot be written"), claimed(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_sweep_waits_for_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    process = sf.load("emoji").process("rose", stages=1)

    def swept() -> Any:
        return sweep(process, "steps=1,2", tmp_path / "sweep", seeds=1)

    with holder(tmp_path / "sweep") as held:
        with pytest.raises(SfumatoError, match=REFUSED):
            swept()
        assert [file.name for file in (tmp_path / "sweep").iterdir()] == [FILE]
        held.kill()  # which leaves the file in a folder that must be empty otherwise
    assert len(swept().cells) == 2
    assert FILE not in [file.name for file in (tmp_path / "sweep").iterdir()]


SUBJECT: dict[str, Any] = {
    "name": "x",
    "tuner": "dreambooth",
    "model": {"start": "emoji"},
    "subject": {"noun": "cat", "name": "sks", "prior": 0.0},
    "adapter": {"rank": 1, "targets": ["attention"]},
    "optim": {"batch": 1, "steps": 1},
}


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_training_waits_for_no_other_but_for_its_own_processes(
    rank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, folder = tmp_path / "pictures", tmp_path / "run"
    pictures.mkdir()
    Image.new("RGB", (64, 64), "red").save(pictures / "1.png")
    begun: list[Path] = []

    class Begun:
        def __init__(self, config: Any, data: Path, folder: Path, **given: Any) -> None:
            begun.append(folder)

        def run(self, until: int | None) -> None:
            assert ((folder / FILE).exists()) is True

    monkeypatch.setattr(program, "Trainer", Begun)
    monkeypatch.setenv("RANK", rank)
    made = parse({**SUBJECT, "subject": {**SUBJECT["subject"], "pictures": str(pictures)}})
    with holder(folder):
        if rank == "0":
            with pytest.raises(SfumatoError, match=REFUSED):
                program.work(made, pictures, folder, device="cpu", quiet=True)
            assert not begun
        else:
            program.work(made, pictures, folder, device="cpu", quiet=True)
    if rank == "0":
        program.work(made, pictures, folder, device="cpu", quiet=True)
    assert begun == [folder]


def test_the_trainer_says_it_in_one_line(tmp_path: Path) -> None:
    """Two real processes of `python -m sfumato.train`."""
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    with holder(tmp_path / "run"):
        words = [str(recipe), "--data", str(tmp_path), "-o", str(tmp_path / "run")]
        done = subprocess.run(
            [sys.executable, "-m", "sfumato.train", *words], capture_output=True, text=True
        )
        assert done.returncode == 1
        assert done.stderr == f"sfumato: {tmp_path / 'run'}: {REFUSED}\n"
        assert [file.name for file in (tmp_path / "run").iterdir()] == [FILE]
