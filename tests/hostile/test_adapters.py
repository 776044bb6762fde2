"""Adapter files that must give one line: of our own, of other programs, pickled."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import sfumato as sf
from sfumato.core.errors import SfumatoError
from sfumato.models.files import adapter_files, learned_words

NOTE = json.dumps({"alpha": 2.0, "rank": 2})
LAYER = "middle_block.1.qkv"
PAIR = {f"{LAYER}.down": torch.zeros(2, 192), f"{LAYER}.up": torch.zeros(576, 2)}


@cache
def emoji() -> sf.Model:
    return sf.load("emoji", dtype="float32")


@pytest.mark.parametrize(
    ("tensors", "note", "said"),
    [
        (PAIR, None, "has no note"),
        (PAIR, "{", "is not JSON"),
        (PAIR, '{"alpha": 1}', "rank is missing"),
        (PAIR, '{"alpha": 1, "rank": 0}', "rank = 0"),
        (PAIR, '{"alpha": "x", "rank": 2}', "alpha = 'x'"),
        (PAIR, '{"alpha": 1e400, "rank": 2}', "alpha"),
        ({f"{LAYER}.down": torch.zeros(2, 192)}, NOTE, "has no .up that fits"),
        (PAIR | {f"{LAYER}.up": torch.zeros(576, 3)}, NOTE, "has no .up that fits"),
        (PAIR | {f"{LAYER}.up": torch.full((576, 2), float("nan"))}, NOTE, "not finite"),
        (PAIR | {f"{LAYER}.up": torch.zeros(576, 2, dtype=torch.int8)}, NOTE, "not floats"),
        ({"strange": torch.zeros(2)}, NOTE, "holds no layers"),
        ({"x.down": torch.zeros(2, 4), "x.up": torch.zeros(4, 2)}, NOTE, "not in this network"),
    ],
)
def test_adapters_of_our_own(
    tmp_path: Path, tensors: dict[str, torch.Tensor], note: str | None, said: str
) -> None:
    file = tmp_path / "mine.safetensors"
    save_file(tensors, file, {} if note is None else {"note": note})
    with pytest.raises(SfumatoError, match=said) as caught:
        emoji().adapt(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"x.lora_down.weight": torch.tensor(1.0)}, "single number"),
        (
            {"x.lora_down.weight": torch.ones(2), "x.lora_up.weight": torch.ones(2)},
            "no two factors",
        ),
        ({"x.diff": torch.tensor(1.0)}, "single number"),
        (
            {"x.lora_down.weight": torch.ones(2, 4), "x.lora_up.weight": torch.ones(4, 2),
             "x.alpha": torch.ones(3)},
            "no number",
        ),
        (
            {"x.lora_embedding_A": torch.ones(2, 9), "x.lora_embedding_B": torch.ones(4, 3)},
            "do not fit together",
        ),
        ({}, "no LoRA layers"),
    ],
)  # fmt: skip
def test_changes_that_are_none(tensors: dict[str, torch.Tensor], said: str) -> None:
    with pytest.raises(SfumatoError, match=said):
        adapter_files.changes(tensors, {}, Path("x.safetensors"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (torch.ones(3), "no weights by name"),
        ([1, 2], "no weights by name"),
        ({1: torch.ones(2)}, "no weights by name"),
    ],
)
def test_pickles_that_hold_no_weights(tmp_path: Path, data: Any, said: str) -> None:
    torch.save(data, tmp_path / "x.pt")
    with pytest.raises(SfumatoError, match=said):
        adapter_files.read_adapter(tmp_path / "x.pt")


def test_words_without_vectors() -> None:
    for held in ({}, [1], {"*": 3}):
        with pytest.raises(SfumatoError, match="holds no vectors"):
            learned_words.words_of({"string_to_param": held}, Path("x.pt"))


def test_a_peft_folder_says_its_alpha(tmp_path: Path) -> None:
    file = tmp_path / "adapter_model.safetensors"
    down, up = torch.ones(2, 4), torch.ones(4, 2)
    stem = "base_model.model.mid.to_q"
    save_file({f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}, file)
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 8, "r": 2}))
    (low,) = adapter_files.changes(*adapter_files.read_adapter(file), file)
    assert isinstance(low, adapter_files.LowRank)
    assert low.scale == 4
    for said in ({"peft_type": "LOHA"}, {"use_dora": True}):
        config.write_text(json.dumps(said))
        with pytest.raises(SfumatoError, match="is not supported, LoRA is"):
            adapter_files.read_adapter(file)
