"""Tokenizers and vocabularies that are none, or another model's: one clear line each."""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import transformers

import sfumato as sf
from helpers import pipelines
from sfumato.core.errors import SfumatoError
from sfumato.models.files import pipeline as parts
from sfumato.models.files import vocabularies
from sfumato.models.loaders import library
from sfumato.train.exports import write_pipeline

EMOJI = library.BUNDLED["emoji"]


@cache
def own() -> str:
    return (EMOJI / "tokenizer.json").read_text(encoding="utf-8")


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(own()), **fields})


def model_with(**fields: Any) -> str:
    data = json.loads(own())
    data["model"] |= fields
    return json.dumps(data)


BROKEN = [
    ("", "is not JSON"),
    ("[]", "object"),
    ("{}", "model is missing"),
    ("\x00", "is not JSON"),
    ('{"model": ' * 10_000, "is not JSON"),
    (changed(model=None), "model"),
    (changed(padding={"strategy": {"Fixed": 10**12}}), "padding"),
    (changed(truncation={"max_length": 3}), "truncation"),
    (changed(added_tokens=[{"id": 10**12, "content": "x"}]), "added_tokens.0.id"),
    (changed(added_tokens=[{"id": 7}]), "added_tokens.0"),
    (changed(normalizer={"type": "Nothing"}), "is no tokenizer that can be read"),
    (changed(pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}}), "is no tokenizer"),
    (changed(decoder=3), "is no tokenizer that can be read"),
    (model_with(type="WordPiece"), "model.type = 'WordPiece'"),
    (model_with(vocab={"a": "0"}), "model.vocab.a = '0'"),
    (model_with(vocab={"a": -1}), "model.vocab.a = -1"),
    (model_with(vocab={"a": 4608}, merges=[]), "has a token 4608, the network's table 4608 rows"),
    (model_with(merges=[["zzz", "qqq"]]), "is no tokenizer that can be read"),
    (model_with(merges=[1]), "model.merges.0"),
    (model_with(dropout=0.5), "model.dropout = 0.5"),
]


@pytest.mark.parametrize(("text", "said"), BROKEN)
def test_a_models_tokenizer(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(SfumatoError, match=said) as caught:
        vocabularies.read_tokenizer(tmp_path / "tokenizer.json", 4608)
    assert "\n" not in str(caught.value)
    assert "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize(("text", "said"), [BROKEN[0], BROKEN[2], BROKEN[-4]])
def test_a_folder_with_such_a_one(tmp_path: Path, text: str, said: str) -> None:
    copy = Path(shutil.copytree(EMOJI, tmp_path / "model"))
    (copy / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(SfumatoError, match=said):
        sf.load(str(copy))
    (copy / "tokenizer.json").unlink()
    with pytest.raises(SfumatoError, match="no such file"):
        sf.load(str(copy))


GLIDE = {"encoder.json": '{"a": 0, "b": 1, "ab": 2}', "vocab.bpe": "#version: 0.2\na b\n"}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("encoder.json", "[]", "encoder.json: .*dictionary|object"),
        ("encoder.json", "{", "encoder.json: is not JSON"),
        ("encoder.json", '{"a": "0"}', "encoder.json: a = '0'"),
        ("encoder.json", '{"a": 50257}', "encoder.json: a = 50257"),
        ("encoder.json", '{"a": 0}', "is no tokenizer that can be read"),
        ("encoder.json", "\udcff", "is not UTF-8 text"),
        ("vocab.bpe", "#version: 0.2\na\n", "vocab.bpe, line 2: 'a' is no pair"),
        ("vocab.bpe", "#version: 0.2\na b c\n", "vocab.bpe, line 2: 'a b c' is no pair"),
        ("vocab.bpe", None, "vocab.bpe: no such file"),
    ],
)
def test_glides_vocabulary(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    for own_name, own_text in GLIDE.items():
        given = text if own_name == name else own_text
        if given is not None:
            (tmp_path / own_name).write_text(given, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(SfumatoError, match=said) as caught:
        vocabularies.gpt2_tokenizer(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "holds 0 merges"),
        (b"not gzip", "cannot be read as CLIP's vocabulary"),
        (gzip.compress(b"\xff\xfe"), "cannot be read as CLIP's vocabulary"),
        (gzip.compress(b"a b\n" * 1000)[:20], "cannot be read as CLIP's vocabulary"),
        (gzip.compress(b"x\na b\n"), "holds 1 merges instead of"),
        (gzip.compress(b"x\nabc\n"), "line 2: 'abc' is no pair"),
        (gzip.compress(bytes(vocabularies.LIMIT + 10)), "holds more than 64 MiB"),
    ],
    ids=["empty", "other", "latin", "cut", "short", "single", "bomb"],
)
def test_clips_vocabulary(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "bpe.gz").write_bytes(data)
    with pytest.raises(SfumatoError, match=said):
        vocabularies.clip_tokenizer(tmp_path / "bpe.gz")


