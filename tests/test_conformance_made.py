"""The harness itself: cases of other sizes, counts and seeds pass, and a wrong answer does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from conformance.kinds import KINDS
from conformance.made import filled, losses, recorded, varied

SMALL = Path(__file__).parent / "fixtures"
VARIED = [
    "adm/superres", "adm/classifier_spatial_v2", "adm/unet_float_t", "glide/text2im",
    "glide/inpaint_text2im", "glide/superres_text2im",
]  # fmt: skip


def load(name: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from safetensors.torch import load_file

    case = json.loads((SMALL / f"{name}.json").read_text())
    return case, filled(case, load_file(SMALL / f"{name}.safetensors"))


@pytest.mark.parametrize("name", VARIED)
@pytest.mark.parametrize("rows", [1, 4])
def test_network_cases_of_another_batch_and_seed_pass_and_wrong_ones_do_not(
    name: str, rows: int
) -> None:
    case, tensors = load(name)
    inputs = varied(case, tensors, seed=rows, rows=rows)
    made = recorded(KINDS[case["kind"]], case, inputs)
    KINDS[case["kind"]](case, made)
    for out in (key for key in made if key.startswith("out.")):
        wrong = {**made, out: made[out] + 0.01}
        with pytest.raises(AssertionError):
            KINDS[case["kind"]](case, wrong)


@pytest.mark.parametrize("respacing", ["", "40", "ddim20", "10,5,3"])
@pytest.mark.parametrize("mean_type", ["epsilon", "start_x", "previous_x"])
@pytest.mark.parametrize("var_type", ["learned_range", "learned", "fixed_small", "fixed_large"])
def test_training_losses_of_every_mean_variance_and_respacing(
    respacing: str, mean_type: str, var_type: str
) -> None:
    """Against the reference's tables, written anew in conformance.made."""
    for k, loss_type in enumerate(("mse", "rescaled_mse", "kl", "rescaled_kl")):
        case, tensors = losses(
            seed=k, rows=3 + k, side=4 + k, total=(200, 1000)[k % 2], respacing=respacing,
            schedule=("linear", "cosine")[k // 2], mean_type=mean_type, var_type=var_type,
            loss_type=loss_type,
        )  # fmt: skip
        KINDS["training-losses"](case, tensors)
        wrong = {**tensors, "out.c0.loss": tensors["out.c0.loss"] * 1.01}
        with pytest.raises(AssertionError):
            KINDS["training-losses"](case, wrong)


def test_every_kind_has_a_small_case_here_in_ten_megabytes() -> None:
    cases = [json.loads(path.read_text()) for path in SMALL.rglob("*.json")]
    assert set(KINDS) <= {case["kind"] for case in cases}
    assert sum(path.stat().st_size for path in SMALL.rglob("*.*")) < 10_000_000


def test_every_row_of_a_table_is_read() -> None:
    path = Path(SMALL / "ilvr" / "closed_forms.json")
    case = json.loads(path.read_text())
    for k in (4, 6, 12):
        wrong = {**case["rows"][k], "diff_std": case["rows"][k]["diff_std"] * 1.001}
        with pytest.raises(AssertionError):
            KINDS[case["kind"]]({**case, "rows": [wrong]}, {})
