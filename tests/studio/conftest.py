"""A browser for each module of the studio's tests, and a server for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")

from playwright.sync_api import Browser

from helpers.remote import Program
from helpers.studio import browser as launched


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A real server with the bundled model. It takes seconds to start; no test wants it empty."""
    started = Program(tmp_path_factory.mktemp("server"), "--host-name", "studio.test")
    started.start()
    yield started
    started.stop()
