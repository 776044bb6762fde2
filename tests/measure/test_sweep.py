"""Sweeps, curves and the search on them: what they write, that they go on, what they refuse."""

from __future__ import annotations

import csv
import json
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import sfumato as sf
from sfumato import images
from sfumato.core.errors import SfumatoError
from sfumato.measure import auto
from sfumato.measure.axis import Axis, axis, said, written
from sfumato.measure.curve import Curve, Point, knee
from sfumato.measure.faithful import Reference
from sfumato.measure.points import judge_of
from sfumato.measure.sweep import sweep
from sfumato.metrics.kernel import Estimate
from sfumato.models.replay import read_recipe

STROKES = Path(__file__).parents[2] / "examples" / "strokes"


pytestmark = pytest.mark.usefixtures("home")


def rose(model: sf.Model) -> Any:
    process = model.process("rose, 3d render", steps=2, stages=1, size="native")
    return process | sf.SDEdit(STROKES / "rose.png", t0=0.5)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("sdedit.t0=0.1:0.9:5", (0.1, 0.3, 0.5, 0.7, 0.9)),
        ("t0=0.5,0.25", (0.25, 0.5)),
        ("ilvr.factor=2:8:3", (2, 5, 8)),
        ("steps=4,8", (4, 8)),
        ("cfg.window=0,1|0.25,0.75", ((0, 1), (0.25, 0.75))),
        ("cfg.window=[[0, 1], [0.25, 0.75]]", ((0, 1), (0.25, 0.75))),
        ("inpaint.extend=0,0,0,0|8,0,8,0", ((0, 0, 0, 0), (8, 0, 8, 0))),
        ("ilvr.kernel=lanczos3,box", ("lanczos3", "box")),
        ("invert=no,yes", (False, True)),
        ("diffstyler.caption=a rose, oil|ink|ink", ("a rose, oil", "ink")),
        ('diffstyler.caption=["[a|b]", "c"]', ("[a|b]", "c")),
        ("diffstyler.caption=[a|b]", ("[a", "b]")),
        ("prompt_to_prompt.edited=a|b", (("a",), ("b",))),
        ('prompt_to_prompt.edited=[["a", "b"], ["c"]]', (("a", "b"), ("c",))),
        ("negative=blurry, dull|text", ("blurry, dull", "text")),
        ("solver=heun,ddim", ("heun", "ddim")),
        ("spacing=karras,uniform", ("karras", "uniform")),
    ],
)
def test_what_over_means(text: str, values: tuple[Any, ...]) -> None:
    over = axis(text, "sdedit")
    assert over.values == values
    assert axis(written(over)) == over, "as it is sent to a server"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t0", "write FIELD="),
        ("sdedit.t9=1,2", "has no 't9'"),
        ("sdedit.t0=a,b", "are no numbers"),
        ("sdedit.t0=0:1", "LOW:HIGH:COUNT"),
        ("sdedit.t0=0.5,0.5", "at least 2"),
        ("sdedit.t0=nan,0.5", "not finite"),
        ("nothing.t0=1,2", "unknown"),
        ("diffstyler.caption=a rose, oil", r"gives 1 value; .* caption=A\|B\|C"),
        ("sdedit.image=a.png|b.png", "is a picture; a batch"),
        ("controlnet.file=/etc/passwd|b.safetensors", "names weights; a batch"),
        ("asyrp.also=a|b", "names weights; a batch"),
        ("sine.tuned=a|b", "names weights; a batch"),
        ("stego.key=a|b", "^--over stego.key: stego.key is a secret; a batch"),
        ("dense_diffusion.regions=a|b", "has parts of its own; a batch"),
        ("cfg.window=[[0, NaN], [0, 1]]", "not finite"),
        ("solver=ddim,dimm", "solver 'dimm': unknown"),
        ("spacing=karras,dense", "spacing 'dense'"),
        ("prompt=a|b", "give them by --prompts"),
        ("size=1,2", "write METHOD.FIELD=…, or steps=…, negative=…"),
    ],
)
def test_what_over_refuses(text: str, message: str) -> None:
    with pytest.raises(SfumatoError, match=message):
        axis(text)


