"""What tests of measures share."""

from pathlib import Path

import pytest

import sfumato as sf


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of the test's own; what is written without a folder is written beside it."""
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def model() -> sf.Model:
    return sf.load("emoji")
