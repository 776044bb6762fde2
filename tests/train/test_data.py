"""Training data: composed from alpha, described in words, the same every time."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer

from helpers.program import call, fails
from sfumato.core.errors import SfumatoError
from sfumato.measure import heldout
from sfumato.train import warm_start
from sfumato.train.data import build, store
from sfumato.train.data.captions import COLOURS, Scene, Thing, Wording, caption
from sfumato.train.data.compose import Composer, Layer, Mix, combined
from sfumato.train.data.erasing import erased
from sfumato.train.data.packages import split_of
from sfumato.train.data.recolouring import recoloured
from sfumato.train.data.store import Concept, Store
from sfumato.train.report import Log

ROOT = Path(__file__).parents[2]

STILL = Mix(hue=0, background=0, pair=0, small=0, jitter=0)


@pytest.fixture(scope="module")
def pictures() -> Store:
    return heldout.pictures("fluent", 64)


def test_the_packaged_set_is_the_held_out_split_and_small(pictures: Store) -> None:
    assert len(pictures) == 77
    rows = [json.loads(line) for line in (heldout.PICTURES / "metadata.jsonl").open()]
    assert {row["split"] for row in rows} == {"test"}
    assert all(split_of(row["label"]) == "test" for row in rows)
    size = sum(file.stat().st_size for file in heldout.PICTURES.iterdir())
    assert size < 2_000_000
    keys = {row["hex"] for row in rows}
    assert not keys & {question.key for question in heldout.questions()}, "asked but never shown"


def test_the_200_questions_are_different_classes() -> None:
    questions = heldout.questions()
    assert (
        len(questions) == len({q.twin for q in questions}) == len({q.key for q in questions}) == 200
    )
    assert all(split_of(q.label) == "train" for q in questions)


def test_a_plain_picture_is_the_stored_one_on_white(pictures: Store) -> None:
    composer = Composer(pictures, STILL, Wording())
    made = composer.render([composer.still(5)], 64)[0]
    rgba = pictures.pixels[5].float() / 255
    expected = (rgba[:3] + 1 - rgba[3:]) * 2 - 1
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=0)


def test_batches_depend_on_their_step_alone(pictures: Store) -> None:
    first, second = (Composer(pictures, Mix(), Wording(), seed=4) for _ in range(2))
    first.plans(0, 8)
    assert first.plans(3, 8) == second.plans(3, 8)
    assert first.plans(3, 8) != first.plans(4, 8)
    assert Composer(pictures, Mix(), Wording(), seed=5).plans(3, 8) != first.plans(3, 8)


def test_held_out_colour_pairs_are_never_composed(pictures: Store) -> None:
    composer = Composer(pictures, Mix(hue=1.0), Wording())
    seen = {
        (layer.colour, pictures.concepts[layer.row].label)
        for step in range(40)
        for plan in composer.plans(step, 32)
        for layer in plan.layers
        if layer.colour
    }
    possible = {
        (c, concept.label): combined(c, concept) for concept in pictures.concepts for c in COLOURS
    }
    assert seen <= {pair for pair, allowed in possible.items() if allowed}
    share = sum(not allowed for allowed in possible.values()) / len(possible)
    assert share == pytest.approx(0.2, abs=0.05)
    # the colour of a label is not a part of the thing: both lie on one side
    red, green = Concept("a", "red apple"), Concept("b", "green apple")
    assert all(combined(colour, red) == combined(colour, green) for colour in COLOURS)


@pytest.mark.parametrize("name", sorted(COLOURS))
@pytest.mark.parametrize("paint", [(230, 60, 40), (40, 90, 220), (20, 20, 22), (235, 235, 235)])
def test_things_take_the_named_hue(name: str, paint: tuple[int, int, int]) -> None:
    """A red, a blue, a black and a white disc; the hue is checked, brightness is left alone."""
    import colorsys

    disc = Image.new("RGBA", (16, 16), (*paint, 255))
    rgba = torch.from_numpy(np.array(disc)).permute(2, 0, 1)[None].float() / 255
    red, green, blue = recoloured(rgba, [name])[0, :3, 8, 8].tolist()
    hue, saturation, _ = colorsys.rgb_to_hsv(red, green, blue)
    gap = abs(hue * 360 - COLOURS[name][1])
    assert min(gap, 360 - gap) < 12
    assert saturation > 0.2


def test_pairs_and_places_are_where_the_caption_says(pictures: Store) -> None:
    """The ink of each thing lies on the side that the words name."""
    composer = Composer(
        pictures, Mix(hue=0, background=0, pair=0.5, small=0.5, jitter=0), Wording()
    )
    checked: Counter[str] = Counter()
    for plan in composer.plans(0, 60):
        things = plan.layers
        for k, layer in enumerate(things):
            alone = type(plan)((layer,), (255.0, 255.0, 255.0), plan.scene, "")
            ink = (1 - composer.render([alone], 64)[0].mean(0)).clamp_min(0)
            axis = torch.arange(64) - 31.5
            right = float((ink.sum(0) * axis).sum() / ink.sum())
            down = float((ink.sum(1) * axis).sum() / ink.sum())
            sign = -1 if k == 0 else 1
            if plan.scene.relation == "left of":
                assert sign * right > 5
            elif plan.scene.relation == "above":
                assert sign * down > 5
            else:
                assert plan.scene.place is not None
                assert (right > 5) == ("right" in plan.scene.place)
                assert (down > 5) == ("bottom" in plan.scene.place)
            checked[plan.scene.relation or "place"] += 1
    assert min(checked.values()) > 5
    assert len(checked) == 3


def test_masks_are_half_empty_and_leave_both_kinds(pictures: Store) -> None:
    known = erased(0, 400, 32, seed=1)
    assert set(known.unique().tolist()) == {0.0, 1.0}
    share = known.flatten(1).mean(1)
    assert (share == 0).float().mean() == pytest.approx(0.5, abs=0.08)
    some = share[share > 0]
    assert (some < 0.4).float().mean() > 0.15
    assert (some > 0.6).float().mean() > 0.25
    assert torch.equal(known, erased(0, 400, 32, seed=1))
    assert not torch.equal(known, erased(1, 400, 32, seed=1))


APPLE = Concept("a", "red apple", ("fruit", "food"), "빨간 사과", ("과일",))


def test_captions_say_what_is_shown() -> None:
    """All of 500 wordings name the colour asked for, none the colour that was painted over."""
    rng = Random(0)
    wording = Wording(empty=0.1, nonsense=0.0, korean=0.2)
    said = [
        caption(Scene((Thing(APPLE, "green"),), "ink", "blue"), wording, ("word",), rng)
        for _ in range(500)
    ]
    spoken = [text for text in said if text]
    assert len(spoken) == pytest.approx(450, abs=30)
    for text in spoken:
        korean = "배경" in text
        assert ("초록" if korean else "green") in text
        assert "red" not in text.split()
        assert ("파란 배경" if korean else "blue background") in text
    assert sum("배경" in text for text in spoken) == pytest.approx(0.2 * len(spoken), abs=35)
    assert sum("ink drawing" in text or "잉크" in text for text in spoken) > 0.9 * len(spoken)
    assert any("fruit" in text for text in spoken)
    assert any(text.startswith("ink drawing of") for text in spoken)


def test_an_extended_tokenizer_keeps_english_and_shortens_korean() -> None:
    """No English text changes its tokens, so that a network that knows them forgets nothing."""
    folder = Path(warm_start.tokenizer_of("emoji"))
    old = Tokenizer.from_file(str(folder))
    concepts = [*heldout.pictures("fluent").concepts]
    size = old.get_vocab_size() + 60
    new = warm_start.extended(folder, concepts, size)
    assert new.get_vocab_size() == size
    for text in [q.label for q in heldout.questions()] + ["green cat face, 3d render"]:
        assert new.encode(text).ids == old.encode(text).ids
    korean = [concept.label_ko for concept in concepts]
    before, after = (sum(len(t.encode(text).ids) for text in korean) for t in (old, new))
    assert after < before
    assert new.decode(new.encode("아이스크림").ids).strip() == "아이스크림"


def test_a_folder_needs_captions_and_readable_pictures(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="no captions"):
        store.read(tmp_path, size=8)
    (tmp_path / "captions.csv").write_text("file,caption\ngone.png,a thing\n")
    with pytest.raises(SfumatoError, match=r"gone\.png: named in the captions, but not there"):
        store.read(tmp_path, size=8)
    (tmp_path / "gone.png").write_bytes(b"not a picture")
    with pytest.raises(SfumatoError, match="cannot be read as a picture"):
        store.read(tmp_path, size=8)


def test_what_is_built_reads_back(tmp_path: Path) -> None:
    """Packing drawn pictures and reading them gives the same box averages."""
    picture = Image.new("RGBA", (256, 256))
    picture.paste((200, 30, 60, 255), (40, 40, 200, 220))
    row = {"hex": "1f34e", "label": "Red apple", "tags": ["fruit"], "label_ko": "사과"}
    row |= {"tags_ko": [], "group": "food-drink", "subgroup": "food-fruit", "split": "train"}
    drawn = {style: {"1f34e": picture} for style in build.SOURCES}
    build.pack(tmp_path, {"1f34e": row}, drawn)
    with zipfile.ZipFile(tmp_path / "emoji-256.zip") as packed:
        assert len(packed.namelist()) == 2
    read = store.read(tmp_path, size=64)
    assert (len(read), set(read.styles)) == (7, set(build.SOURCES))
    assert read.concepts[0].label == "red apple"
    assert read.pixels[0, :, 30, 30].tolist() == [200, 30, 60, 255]
    assert read.pixels[0, :, 0, 0].tolist() == [0, 0, 0, 0]
    with pytest.raises(SfumatoError, match="none fits 48 px"):
        store.read(tmp_path, size=48)


def test_layers_are_plain_values() -> None:
    assert Layer(3) == Layer(3, None, 1.0, (0.0, 0.0))


def test_a_folder_of_ones_own_trains_by_the_recipe_in_the_docs(tmp_path: Path, app: Any) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, colour in (("one", "red"), ("two", "blue")):
        Image.new("RGB", (40, 48), colour).save(folder / f"{name}.jpg")
        (folder / f"{name}.txt").write_text(f"a {colour} thing")
    recipe = ROOT / "recipes" / "own-32.toml"
    assert "recipes/own-32.toml --data" in (ROOT / "docs" / "training.md").read_text()
    made = call(app, "train", str(recipe), "--data", str(folder), "-o", str(tmp_path / "run"),
                "--steps", "2", "--device", "cpu")  # fmt: skip
    assert made.exit_code == 0, made.output
    assert (tmp_path / "run" / "model" / "stage.json").is_file()
    styled = tmp_path / "styled.toml"
    styled.write_text(recipe.read_text() + "[mix.styles]\nink = 1\n")
    said = fails(app, 1, "train", str(styled), "--data", str(folder), "-o", str(tmp_path / "x"))
    assert "has no styles; leave mix.styles out" in said


def test_the_first_window_shows_a_speed(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.csv")
    log.begin(10.0)
    for _ in range(4):
        log.add({"loss": 1.0})
    assert log.pace(12.0) == 2.0
