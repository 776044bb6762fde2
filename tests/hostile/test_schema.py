"""The published JSON Schema of recipes: it takes what is made here, and refuses what the reader
refuses by its fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator
from PIL import Image

import sfumato as sf
from helpers.any_json import altered, quickly, tried
from sfumato import images, methods
from sfumato.core.errors import SfumatoError
from sfumato.core.solvers import SOLVERS
from sfumato.images import ImageInput
from sfumato.recipe import Recipe

PICTURE = ImageInput.of(Image.new("RGB", (8, 8), "red"))
HELD = {"sha256": PICTURE.sha256, "name": "a.png"}


@cache
def schema() -> Draft202012Validator:
    made = methods.recipe_schema()
    Draft202012Validator.check_schema(made)
    return Draft202012Validator(made)


def filled(name: str) -> dict[str, Any]:
    """An entry of a method with its required fields."""
    described = methods.schema(methods.find(name))
    values: dict[str, Any] = {"method": name} | ({"mask": HELD} if name == "inpaint" else {})
    for field in described.get("required", ()):
        shown = described["properties"][field]
        picture = shown.get("format") == "image"
        values[field] = HELD if picture else 2 if shown.get("type") in NUMBERS else "rose"
    return values


NUMBERS = ("number", "integer")


def recipe(*entries: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"schema": 1, "model": "emoji", "prompt": "rose", "methods": list(entries), **fields}


@pytest.fixture(autouse=True)
def held() -> Iterator[None]:
    """The one picture that recipes name here."""
    token = images.resolver.set(lambda digest, name: PICTURE.data)
    yield
    images.resolver.reset(token)


@pytest.mark.parametrize("name", sorted(methods.registry()))
def test_every_methods_own_records_are_taken(name: str) -> None:
    cls = methods.find(name)
    given_ = filled(name)
    for values in ({}, *cls.presets.values()):
        value = methods.from_data({**given_, **values})
        made = recipe(methods.to_data(value))
        assert Recipe.from_data(made).to_data()["methods"]
        assert [e.message for e in schema().iter_errors(made)] == []


def test_what_a_run_records_is_taken(emoji: sf.Model) -> None:
    process = emoji.process("red apple, 3d render", steps=2, stages=1)
    result = (process | sf.SDEdit(PICTURE, t0=0.5) | sf.CFG(2)).sample(seed=3)
    made = json.loads(result.recipe.to_json())
    assert [e.message for e in schema().iter_errors(made)] == []


@pytest.fixture(scope="module")
def emoji() -> sf.Model:
    return sf.load("emoji", dtype="float32")


def beyond() -> Iterator[tuple[str, str, float]]:
    """Every number of every method, outside its range."""
    for name in sorted(methods.registry()):
        for field, shown in methods.schema(methods.find(name))["properties"].items():
            for one in (shown, *shown.get("anyOf", ())):
                if one.get("type") in NUMBERS and "enum" not in one:
                    for end, step in (("minimum", -1), ("exclusiveMinimum", -1), ("maximum", 1)):
                        if end in one:
                            yield name, field, one[end] + step


@pytest.mark.parametrize(("name", "field", "value"), list(beyond()))
def test_fields_out_of_range(name: str, field: str, value: float) -> None:
    made = {**filled(name), field: value}
    assert not schema().is_valid(recipe(made))
    with pytest.raises(SfumatoError, match=field):
        methods.from_data(made)


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "cfg", "scal": 3},
        {"method": "nothing"},
        {"scale": 3},
        {"method": "cfg", "scale": "3"},
        {"method": "cfg", "scale": None},
        {"method": "cfg", "window": [0.5]},
        {"method": "cfg", "window": [0.5, 2]},
        {"method": "sdedit"},
        {"method": "sdedit", "image": "a.png"},
        {"method": "sdedit", "image": {"name": "a.png"}},
        {"method": "threshold", "mode": "evil"},
    ],
)
def test_entries_that_are_none(wrong: dict[str, Any]) -> None:
    assert not schema().is_valid(recipe(wrong))
    with pytest.raises(SfumatoError):
        methods.from_data(wrong)


GOOD = recipe(
    {"method": "cfg", "scale": 3.0, "window": [0.1, 0.9]},
    {"method": "threshold", "mode": "static"},
    filled("sdedit"),
    steps=20,
    solver={"solver": "ddim", "eta": 0.5},
    spacing=[1.0, 0.5, 0.0],
    size=[64, 64],
    seed=3,
    n=2,
    adapters=[{"file": "a.safetensors", "sha256": "0" * 64, "scale": 1.0}],
    run={"dtype": "float32", "calls": [20], "size": [64, 64], "start": {"t0": 1.0}},
    parents=["x"],
)


@quickly
@given(altered(GOOD))
def test_what_is_read_the_schema_takes(data: Any) -> None:
    def read() -> Recipe:
        made = Recipe.from_data(data)
        for entry in made.methods:
            methods.from_data(entry)
        return made

    if tried(read) is not None:
        assert [e.message for e in schema().iter_errors(data)] == []


def test_solvers_options_are_in_it() -> None:
    for name in SOLVERS:
        assert schema().is_valid(recipe(solver={"solver": name}))
    assert not schema().is_valid(recipe(solver={"solver": "ddim", "eta": 2}))
    assert not schema().is_valid(recipe(solver="evil"))
