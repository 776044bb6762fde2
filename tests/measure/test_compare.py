"""Comparisons: one sheet and one table of several ways on the same inputs, prompts and seeds."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

import sfumato as sf
from sfumato.core.errors import SfumatoError
from sfumato.measure.compare import Way
from sfumato.measure.tables import Score, Table
from sfumato.models.replay import read_recipe

STROKES = Path(__file__).parents[2] / "examples" / "strokes"
ROSE, APPLE = STROKES / "rose.png", STROKES / "red-apple.png"


pytestmark = pytest.mark.usefixtures("home")


def plain(model: sf.Model) -> Any:
    return model.process("rose, 3d render", steps=1, stages=1, size="native")


def test_the_table_has_intervals_and_paired_differences() -> None:
    """Equal differences have no spread, however far apart the pictures lie."""
    rows = [((k,), float(10 * k)) for k in range(6)]
    scores = [Score("a", key, {"rms": value}, Path("x.png"), "") for key, value in rows]
    scores += [Score("b", key, {"rms": value + 1}, Path("y.png"), "") for key, value in rows[:5]]
    scores += [Score(way, (99,), {"clip": 3.0}, Path("z.png"), "") for way in "ba"]
    table = Table.of(["a", "b"], scores)
    first, second = (table.line(way, "rms") for way in "ab")
    assert first is not None
    assert second is not None
    assert (first.estimate.value, first.estimate.n, first.difference) == (25.0, 6, None)
    assert first.estimate.low < 25 < first.estimate.high
    assert second.difference is not None
    assert (second.difference.value, second.difference.low, second.difference.high) == (1, 1, 1)
    read = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [(row["way"], row["measure"]) for row in read] == [
        ("a", "rms"), ("a", "clip"), ("b", "rms"), ("b", "clip"),
    ]  # fmt: skip
    assert (read[2]["difference"], read[2]["difference low"], read[0]["difference"]) == (
        "1", "1", "",
    )  # fmt: skip
    assert (read[3]["value"], read[3]["low"], read[3]["difference low"]) == ("3", "", "")
    assert "1 [1, 1] *" in str(table)
    assert str(table).splitlines()[0].split() == ["way", "rms", "clip"]


def test_ways_run_on_the_same_inputs_prompts_and_seeds(model: sf.Model, tmp_path: Path) -> None:
    edit = plain(model) | sf.SDEdit(ROSE, t0=0.3)
    ways = {"faithful": edit, "free": edit.revised("sdedit", t0=0.9), "words": plain(model)}
    folder = tmp_path / "done"
    asked: dict[str, Any] = {"inputs": [ROSE, APPLE], "prompts": ["rose", "red apple"], "seeds": 2}
    done = sf.compare(ways, folder, seed=5, **asked)
    assert done.table.ways == ("faithful", "free", "words")
    assert not done.failed
    files = sorted(file.name for file in (folder / "pictures").iterdir())
    assert len(files) == 2 * 2 * 3 * 2
    recipe = read_recipe(folder / "pictures" / "4-2-6.png")  # apple, "red apple"; free; second seed
    assert recipe.prompt.startswith("red apple")
    assert recipe.methods[0]["image"]["name"] == "red-apple.png"
    assert (recipe.methods[0]["t0"], recipe.seed, recipe.run["index"]) == (0.9, 5, 1)
    rms = {way: done.table.line(way, "rms") for way in ways}
    assert all(line is not None and line.estimate.n == 8 for line in rms.values())
    faithful, free = rms["faithful"], rms["free"]
    assert faithful is not None
    assert free is not None
    assert free.difference is not None
    assert faithful.estimate.value < free.estimate.value
    assert free.difference.value == pytest.approx(free.estimate.value - faithful.estimate.value)
    assert {"kernel", "clip", "diversity", "seconds", "calls"} <= set(done.table.names())
    with (folder / "pictures.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(files)
    assert {row["seed"] for row in rows} == {"5", "6"}
    sheet = PIL.Image.open(folder / "sheet.png")
    assert sheet.width > 4 * 128
    assert sheet.height > 8 * 128
    assert "compositeWithTrained" in sheet.info["XML:com.adobe.xmp"]
    before = {file: (folder / "pictures" / file).stat().st_mtime_ns for file in files}
    (folder / "pictures" / files[0]).unlink()
    again = sf.compare(ways, folder, seed=5, **asked)
    after = {file: (folder / "pictures" / file).stat().st_mtime_ns for file in files}
    assert [file for file in files if before[file] != after[file]] == [files[0]]
    line = again.table.line("free", "rms")
    assert line is not None
    assert line.estimate == free.estimate
    with pytest.raises(SfumatoError, match="holds a comparison of other seed"):
        sf.compare(ways, folder, seed=6, **asked)


def test_a_way_that_fails_leaves_the_others(model: sf.Model, tmp_path: Path) -> None:
    small = PIL.Image.fromarray(np.full((8, 8, 3), 200, np.uint8))
    masked = plain(model) | sf.SDEdit(ROSE, t0=0.5, mask=small)
    done = sf.compare({"plain": plain(model), "masked": masked}, tmp_path / "x", seeds=1)
    assert len(done.failed) == 1
    assert done.failed[0].startswith("masked: ")
    assert done.table.line("plain", "calls") is not None
    assert done.table.line("masked", "calls") is None


def test_what_it_refuses(model: sf.Model, tmp_path: Path) -> None:
    ways = {"a": plain(model)}
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    for given, said in (
        ({"ways": {}}, "give 1 to 20 ways"),
        ({"ways": {"a": "sdedit"}}, "is none; give model.process"),
        ({"inputs": "x.png"}, "inputs = 'x.png': give a list"),
        ({"prompts": "rose"}, "prompts = 'rose': give a list"),
        ({"seeds": 0}, "seeds = 0"),
        ({"folder": tmp_path / "full"}, "is not empty and holds no comparison"),
    ):
        with pytest.raises(SfumatoError, match=said):
            sf.compare(**{"ways": ways, "folder": tmp_path / "y", "seeds": 1, **given})


def test_whose_picture_is_the_input(model: sf.Model) -> None:
    both = plain(model) | sf.SDEdit(ROSE, t0=0.5) | sf.ILVR(ROSE, factor=4)
    assert Way(both).filled == ("sdedit",)
    assert Way(plain(model)).filled == ()
    assert Way(both, ("ilvr",)).filled == ("ilvr",)


def call(app: Any, *words: str) -> Any:
    base = ["--steps", "1", "--stages", "1", "--size", "native", "--seeds", "1"]
    return CliRunner().invoke(app, ["compare", *words, *base])


def test_the_verb(app: Any, tmp_path: Path, model: sf.Model) -> None:
    saved = (plain(model) | sf.SDEdit(ROSE, t0=0.5)).sample(3)
    saved.images[0].save("own.png")
    done = call(
        app, "far: sdedit t0=0.9 cfg.scale=2", "sdedit sdedit.t0=0.2 ilvr factor=8", "generate",
        "own.png", "--input", str(ROSE), "-p", "rose", "-o", "table",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["way", "kernel"]
    assert lines[1].startswith("far ")
    assert lines[2].startswith("sdedit sdedit.t0=0.2 ilvr factor=8 ")
    assert lines[4].startswith("own ")
    assert lines[-1] == "table/sheet.png"
    recipe = read_recipe(Path("table/pictures/1-2-0.png"))
    assert [m["method"] for m in recipe.methods][:2] == ["sdedit", "ilvr"]
    assert recipe.methods[1]["image"]["name"] == "rose.png"
    told = call(
        app,
        "generate",
        "plain: generate cfg.scale=1 solver=ddim",
        "--json",
        "-p",
        "rose",
        "-o",
        "b",
    )
    data = json.loads(told.stdout)
    assert data["ways"] == ["generate", "plain"]
    assert {line["measure"] for line in data["lines"]} >= {"kernel", "clip", "calls"}
    assert read_recipe(Path("b/pictures/1-2-0.png")).solver["solver"] == "ddim"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sdedit"], "'sdedit': sdedit needs a picture; give --input"),
        (["sdedti"], "sdedti"),
        (["t0=3"], "t0 is no METHOD.FIELD, nor steps"),
        (["generate", "generate"], "'generate': is there twice; name one"),
        (["generate steps=many"], "steps=many: is no whole number"),
        (["cfg.scale=x"], "scale"),
        (['"open'], "No closing quotation"),
        ([" "], "is empty; give a recipe, or methods"),
        (["sdedit t0=auto", "--input", str(ROSE)], "auto is not searched here"),
    ],
)
def test_what_the_verb_refuses(app: Any, words: list[str], said: str) -> None:
    done = call(app, *words)
    assert done.exit_code == 1, done.output
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
