"""Every pair of methods runs, or is refused with its reason, as docs/compositions.md says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sfumato.methods import registry

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import compositions


def test_every_method_is_tried_or_said_not_to_be() -> None:
    known = set(compositions.SETTINGS) | set(compositions.LEFT_OUT)
    assert {name for name in registry() if name not in known} == set()


def test_the_order_of_typing_changes_no_bit_of_a_sum_of_losses(tmp_path: Path) -> None:
    table = compositions.Table(tmp_path)
    assert table.why_not("patch_nce", "perceptual") == ""


@pytest.mark.slow
def test_pairs_run_as_the_page_says(tmp_path: Path) -> None:
    table = compositions.Table(tmp_path)
    refused = {(one, other): why for one, other, why in table.pairs() if why}
    page = compositions.FILE.read_text(encoding="utf-8")
    assert compositions.text(refused, table.names) == page
