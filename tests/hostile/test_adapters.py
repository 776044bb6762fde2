"""Adapter files that must give one line: of our own, of other programs, pickled."""

from __future__ import annotations

import json
import os
import pickle
import random
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import sfumato as sf
from sfumato.core.errors import SfumatoError
from sfumato.models.files import adapter_files, checkpoint, learned_words
from sfumato.train import checkpoint as train

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


def expanded() -> torch.Tensor:
    return torch.ones(1).expand(10**9, 10**6)


STORED: list[tuple[torch.Tensor, str]] = [
    (torch.eye(3).to_sparse(), "stored without plain numbers"),
    (torch.ones(2, device="meta"), "stored without plain numbers"),
    (torch.ones(2, dtype=torch.complex64), "which no weights are"),
    (torch.ones(2, dtype=torch.uint64), "which no weights are"),
    (torch.ones(1).reshape([1] * 40), "40 dimensions"),
    (expanded(), "says more numbers than it holds"),
]


@pytest.mark.parametrize(("tensor", "said"), STORED)
def test_tensors_that_no_weights_are(tmp_path: Path, tensor: torch.Tensor, said: str) -> None:
    pair = {"x.lora_A.weight": tensor, "x.lora_B.weight": torch.ones(3, 3)}
    torch.save(pair, tmp_path / "x.pt")
    torch.save({"state_dict": pair}, tmp_path / "x.ckpt")
    for read in (adapter_files.read_adapter, checkpoint.read_state_dict):
        with pytest.raises(SfumatoError, match=said):
            read(tmp_path / "x.pt")
    with pytest.raises(SfumatoError, match=said):
        sf.load(str(tmp_path / "x.ckpt"))


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop", "nothing"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, name: str, kind: str) -> None:
    file = tmp_path / name
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind != "nothing":
        file.symlink_to("/dev/zero" if kind == "device" else name)
    for read in (adapter_files.read_adapter, checkpoint.read_state_dict, train.read):
        with pytest.raises(SfumatoError, match=rf"{name}: (is|no such|cannot)"):
            read(file)


def test_names_that_are_no_texts_are_no_weights(tmp_path: Path) -> None:
    torch.save({3: torch.ones(2), None: torch.ones(2)}, tmp_path / "x.pt")
    with pytest.raises(SfumatoError, match="holds no tensors"):
        sf.load(str(tmp_path / "x.pt"))


LEGACY = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001))
LITTLE = pickle.dumps({"little_endian": True}, 2)
PICKLES = {
    "a float cut short": b"\x80\x02G\0\0",
    "a number cut short": b"\x80\x02J\0",
    "a text that says too much": b"\x80\x02X\xff\xff\xff\x7fabc",
    "a text that is none": b"\x80\x02X\2\0\0\0\xff\xfe.",
    "a deep list": b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
    "storages that are not there": LEGACY + LITTLE + pickle.dumps({}, 2) + pickle.dumps([1], 2),
    "storages cut short": LEGACY + LITTLE + pickle.dumps({}, 2) + pickle.dumps(["a"], 2) + b"\1",
    "nothing": b"",
    "a list": b"\x80\x02].",
    "a zip without files": b"PK\5\6" + bytes(18),
    "a pointer of a large file": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_that_are_damaged(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.pt").write_bytes(PICKLES[name])
    for read in (adapter_files.read_adapter, checkpoint.read_state_dict):
        with pytest.raises(SfumatoError, match=r"x\.pt: ") as caught:
            read(tmp_path / "x.pt")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(3))
def test_pickles_with_wrong_bytes(tmp_path: Path, seed: int) -> None:
    file, draw = tmp_path / "x.pt", random.Random(seed)
    weights = {"x.lora_A.weight": torch.ones(2, 4), "x.lora_B.weight": torch.ones(4, 2)}
    for zipped in (True, False):
        torch.save(weights, file, _use_new_zipfile_serialization=zipped)
        whole = file.read_bytes()
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(draw.choice((1, 2, 8))):
                data[draw.randrange(len(data))] = draw.randrange(256)
            file.write_bytes(data[: draw.choice((len(data), draw.randrange(len(data))))])
            with suppress(SfumatoError):
                adapter_files.changes(*adapter_files.read_adapter(file), file)
            with suppress(SfumatoError):
                checkpoint.read_state_dict(file)


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
