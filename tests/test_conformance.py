"""Runs every fixture of the reference programs through the check of its kind.

Reads a folder recursively: SFUMATO_FIXTURES if set, else shared/fixtures beside the checkout, else
the small set in tests/fixtures. Dispatches on `kind` alone; an unknown kind fails.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from safetensors.torch import load_file

from conformance.kinds import KINDS
from conformance.made import filled

HERE = Path(__file__).parent


def folder() -> Path:
    if given := os.environ.get("SFUMATO_FIXTURES"):
        return Path(given)
    beside = HERE.parent.parent / "shared" / "fixtures"
    return beside if beside.is_dir() else HERE / "fixtures"


CASES = sorted(folder().rglob("*.json"))


def test_conformance_folder_is_not_empty() -> None:
    assert CASES, f"no fixtures in {folder()}"


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_conformance(path: Path) -> None:
    case = json.loads(path.read_text())
    kind = case["kind"]
    assert kind in KINDS, f"{path.name}: no check for kind {kind!r}"
    tensors = path.with_suffix(".safetensors")
    KINDS[kind](case, filled(case, load_file(tensors) if tensors.exists() else {}))
