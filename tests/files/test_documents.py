"""Documents from outside become a value or one line that says what is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from sfumato import documents
from sfumato.core.errors import SfumatoError


class Sample(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    steps: Annotated[int, Field(ge=1, le=10)]
    scale: float = 1.0
    words: tuple[str, ...] = ()


def test_json_and_toml_make_the_same_value(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('\ufeff{"steps": 3, "scale": 2, "words": ["a"]}')
    (tmp_path / "a.toml").write_text('steps = 3\nscale = 2\nwords = ["a"]')
    wanted = Sample(steps=3, scale=2.0, words=("a",))
    assert documents.read_json(Sample, tmp_path / "a.json") == wanted
    assert documents.read_toml(Sample, tmp_path / "a.toml") == wanted
    assert documents.parse_data(Sample, {"steps": 3, "scale": 2, "words": ["a"]}, "x") == wanted


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"steps": "9"}', "doc: steps = '9': input should be a valid integer"),
        ('{"steps": 99}', "doc: steps = 99: input should be less than or equal to 10"),
        ('{"steps": 1, "scale": NaN}', "doc: scale = nan: input should be a finite number"),
        ('{"steps": 1, "stepz": 1}', "doc: there is no field 'stepz'; leave it out"),
        ("{}", "doc: steps is missing"),
        ('{"steps": 1, "words": [3]}', "doc: words.0 = 3: input should be a valid string"),
        ("{", "doc: is not JSON ("),
        ("[" * 100_000, "doc: is not JSON ("),
        ("7", "doc: input should be an object"),
    ],
)
def test_what_is_wrong_is_one_line(text: str, line: str) -> None:
    with pytest.raises(SfumatoError) as caught:
        documents.parse_json(Sample, text, "doc")
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_documents(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b" " * 2000)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name, said in (
        ("pipe", "no regular file"),
        ("", "is a folder"),
        ("none", "no such file"),
        ("long", "larger than 1000 bytes"),
        ("bytes", "is not UTF-8"),
        ("a\0b", "cannot be read"),
    ):
        with pytest.raises(SfumatoError, match=said):
            documents.read_text(tmp_path / name, 1000)
    with pytest.raises(SfumatoError, match="no regular file"):
        documents.read_bytes(Path("/dev/zero"))


def test_a_text_without_an_encoding_is_shown_where_it_is() -> None:
    data = {"steps": 1, "words": ["a" * 100 + "\udcff", "b" * 100]}
    with pytest.raises(
        SfumatoError, match=r"^doc: words\.0 is not UTF-8 text at 'a{20}\\udcff'"
    ) as said:
        documents.parse_data(Sample, data, "doc")
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '{"b": [{"c": 1, "c": 2}]}'])
def test_a_key_that_is_there_twice_is_refused(tmp_path: Path, text: str) -> None:
    """Readers differ in which of the two they take."""
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SfumatoError, match=r"a\.json: has '[ac]' twice"):
        documents.read_json(dict[str, Any], tmp_path / "a.json")
