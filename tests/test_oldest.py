"""The latent models on the oldest supported diffusers and transformers, in an environment of their
own (.venv-oldest, made here from tests/oldest.txt)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OLDEST = ROOT / "tests" / "oldest.txt"
FILES = (
    "models/test_diffusers.py",
    "models/test_latents.py",
    "models/test_single.py",
    "files/test_lora_files.py",
    "files/test_hub.py",
    "train/test_p_plus.py",
)


def environment() -> Path:
    """Its Python; made again when oldest.txt has changed."""
    home = ROOT / ".venv-oldest"
    python, stamp = home / "bin" / "python", home / "ready"
    if stamp.is_file() and stamp.read_text() == OLDEST.read_text():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
    pip = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "-c", ROOT / "constraints.txt", "torch"], check=True)
    subprocess.run([*pip, "-r", OLDEST, "pytest", "--editable", ROOT], check=True)
    stamp.write_text(OLDEST.read_text())
    return python


def test_pyproject_names_the_versions_that_are_tested() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    for line in OLDEST.read_text().splitlines():
        name, _, version = line.partition("==")
        if name in ("diffusers", "transformers", "huggingface-hub"):
            major_minor = ".".join(version.split(".")[:2])
            assert f'"{name}>={major_minor}' in project, line


@pytest.mark.parametrize("name", FILES)
def test_the_files_that_run_there_exist(name: str) -> None:
    assert (ROOT / "tests" / name).is_file()


@pytest.mark.slow
def test_the_oldest_versions_give_the_same_pictures() -> None:
    tests = [str(ROOT / "tests" / name) for name in FILES]
    command = [str(environment()), "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