@cache
def words() -> dict[str, Any]:
    """The tiny CLIP's vocabulary as a tokenizer.json says it."""
    folder = pipelines.words(Path(tempfile.mkdtemp()) / "words")
    fast: Any = getattr(transformers, "CLIPTokenizerFast")  # noqa: B009 - its types lack it
    made = fast.from_pretrained(folder).backend_tokenizer.to_str()
    found: dict[str, Any] = json.loads(made)
    return found


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "vocab.json is missing"),
        ({"vocab.json": {"a": 0}}, "merges.txt is missing"),
        ({"vocab.json": {"a": -1}, "merges.txt": ""}, "vocab.json: a = -1"),
        ({"vocab.json": [1], "merges.txt": ""}, "vocab.json"),
        ({"vocab.json": {"a": 0}, "merges.txt": "x\nzz qq\n"}, "line 1: 'x' is no pair"),
        ({"tokenizer.json": "{"}, "is not JSON"),
        ({"tokenizer.json": {"model": {"type": "Unigram", "vocab": []}}}, "model.type"),
        ({"tokenizer.json": {"model": {"vocab": {}, "merges": ["a b"]}}}, "cannot be loaded"),
        ({"special_tokens_map.json": [1]}, "special_tokens_map.json"),
        ({"special_tokens_map.json": {"bos_token": 3}}, "special_tokens_map.json"),
        ({"added_tokens.json": {"x": "y"}}, "added_tokens.json"),
        ({"tokenizer_config.json": {"tokenizer_class": "T5Tokenizer"}}, "tokenizer_class"),
        ({"tokenizer_config.json": "{"}, "is not JSON"),
    ],
)
def test_a_pipelines_tokenizer(tmp_path: Path, files: dict[str, Any], said: str) -> None:
    for name, data in files.items():
        text = data if isinstance(data, str) else json.dumps(data)
        (tmp_path / name).write_text(text, encoding="utf-8")
    if not {"vocab.json", "tokenizer.json"} & files.keys() and files:
        pipelines.words(tmp_path)
    with pytest.raises(SfumatoError, match=said) as caught:
        parts.tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("words")
    pipelines.stable(root, "sd1")
    return root / "pipeline"


def test_a_tokenizer_of_another_model(pipeline: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(pipeline, tmp_path / "model"))
    data = words()
    ends = {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    data = {**data, "model": {**data["model"], "vocab": {**data["model"]["vocab"], **ends}}}
    data["added_tokens"] = []
    for name in ("vocab.json", "merges.txt"):
        (copy / "tokenizer" / name).unlink(missing_ok=True)
    (copy / "tokenizer" / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(SfumatoError, match="belongs to another model"):
        sf.load(str(copy))


def test_a_word_that_the_encoder_has_no_row_for(pipeline: Path) -> None:
    model: Any = sf.load(str(pipeline))
    encoder = model.text.encoders[0]
    last = len(encoder.vectors) - 1
    encoder.tokenizer.add_tokens(["sksks"])
    assert encoder.tokenizer("sksks", add_special_tokens=False).input_ids == [last + 1]
    with pytest.raises(SfumatoError, match=rf"has token {last + 1}, the text encoder's table"):
        model.encode(["a sksks"])


def test_a_folder_with_a_tokenizer_json_alone(pipeline: Path, tmp_path: Path) -> None:
    """It is read, and what training writes has the files that older programs read."""
    copy = Path(shutil.copytree(pipeline, tmp_path / "model"))
    folder = copy / "tokenizer"
    for file in folder.iterdir():
        file.unlink()
    (folder / "tokenizer.json").write_text(json.dumps(words()), encoding="utf-8")
    read = parts.tokenizer(folder)
    asked = "a red cat, cats!"
    wanted = parts.tokenizer(pipelines.words(tmp_path / "plain"))(asked).input_ids
    assert read(asked).input_ids == wanted
    write_pipeline({}, copy, {})  # what training a whole model ends with
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(folder / name, alone / name)
    assert parts.tokenizer(alone)(asked).input_ids == wanted
