"""Every pair of methods runs, or is refused with its reason, as docs/compositions.md says."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from sfumato.methods import registry

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import compositions


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> compositions.Table:
    return compositions.Table(tmp_path_factory.mktemp("methods"))


def test_every_method_is_tried_or_said_not_to_be() -> None:
    known = set(compositions.SETTINGS) | set(compositions.LEFT_OUT)
    assert {name for name in registry() if name not in known} == set()


def test_the_order_of_typing_changes_no_bit_of_a_sum_of_losses(table: compositions.Table) -> None:
    assert table.why_not("patch_nce", "perceptual") == ""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "upscale" else ())  # of large pictures
        for name in compositions.SETTINGS
    ],
)
def test_threads_change_no_bit_and_a_batch_nothing_but_rounding(
    table: compositions.Table, name: str
) -> None:
    whole = table.walked(name, n=2)
    assert whole.isfinite().all()
    with ThreadPoolExecutor(2) as pool:
        again, alone = (
            pool.submit(table.walked, name, n=n, seed=seed) for n, seed in ((2, 0), (1, 1))
        )
    assert torch.equal(again.result(), whole)
    if name != "prompt_to_prompt":  # of which one picture is none
        assert torch.allclose(alone.result()[0], whole[1], atol=1e-3)


@pytest.mark.slow
def test_pairs_run_as_the_page_says(table: compositions.Table) -> None:
    refused = {(one, other): why for one, other, why in table.pairs() if why}
    page = compositions.FILE.read_text(encoding="utf-8")
    assert compositions.text(refused, table.names) == page
