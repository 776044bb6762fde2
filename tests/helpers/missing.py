"""What a test needs beside this environment, and a machine may lack: never skipped in silence."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

MADE = "SFUMATO_TESTS_MADE"
"""Set by `make test`, which makes every environment before it runs a test."""


def missing(sentence: str, made: bool = True) -> NoReturn:
    """Skip for what is missing; fail where `make test` runs and has made it.

    made: whether it could, as what needs npm it makes only where npm is.
    """
    if made and os.environ.get(MADE):
        pytest.fail(f"{sentence}, and `make test` should have made it", pytrace=False)
    pytest.skip(sentence)
