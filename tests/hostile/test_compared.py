"""Hostile values for comparisons, sweeps and their axes, and what a server may send of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest

import sfumato as sf
from sfumato import documents
from sfumato.cli.remote import comparing, sweeping
from sfumato.core.errors import SfumatoError
from sfumato.measure.axis import Axis, axis
from sfumato.measure.compare import Way
from sfumato.models.replay import read_recipe
from sfumato.server.jobs import File

PICTURE = PIL.Image.new("RGB", (32, 32), "red")


@cache
def model() -> sf.Model:
    return sf.load("emoji", dtype="float32")


def plain() -> Any:
    return model().process("rose, flat", steps=1, stages=1, size="native")


def compared(place: Path, **given: Any) -> Any:
    return sf.compare(**{"ways": {"a": plain()}, "folder": place / "c", "seeds": 1, **given})


def swept(place: Path, **given: Any) -> Any:
    own = {"process": plain(), "over": "cfg.scale=1,2", "folder": place / "s", "seeds": 1}
    return sf.sweep(**{**own, **given})


def filled(fills: Any) -> dict[str, Any]:
    return {"a": Way(plain() | sf.SDEdit(PICTURE, t0=0.5), fills)}


Asked = Callable[[Path], Any]
WRONG: dict[str, tuple[Asked, str]] = {
    "no name": (lambda p: compared(p, ways={" ": plain()}), "is no name"),
    "a name of lines": (lambda p: compared(p, ways={"a\nb": plain()}), "is no name"),
    "a long name": (lambda p: compared(p, ways={"x" * 9999: plain()}), "is no name"),
    "a number as folder": (lambda p: compared(p, folder=5), "folder = 5"),
    "no function": (lambda p: compared(p, progress=5), "progress = 5: give a function"),
    "too many": (lambda p: compared(p, seeds=1000, prompts=[*"abcdefghijklmnopqrstuvwxyz"]),
                 "26,000 pictures; take 20,000 at most"),
    "no list of ids": (lambda p: compared(p, ways=filled(5)), "fills = 5: give a tuple"),
    "a text as ids": (lambda p: compared(p, ways=filled("sdedit")), "fills = 'sdedit'"),
    "no picture to fill": (lambda p: compared(p, ways=filled(("cfg",))), "'cfg' takes no picture"),
    "no home": (lambda p: compared(p, folder="~nobody-of-that-name/x"), "cannot be read"),
    "sweep: no function": (lambda p: swept(p, progress="x"), "progress = 'x'"),
    "sweep: no parents": (lambda p: swept(p, parents="abc"), "parents = 'abc': give a list"),
    "sweep: no files": (lambda p: swept(p, made=[]), "made = []"),
    "sweep: pictures at once": (
        lambda p: swept(p, process=plain() | sf.PromptToPrompt(edited=["lily, flat"])),
        "makes 2 pictures at once",
    ),
    "axis: no values": (lambda p: Axis("cfg", "scale", None), "values = None"),  # type: ignore[arg-type]
    "axis: no field": (lambda p: Axis("cfg", 5, (1, 2)), "give texts"),  # type: ignore[arg-type]
    "axis: not swept": (lambda p: swept(p, over=Axis("", "prompt", ("a", "b"))), "is not swept"),
    "axis: seeds": (lambda p: swept(p, over=Axis("", "n", (1, 2))), "is not swept"),
    "axis: as wide as numbers": (lambda p: axis("cfg.scale=-1e308:1e308:3"), "wider than numbers"),
    "axis: nearly": (lambda p: axis("cfg.scale=0:1e308:3"), "wider than numbers"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_value_is_one_line(kind: str, tmp_path: Path) -> None:
    ask, said = WRONG[kind]
    with pytest.raises(SfumatoError) as error:
        ask(tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.png"))


def test_a_windows_ends_may_be_a_list() -> None:
    assert Axis("cfg", "window", ([0, 1], [0, 0.5])).values == ((0, 1), (0, 0.5))  # type: ignore[arg-type]


def test_a_way_of_several_pictures_fails_alone(tmp_path: Path) -> None:
    ways = {"both": plain() | sf.PromptToPrompt(edited=["lily, flat"]), "plain": plain()}
    done = compared(tmp_path, ways=ways)
    assert [error.partition(": ")[0] for error in done.failed] == ["both"]
    assert "internal error" not in done.failed[0]


@pytest.mark.parametrize(("name", "call"), [("compare.json", compared), ("sweep.json", swept)])
def test_a_file_stands_in_the_pictures_place(
    name: str, call: Callable[..., Any], tmp_path: Path
) -> None:
    folder = call(tmp_path).folder
    text = (folder / name).read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    (other / name).write_bytes(text)
    (other / "pictures").write_text("x")
    with pytest.raises(SfumatoError, match="is a file where a folder is needed"):
        call(tmp_path, folder=other)


def test_a_comparison_goes_on_in_its_number_format_alone(tmp_path: Path) -> None:
    compared(tmp_path)
    other = sf.load("emoji", dtype="bfloat16")
    way = other.process("rose, flat", steps=1, stages=1, size="native")
    with pytest.raises(SfumatoError, match="holds a comparison of other dtype"):
        compared(tmp_path, ways={"a": way})


def test_long_captions_are_cut_at_once() -> None:
    sheet = sf.sheet([np.zeros((8, 8, 3), np.uint8)], ["x" * 10_000])
    assert sheet.size[0] < 2000


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/x", "a/../../x", "a//b", "a\\..\\b"])
def test_names_of_a_servers_files_stay_below(name: str) -> None:
    data = {"sha256": "a" * 64, "name": name, "media_type": "x", "bytes": 1, "place": 0}
    with pytest.raises(SfumatoError, match="leads out of the folder"):
        documents.parse_data(File, data, "job")


HELD = json.dumps({
    "ways": {"a": {"schema": 1, "model": "emoji"}}, "weights": {"a": "0"}, "fills": {"a": []},
    "dtype": {"a": "float32"}, "rows": [[None, None]], "seeds": 1, "seed": 0,
}).encode()  # fmt: skip
ESTIMATE = {"value": 1.0, "low": 1.0, "high": 1.0, "n": 1}


def sent(folder: Path, names: list[str], report: Any) -> Any:
    """A comparison of a server that sends files of these names."""
    data = {"compare.json": HELD, "report.json": json.dumps(report).encode()}
    server: Any = SimpleNamespace(
        connection=SimpleNamespace(url="http://here"),
        fetch=lambda id, file: data.get(file.name, b"x"),
    )
    files = [File(sha256="a" * 64, name=name, media_type="x", bytes=1, place=0) for name in names]
    job: Any = SimpleNamespace(results=files)
    return comparing.Taken(server, "id", folder).all(job)


LINE = {"way": "a", "measure": "rms", "estimate": ESTIMATE, "difference": None}


@pytest.mark.parametrize(
    ("names", "report"),
    [
        ([], {}),
        (["compare.json"], {}),
        (["report.json"], {"ways": ["a"], "lines": [], "failed": []}),
        (["compare.json", "report.json"], []),
        (["compare.json", "report.json"], {"ways": [], "lines": [], "failed": []}),
        *(
            (["compare.json", "report.json"], {"ways": ["a"], "lines": [line], "failed": []})
            for line in (
                5, {}, {**LINE, "estimate": {}}, {**LINE, "estimate": {**ESTIMATE, "n": "x"}},
                {**LINE, "difference": {"evil": 1}}, {**LINE, "estimate": None},
            )
        ),
    ],
)  # fmt: skip
def test_what_a_server_sends_of_a_comparison_is_read_strictly(
    names: list[str], report: Any, tmp_path: Path
) -> None:
    with pytest.raises(SfumatoError) as error:
        sent(tmp_path, names, report)
    assert "\n" not in str(error.value)


def test_a_curve_that_is_no_table() -> None:
    with pytest.raises(SfumatoError, match=r"curve\.csv: is no table"):
        sweeping.marked(f"a,b\n{'z' * 200_000},x\n", axis("cfg.scale=1,2"))


def test_a_models_name_may_be_as_long_as_a_files(tmp_path: Path) -> None:
    """Of another program's settings, whose endings would make it longer."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", f"cat\nSteps: 2, Seed: 1, Model: {'x' * 250}")
    PICTURE.save(tmp_path / "a.png", pnginfo=info)
    assert read_recipe(tmp_path / "a.png").model == "x" * 250
