"""Shared set-up of the tests."""

import operator
import os
import random
import sys
from collections.abc import Generator
from typing import Any

import pytest

# libgomp's threads spin while they wait; with another process on a core that makes torch tens of
# times slower. It must be set before torch is first imported.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def seed_all() -> None:
    """One state of every global source of random numbers."""
    random.seed(0)
    for name, seed in (("numpy", "random.seed"), ("torch", "manual_seed")):
        if (library := sys.modules.get(name)) is not None:
            operator.attrgetter(seed)(library)(0)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    """Layers start at weights from a global source: theirs are not those of the test before."""
    seed_all()
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    seed_all()


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
