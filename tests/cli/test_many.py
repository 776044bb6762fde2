"""The program on many pictures: batch and sweep verbs, composing a recipe, searched fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

import sfumato as sf
from helpers.program import FAST, STROKES, call, fails, home
from sfumato.cli.makers import prompted
from sfumato.core.errors import SfumatoError
from sfumato.models import batch
from sfumato.models.replay import read_recipe

__all__ = ["home"]


def test_a_folder_with_captions_is_a_batch(app: Any, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("rose", "mushroom"):
        (folder / f"{name}.png").write_bytes((STROKES / f"{name}.png").read_bytes())
    (folder / "rose.txt").write_text("rose, flat\n")
    words = ["batch", "sdedit", "in", "-p", "{name} in the rain", "--seed", "3", *FAST]
    done = call(app, *words, "-o", "out/{name}.png")
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == ["out/mushroom.png", "out/rose.png"]
    assert read_recipe("out/rose.png").prompt == "rose in the rain, 3d render"
    again = call(app, *words, "-o", "out/{name}.png")
    assert again.stdout == ""
    assert "0 made, 2 there already" in again.stderr
    own = call(app, "batch", "sdedit", "in/", *FAST, "-o", "own/{name}-{seed}.png")
    assert own.exit_code == 0, own.output
    assert read_recipe("own/rose-0.png").prompt == "rose, flat"


def test_one_failure_does_not_stop_the_rest_and_can_be_run_again(app: Any, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "image,prompt,sdedit.t0,seed\n"
        f"{STROKES / 'rose.png'},rose,0.4,7\n"
        "nothing.png,cat,0.5,1\n"
        f"{STROKES / 'rose.png'},rose,2.5,1\n",
        encoding="utf-8",
    )
    line = fails_late(app, "batch", "sdedit", "rows.csv", *FAST)
    assert "1 made, 0 there already, 2 failed" in line
    assert "rows.csv, line 3: nothing.png: no such file" in line
    recipe = read_recipe("batch/rose-7.png")
    assert next(m for m in recipe.methods if m["method"] == "sdedit")["t0"] == 0.4
    failed = [json.loads(row) for row in Path("batch/failed.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in failed] == ["cat", "rose"]
    PIL.Image.open(STROKES / "rose.png").save("nothing.png")
    line = fails_late(app, "batch", "sdedit", "batch/failed.jsonl", *FAST)
    assert "1 made, 0 there already, 1 failed" in line


def test_failed_rows_of_a_text_file_keep_their_numbers(app: Any, tmp_path: Path) -> None:
    long = "word " * 500
    (tmp_path / "p.txt").write_text(f"rose, flat\n{long}\n", encoding="utf-8")
    assert "1 made" in fails_late(app, "batch", "generate", "p.txt", *FAST)
    row = json.loads(Path("batch/failed.jsonl").read_text())
    assert (row["row"], row["name"]) == (2, "0002")
    Path("batch/failed.jsonl").write_text(json.dumps({**row, "prompt": "red apple, flat"}))
    done = call(app, "batch", "generate", "batch/failed.jsonl", *FAST)
    assert done.exit_code == 0, done.output
    assert read_recipe("batch/0002-0.png").prompt == "red apple, flat"
    assert not Path("batch/failed.jsonl").exists()


def test_a_stopped_batch_notes_what_it_did_not_reach(tmp_path: Path) -> None:
    rows = [batch.Row(k, f"line {k}", {"prompt": str(k)}, folder=tmp_path) for k in (1, 2, 3)]

    def compose(row: batch.Row) -> batch.Job:
        if row.number == 1:
            raise sf.SfumatoError("no")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch.run(rows, compose, tmp_path)
    found = batch.read_rows(tmp_path / "failed.jsonl")
    assert [row.number for row in found] == [1, 2, 3]
    assert [row.values["prompt"] for row in found] == ["1", "2", "3"]
    # another source's run into the same folder leaves them
    other = [batch.Row(9, "line 9", {}, folder=tmp_path)]
    batch.run(other, lambda row: batch.Job([], lambda: None), tmp_path)  # type: ignore[arg-type, return-value]
    assert len(batch.read_rows(tmp_path / "failed.jsonl")) == 3


def test_what_exists_is_never_written_again(app: Any, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("rose, flat\n")
    assert call(app, "batch", "generate", "p.txt", *FAST).exit_code == 0
    kept = Path("batch/0001-0.png").read_bytes()
    done = call(app, "batch", "generate", "p.txt", "--steps", "3", "--stages", "1", "-n", "2")
    assert done.stdout.split() == ["batch/0001-1.png"]
    assert Path("batch/0001-0.png").read_bytes() == kept


def test_pictures_in_columns_are_relative_to_the_manifest(app: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "rose.png").write_bytes((STROKES / "rose.png").read_bytes())
    PIL.Image.new("L", (256, 256), 255).save(data / "m.png")
    (data / "rows.jsonl").write_text(
        '{"image": "rose.png", "sdedit.mask": "m.png", "cfg.window": [0.2, 0.9], "seed": 3}\n'
    )
    done = call(app, "batch", "sdedit", "data/rows.jsonl", *FAST)
    assert done.exit_code == 0, done.output
    fields = {m["method"]: m for m in read_recipe("batch/rose-3.png").methods}
    assert fields["sdedit"]["mask"]["name"] == "m.png"
    assert fields["cfg"]["window"] == [0.2, 0.9]
    (data / "rose.txt").write_bytes(b"\xff\xfe\xff")
    assert "rose.txt: is not UTF-8" in fails_late(app, "batch", "sdedit", "data", *FAST)


def fails_late(app: Any, *words: str) -> str:
    result = call(app, *words)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return str(result.stderr)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "image,colour\nx.png,red\n", "unknown column 'colour'"),
        ("a.csv", "prompt,seed\nrose,many\n", "seed = 'many' is no whole number"),
        ("a.jsonl", "{broken\n", "a.jsonl, line 1: is not JSON"),
        ("a.csv", "prompt\nrose,red\n", "more fields than the header"),
        ("a.txt", "\n", "holds no rows"),
        ("a.md", "rose", "give a folder, or a manifest"),
    ],
)
def test_what_a_manifest_may_not_be(
    app: Any, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    assert message in fails_late(app, "batch", "generate", name, *FAST)


def test_prompts_of_a_text_file_and_names_that_collide(app: Any, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("rose, flat\n\nred apple, flat\n")
    made = call(app, "batch", "generate", "prompts.txt", *FAST, "-n", "2", "--json")
    assert made.exit_code == 0, made.output
    assert [Path(p).name for p in json.loads(made.stdout)["paths"]] == [
        "0001-0.png", "0001-1.png", "0002-0.png", "0002-1.png",
    ]  # fmt: skip
    line = fails_late(app, "batch", "generate", "prompts.txt", *FAST, "-o", "same.png")
    assert "put {row} into -o" in line


def test_rows_know_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"image": "sub/x.png", "name": "n"}\n\n{"prompt": "p"}\n')
    first, second = batch.read_rows(tmp_path / "a.jsonl")
    assert first.image == tmp_path / "sub" / "x.png"
    assert (first.name, second.name, second.where) == ("n", "0002", "a.jsonl, line 3")


def test_a_recipe_composes_on_the_command_line(app: Any, tmp_path: Path) -> None:
    done = call(
        app, "generate", "-p", "rose, flat", *FAST, "-n", "2", "--seed", "4", "-o", "a-{seed}.png"
    )
    assert done.exit_code == 0, done.output
    rose = str(STROKES / "rose.png")
    done = call(app, "sdedit", rose, "--recipe", "a-5.png", "--t0", "0.6", "-o", "b.png")
    assert done.exit_code == 0, done.output
    made, before = read_recipe("b.png"), read_recipe("a-5.png")
    assert (made.prompt, made.seed, made.n, made.steps) == ("rose, flat", 5, 1, 2)
    assert made.parents == (before.id,)
    more = ["--cfg", "2.5", "--with", "sdedit.t0=0.3", "--spacing", "ddim10"]
    done = call(app, "ilvr", rose, "--recipe", "b.png", *more, "-o", "c.png")
    assert done.exit_code == 0, done.output
    fields = {m["method"]: m for m in read_recipe("c.png").methods}
    assert fields["sdedit"]["t0"] == 0.3
    assert fields["cfg"]["scale"] == 2.5
    assert "ilvr" in fields
    assert read_recipe("c.png").steps is None
    assert before.parents == ()
    done = call(app, "run", "c.png", "-o", "d.png")
    assert Path("c.png").read_bytes() == Path("d.png").read_bytes()


def test_a_searched_field_is_recorded_as_its_number(app: Any, tmp_path: Path) -> None:
    rose = str(STROKES / "rose.png")
    done = call(app, "sdedit", rose, "--t0", "auto", "--target", "rms=0.15", *FAST, "-o", "a.png")
    assert done.exit_code == 0, done.output
    recipe = read_recipe("a.png")
    t0 = next(m for m in recipe.methods if m["method"] == "sdedit")["t0"]
    assert f"sdedit.t0 = {t0:g} (bisection to rms = 0.15" in done.stderr
    curve = recipe.parents[0].removeprefix("sha256 ")
    assert (tmp_path / "home" / "curves" / f"{curve}.json").is_file()
    assert "measure 'good'" in fails(app, 1, "sdedit", rose, "--t0", "auto", "--target", "good")
    assert "neither a number nor auto" in fails(app, 2, "sdedit", rose, "--t0", "low")
    assert "not in the range" in fails(app, 2, "sdedit", rose, "--t0", "1.5")


def test_the_sweep_verb_prints_its_page_and_marks_a_value(app: Any, tmp_path: Path) -> None:
    rose = str(STROKES / "rose.png")
    words = ["sweep", "ilvr", rose, "-p", "rose", "--over", "factor=2,8", "--seeds", "1", *FAST]
    assert "not among the values 2, 8" in fails_late(app, *words, "--choose", "5", "-o", "r")
    done = call(app, *words, "--choose", "8", "-o", "s", "--json")
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert (data["axis"], data["chosen"], data["rule"]) == ("ilvr.factor", 8, "given")
    assert (tmp_path / "s" / "index.html").is_file()
    bad = [*words[:5], "--over", "factor=0.1,8", "--seeds", "1", *FAST, "-o", "t"]
    assert "1 of 2 cells failed, the first: ilvr: factor" in fails_late(app, *bad)


def test_changed_fields_keep_the_rest() -> None:
    model = sf.load("emoji")
    process = (
        model.process("rose", steps=3) | sf.CFG(2, rescale=0.5) | sf.SDEdit(STROKES / "rose.png")
    )
    revised: Any = process.revised("cfg", scale=4.0).based(n=3)
    assert revised.methods[0] == sf.CFG(4, rescale=0.5)
    assert [method.id for method in revised.methods] == ["cfg", "sdedit"]
    assert revised.base.n == 3
    with pytest.raises(sf.SfumatoError, match="this process has cfg, sdedit"):
        process.revised("ilvr", factor=3)


@pytest.mark.parametrize("length", [1_200, 9_000])
def test_a_long_prompt_is_quoted_in_part(length: int) -> None:
    text = ("red apple on a table " * 500)[:length]
    assert prompted({"words": [text], "prompt": None})["prompt"] == text
    with pytest.raises(SfumatoError) as refused:
        prompted({"words": [text], "prompt": "rose"})
    assert len(str(refused.value)) < 160
    assert f"({length:,} characters)" in str(refused.value)
