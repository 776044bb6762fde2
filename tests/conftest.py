"""Shared set-up of the tests."""

import os
from typing import Any

import pytest

# libgomp's threads spin while they wait; with another process on a core that makes torch tens of
# times slower. It must be set before torch is first imported.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from, or left in, the user's own folder."""
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path_factory.getbasetemp() / "home"))


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program, built anew."""
    from sfumato.cli import main

    fresh = main.app.__class__(pretty_exceptions_enable=False)
    monkeypatch.setattr(main, "app", fresh)
    main.build()
    return fresh
