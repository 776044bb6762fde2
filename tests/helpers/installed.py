"""A method of another package, for as long as a test wants it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from sfumato import methods


@contextmanager
def installed(cls: str, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The class of a module's text, found by an entry point of its name in small letters."""
    name = cls.lower()
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    others = methods.entry_points(group="sfumato.methods")
    entry = EntryPoint(name, f"{name}:{cls}", "sfumato.methods")
    monkeypatch.setattr(methods, "entry_points", lambda group: [*others, entry])
    methods.registry.cache_clear()
    try:
        yield methods.find(name)
    finally:
        methods.registry.cache_clear()
        sys.modules.pop(name, None)
