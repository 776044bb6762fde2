"""SentencePiece's vocabularies, read as transformers reads them; broken ones in one line."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import pipelines
from sfumato.core.errors import SfumatoError
from sfumato.models.files.language_models import t5_tokenizer
from sfumato.models.files.sentencepieces import unigram_tokenizer

PIECES = [("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2), ("\u2581", -3.0, 1),
          ("\u2581red", -1.0, 1), ("\u2581cat", -1.0, 1),
          *((chr(code), -4.0, 1) for code in range(97, 123))]  # fmt: skip
"""Those of helpers.pipelines.t5."""


def number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(n: int, data: bytes) -> bytes:
    return number(n << 3 | 2) + number(len(data)) + data


def written(path: Path, kind: int = 1) -> Path:
    """A vocabulary's file."""
    data = b""
    for text, score, of in PIECES:
        piece = field(1, text.encode()) + b"\x15" + struct.pack("<f", score)
        data += field(1, piece + b"\x18" + number(of))
    path.write_bytes(data + field(2, b"\x18" + number(kind)) + field(3, field(1, b"nmt_nfkc")))
    return path


def test_texts_become_the_tokens_of_the_newer_file(tmp_path: Path) -> None:
    pipelines.t5(tmp_path / "newer", 16)
    newer = t5_tokenizer(tmp_path / "newer")
    (tmp_path / "older").mkdir()
    written(tmp_path / "older" / "spiece.model")
    older = t5_tokenizer(tmp_path / "older")
    for text in ("red cat", "", "a cat?", "redcat", "a  b"):
        one, other = (t.encode(text, add_special_tokens=False) for t in (newer, older))
        if "  " not in text:  # several spaces are one here, as T5's own file says
            assert one.ids == other.ids, text
    assert older.encode("a  b", add_special_tokens=False).tokens == ["\u2581", "a", "\u2581", "b"]
    assert older.token_to_id("</s>") == 1


def test_a_folder_with_the_older_file_alone_reads_prompts_alike(
    tmp_path: Path,
) -> None:
    import sfumato as sf

    pipelines.pixart(tmp_path)
    folder = tmp_path / "pipeline"
    newer = sf.load(str(folder), dtype="float32").encode(["red cat"])
    (folder / "tokenizer" / "tokenizer.json").unlink()
    written(folder / "tokenizer" / "spiece.model")
    older = sf.load(str(folder), dtype="float32").encode(["red cat"])
    assert all((newer[name] == older[name]).all() for name in newer)


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="of the unigram kind"):
        unigram_tokenizer(written(tmp_path / "bpe.model", kind=2))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400))
def test_what_is_damaged_is_refused_by_one_line(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    whole = written(folder / "whole.model").read_bytes()
    for data in (noise, whole[:cut] + noise):
        file = folder / "other.model"
        file.write_bytes(data)
        with suppress(SfumatoError):  # and nothing else
            unigram_tokenizer(file)
