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

from conformance_glide import KINDS as GLIDE
from conformance_guided import KINDS as GUIDED
from conformance_ilvr import KINDS as ILVR
from conformance_images import KINDS as IMAGES
from conformance_losses import KINDS as LOSSES
from conformance_made import filled
from conformance_networks import KINDS as NETWORKS
from conformance_personal import KINDS as PERSONAL
from conformance_sdedit import KINDS as SDEDIT
from conformance_steps import KINDS as STEPS
from conformance_style import KINDS as STYLE
from conformance_tokens import KINDS as TOKENS
from conformance_training import KINDS as TRAINING
from conformance_vdiffusion import KINDS as VDIFFUSION

HERE = Path(__file__).parent
KINDS = {
    **GLIDE, **GUIDED, **ILVR, **IMAGES, **LOSSES, **NETWORKS, **PERSONAL, **SDEDIT,
    **STEPS, **STYLE, **TOKENS, **TRAINING, **VDIFFUSION,
}  # fmt: skip

# kinds of later work, by the letter of the issue that they belong to
LATER = {
    "strength-table": "J",
}


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
    if kind in LATER and kind not in KINDS:
        pytest.skip(f"kind {kind} belongs to issue {LATER[kind]}")
    assert kind in KINDS, f"{path.name}: no check for kind {kind!r}"
    tensors = path.with_suffix(".safetensors")
    KINDS[kind](case, filled(case, load_file(tensors) if tensors.exists() else {}))
