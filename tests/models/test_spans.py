"""Source.spans: which characters of a prompt stand behind each text column."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato as sf
from helpers import pipelines
from sfumato.models.encoders import Encoder
from sfumato.models.files import spans, vocabularies
from sfumato.models.files.vocabularies import CLIP_MERGES, ClipPrompts, GlidePrompts

TEXTS = ("red cat", " Red  CAT, don't", "café Ünï — 12", "İstanbul ﬁre 😀 x", "", "a\n\tb")


def said(text: str, columns: Iterable[Any]) -> list[str | None]:
    return [None if one is None else text[slice(*one)] for one in columns]


def letters(text: str, columns: Iterable[Any]) -> set[int]:
    """Which characters some column stands for."""
    return {k for one in columns if one is not None for k in range(*one)}


def solid(text: str) -> set[int]:
    return {k for k, letter in enumerate(text) if not letter.isspace()}


def test_the_bundled_model() -> None:
    model = sf.load("emoji")
    text = "a red cat"
    columns = model.spans(text)
    assert columns is not None
    cond = model.encode([text])
    assert len(columns) == cond["tokens"].shape[1]
    assert [one is not None for one in columns] == cond["mask"][0].tolist()
    assert letters(text, columns) == solid(text)
    assert set(model.spans("") or ()) == {None}


@pytest.mark.parametrize("text", TEXTS)
def test_glide(text: str, tmp_path: Path) -> None:
    table = [*vocabularies._byte_letters(), "re", "red", "\u0120c"]
    (tmp_path / "encoder.json").write_text(json.dumps({w: k for k, w in enumerate(table)}))
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\nr e\nre d\n\u0120 c\n")
    prompts = GlidePrompts(
        vocabularies.gpt2_tokenizer(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
    )
    columns = prompts.spans(text)
    assert len(columns) == 128
    assert letters(text, columns) == solid(text)
    mask = prompts([text])["mask"][0]
    assert all(one is None for one, real in zip(columns, mask, strict=True) if not real)
    if text == "red cat":
        assert said(text, columns[:4]) == ["red", "c", "a", "t"]


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """CLIP's vocabulary with the merges of one word and others of nothing."""
    pairs = [("r", "e"), ("re", "d</w>")]
    alphabet = vocabularies._byte_letters()
    rare = ((a, b) for a in alphabet[150:] for b in alphabet[:188])
    more = ((a, f"{b}</w>") for a in alphabet[150:] for b in alphabet)
    deeper = ((a + a, b) for a in alphabet[150:] for b in alphabet)
    pairs += [*rare, *more, *deeper][: CLIP_MERGES - 2]
    file = tmp_path_factory.mktemp("clip") / "bpe.txt.gz"
    lines = ["#version", *(" ".join(pair) for pair in pairs)]
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    return ClipPrompts(vocabularies.clip_tokenizer(file), cut=True)


@pytest.mark.parametrize("text", [*TEXTS, "red &amp; “cat”", "red " * 90])
def test_clips_own(text: str, bpe: ClipPrompts) -> None:
    columns = bpe.spans(text)
    length = int(bpe([text])["lengths"][0])
    assert len(columns) == 77
    assert columns[0] is None
    assert set(columns[length - 1 :]) == {None}
    if length < 77:
        assert letters(text, columns) == solid(text)
    if text.startswith("red &"):
        assert said(text, columns[1:4]) == ["red", "&amp;", "“"]


class Slow:
    """A tokenizer as transformers 4 has it: without offsets."""

    is_fast = False

    def __init__(self, fast: Any) -> None:
        self.fast = fast
        self.byte_decoder = {letter: byte for byte, letter in _letters().items()}

    def __call__(self, text: str, **given: Any) -> Any:
        return self.fast(text, **given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.fast, name)


def _letters() -> dict[int, str]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + k) for k, b in enumerate(others)}


@pytest.mark.parametrize("text", [*TEXTS, "e\u0301te\u0301", "<|endoftext|> red", "a" * 40])
def test_pieces_are_walked_as_offsets_say(text: str, tmp_path: Path) -> None:
    fast = pipelines.tokenizer(tmp_path)
    walked = spans.clip_spans(Slow(fast), text)
    assert letters(text, walked) == solid(text)
    if fast.is_fast and "\u0301" not in text and "İ" not in text:
        assert walked == spans.clip_spans(fast, text)


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    kinds = ("sd1", "sdxl")
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in kinds}
    for kind, folder in folders.items():
        pipelines.stable(folder / "parts", kind).save_pretrained(folder / "model")
    return {
        kind: sf.load(str(folder / "model"), dtype="float32") for kind, folder in folders.items()
    }


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_prompts_longer_than_the_context(kind: str, stable: dict[str, Any]) -> None:
    model = stable[kind]
    text = "red cat " * 30
    columns, rows = model.spans(text), model.encode([text])["context"]
    assert len(columns) == rows.shape[1]
    assert letters(text, columns) == solid(text)
    short = model.spans("red cat", [text])
    assert len(short) == model.encode(["red cat"], beside=[text])["context"].shape[1]
    assert said("red cat", short[:4]) == [None, "red", "cat", None]
    assert set(short[3:]) == {None}


def test_weighted_prompts(stable: dict[str, Any]) -> None:
    text = r"a (red cat:1.5), \(x\) at 16:9"
    columns = stable["sd1"].spans(text)
    words = [one for one in said(text, columns) if one is not None]
    assert words[:3] == ["a", "red", "cat"]
    assert "(" in words
    assert not letters(text, columns) & {2, text.index(":1.5"), text.index("\\")}


def test_learned_words(stable: dict[str, Any]) -> None:
    (encoder,) = stable["sd1"].text.encoders
    width = encoder.vectors.shape[1]
    known = Encoder(encoder.tokenizer, encoder.network, words={"<x y>": torch.zeros(2, width)})
    text = "red  <x y>cat"
    columns = known.spans(text, len(known.chunks(text)))
    assert said(text, columns[:6]) == [None, "red", "<x y>", "<x y>", "cat", None]


def test_models_without_text() -> None:
    assert replace(sf.load("emoji"), text=None).spans("red") is None