def test_a_sweep_writes_pictures_that_name_their_parent_and_goes_on(
    model: sf.Model, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    over = "sdedit.t0=0.2,0.9"
    done = sweep(rose(model), over, folder, seeds=2, seed=5, prompts=["rose", "red apple"])
    pictures = sorted((folder / "pictures").iterdir())
    assert len(pictures) == 8
    recipe = read_recipe(pictures[-1])
    assert recipe.parents == (done.parent.id,)
    assert recipe.prompt == "red apple, 3d render"
    assert next(m for m in recipe.methods if m["method"] == "sdedit")["t0"] == 0.9
    with (folder / "pictures.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["seed"]) for row in rows[:2]] == [5, 6]
    gap = [float(row["rms"]) for row in rows]
    assert max(gap[:4]) < min(gap[4:]), "a larger t0 leaves the guide"
    low, high = done.curve.points
    assert low.measures["diversity"].value < high.measures["diversity"].value
    assert low.measures["kernel"].n == 4, "the judge of the style looked at all of them"
    wanted = json.loads((folder / "sweep.json").read_text())
    assert wanted["weights"] == model.weights
    assert (folder / "sheet.png").stat().st_size > 1000
    assert PIL.Image.open(folder / "curve.png").size[0] > 500
    page = (folder / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 10, "eight pictures, curve and guide, inside"
    assert 0 < page.index("rose.png") < page.index("<table>"), "the page begins with the guide"
    assert "http" not in page.replace("http://ns.adobe.com", "")

    kept = pictures[0].stat().st_mtime_ns
    pictures[-1].unlink()
    again = sweep(rose(model), over, folder, seeds=2, seed=5, prompts=["rose", "red apple"])
    assert pictures[0].stat().st_mtime_ns == kept, "what is there is not made again"
    assert pictures[-1].is_file()
    assert again.curve == done.curve
    with pytest.raises(SfumatoError, match="holds a sweep of other over"):
        sweep(rose(model), "sdedit.t0=0.2,0.8", folder, seeds=2, seed=5)


def test_windows_and_words_are_swept(model: sf.Model, tmp_path: Path) -> None:
    """Each is what its recipe says; tables and page name the values, which cannot be HTML."""
    process = model.process("rose", steps=1, stages=1, size="native")
    overs: dict[str, tuple[Any, ...]] = {
        "cfg.window": ((0.0, 1.0), (0.0, 0.1)),
        "negative": ("<b>blur</b>", "text"),
    }
    for name, values in overs.items():
        method, _, field = name.rpartition(".")
        folder = tmp_path / field
        over = Axis(method, field, values)
        done = sweep(process | sf.CFG(4.0), over, folder, seeds=1)
        assert not [cell.error for cell in done.cells if cell.error]
        pictures = sorted((folder / "pictures").iterdir())
        recipes: list[Any] = [read_recipe(file) for file in pictures]
        entries = [next(m for m in recipe.methods if m["method"] == "cfg") for recipe in recipes]
        told = {
            "cfg.window": [tuple(entry["window"]) for entry in entries],
            "negative": [recipe.negative for recipe in recipes],
        }
        assert told[name] == list(values)
        assert pictures[0].read_bytes() != pictures[1].read_bytes()
        with (folder / "curve.csv").open() as stream:
            rows = list(csv.reader(stream))
        assert [row[0] for row in rows] == [name, *map(said, values)]
        page = (folder / "index.html").read_text()
        assert "<b>blur" not in page
        assert all(escape(said(value)) in page for value in values)
        again = sweep(process | sf.CFG(4.0), written(over), folder, seeds=1)
        assert again.curve == done.curve


def test_a_sweeps_sheet_begins_with_what_its_methods_follow(
    model: sf.Model, tmp_path: Path
) -> None:
    """Guide, then values; of several guides each once, in the first row alone."""
    green, blue = (PIL.Image.new("RGB", (40, 40), colour) for colour in ("lime", "blue"))
    process = model.process("rose", steps=1, stages=1, size="native")
    process = process | sf.SDEdit(green, t0=0.1) | sf.ILVR(blue, factor=8)
    sweep(process, "sdedit.t0=0.1,0.2", tmp_path / "sweep", seeds=2)
    page = np.asarray(PIL.Image.open(tmp_path / "sweep" / "sheet.png").convert("RGB"))
    where = {name: (page == colour).all(2) for name, colour in
             (("green", (0, 255, 0)), ("blue", (0, 0, 255)))}  # fmt: skip
    assert where["green"].sum() > 10_000
    rows, columns = (np.flatnonzero(where["green"].any(axis)) for axis in (1, 0))
    beyond = np.flatnonzero(where["blue"].any(0))
    assert columns.max() < beyond.min(), "in the order of composing"
    assert rows.max() < page.shape[0] * 0.6
    page = (tmp_path / "sweep" / "index.html").read_text()
    assert page.count("<figure class=guide>") == 2


def test_guides_of_one_name_are_told_apart_and_each_shown_once() -> None:
    pictures = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("lime", "blue", "lime")]
    methods = [sf.SDEdit(one, t0=0.1) for one in pictures] + [sf.CFG(2)]
    found = images.guides_of(methods)
    assert list(found) == ["image.png", "image.png (2)"]
    assert [one.getpixel((0, 0)) for one in found.values()] == [(0, 255, 0), (0, 0, 255)]


def test_realism_of_a_sweep_does_not_grow_with_the_number_of_seeds(
    model: sf.Model, tmp_path: Path
) -> None:
    """A single picture has a kernel distance, and more of the same do not change it."""
    one = sweep(rose(model), "sdedit.t0=0.1,0.5", tmp_path / "one", seeds=1)
    two = sweep(rose(model), "sdedit.t0=0.1,0.5", tmp_path / "two", seeds=3)
    near, far = (s.curve.points[0].measures["kernel"].value for s in (one, two))
    assert near == pytest.approx(far, rel=0.1), "at t0 = 0.1 all seeds look alike"


def test_each_prompt_is_judged_by_its_own_style() -> None:
    assert judge_of("rose, 3d render") is not None
    assert judge_of("rose, no style") is None


def test_steps_between_whole_numbers_fail(model: sf.Model, tmp_path: Path) -> None:
    process = model.process("rose", steps=2, stages=1)
    done = sweep(process, "steps=2:5:3", tmp_path / "s", seeds=1)
    assert [cell.error for cell in done.cells] == ["", "steps = 3.5: must be a whole number", ""]


def test_the_guide_is_the_searched_methods_own_and_as_large_as_the_result(
    model: sf.Model,
) -> None:
    start, reference = STROKES / "rose.png", STROKES / "mushroom.png"
    process = model.process("rose") | sf.SDEdit(start) | sf.ILVR(reference)
    names = [Reference.of(process, owner).picture.name for owner in ("ilvr", "sdedit", "")]
    assert names == ["mushroom.png", "rose.png", "rose.png"]
    wide = model.process("rose") | sf.Inpaint(start, extend=(64, 0, 0, 0))
    assert Reference.of(wide).picture.size == (320, 256)


def test_a_cell_that_fails_leaves_the_others(model: sf.Model, tmp_path: Path) -> None:
    done = sweep(rose(model), "sdedit.t0=0.2,1.5", tmp_path / "s", seeds=1)
    assert [bool(cell.error) for cell in done.cells] == [False, True]
    assert "less than or equal to 1" in (tmp_path / "s" / "index.html").read_text()


def test_a_missing_method_is_composed_and_steps_are_swept(model: sf.Model, tmp_path: Path) -> None:
    process = model.process("rose", steps=2, stages=1)
    made = Axis("cfg", "scale", (1.0, 2.0)).at(process, 2.0)
    assert [method.id for method in made.methods] == ["cfg"]
    done = sweep(process, "steps=1,3", tmp_path / "steps", seeds=1)
    assert [read_recipe(cell.files[0]).steps for cell in done.cells] == [1, 3]


def test_measures_outside_a_mask_are_zero_where_it_keeps(model: sf.Model, tmp_path: Path) -> None:
    mask = PIL.Image.new("L", (256, 256))
    mask.paste(255, (64, 64, 192, 192))
    process = model.process("rose", steps=2, stages=1) | sf.SDEdit(STROKES / "rose.png", mask=mask)
    done = sweep(process, "sdedit.t0=0.3,0.9", tmp_path / "s", seeds=1)
    for point in done.curve.points:
        assert point.measures["outside"].value == 0
        assert point.measures["rms"].value > 0


def estimate(value: float) -> Estimate:
    return Estimate(value, value, value, 1)


def curve(kernels: list[float], distances: list[float]) -> tuple[Point, ...]:
    pairs = zip(kernels, distances, strict=True)
    return tuple(
        Point(k / 10, 1, {"kernel": estimate(a), "rms": estimate(b)})
        for k, (a, b) in enumerate(pairs)
    )


def test_the_knee_is_nearest_to_both_ideals() -> None:
    found = knee(curve([1.0, 0.2, 0.1, 0.0], [0.0, 0.1, 0.6, 1.0]))
    assert found is not None
    assert found[0] == 0.1
    assert knee(curve([1.0, 0.2], [0.0, 0.1])) is None, "two points have no knee"


def test_a_curves_id_changes_with_what_is_in_it() -> None:
    points = curve([0.0] * 3, [0.0, 0.2, 0.4])
    one, other = Curve("a", "p", points), Curve("a", "p", points[:2])
    assert one.id == Curve("a", "p", points).id != other.id
    assert one.to_csv().splitlines()[0] == (
        "a,pictures,kernel,kernel low,kernel high,rms,rms low,rms high,chosen"
    )


def test_auto_meets_its_target_and_keeps_its_curve(model: sf.Model, tmp_path: Path) -> None:
    found = auto(rose(model), "sdedit.t0", target=0.15, probes=4, seeds=1)
    values = [p.measures["rms"].value for p in found.curve.points]
    assert values == sorted(values)
    near = float(np.interp(0.15, values, [p.value for p in found.curve.points]))
    assert found.value == pytest.approx(near, abs=0.06)
    kept = tmp_path / "home" / "curves" / f"{found.curve.id.removeprefix('sha256 ')}.json"
    assert json.loads(kept.read_text())["chosen"] == found.value
    with pytest.raises(SfumatoError, match="is not reached"):
        auto(rose(model), "sdedit.t0", target=5.0, seeds=1)
    with pytest.raises(SfumatoError, match=r"sdedit has sdedit\.t0"):
        auto(rose(model), "sdedit.grow")
    with pytest.raises(SfumatoError, match="needs an edit mask"):
        auto(rose(model), "sdedit.t0", measure="outside", seeds=1)
    with pytest.raises(SfumatoError, match="there is none"):
        auto(model.process("rose", steps=1), "cfg.scale", between=(1, 3))
