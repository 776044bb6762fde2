"""The program, called as a user calls it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

STROKES = Path(__file__).parents[2] / "examples" / "strokes"


FAST = ["--steps", "2", "--stages", "1"]  # of a run whose picture is not looked at


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def call(app: Any, *words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def fails(app: Any, code: int, *words: str) -> str:
    """The one line of a failure."""
    result = call(app, *words)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    lines = result.stderr.strip().splitlines()
    if code == 1:
        assert lines[-1].startswith("sfumato: ")
        assert result.stdout == ""
    return result.stderr
