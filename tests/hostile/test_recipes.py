"""Recipes, methods, solvers, options: what is wrong is one line, and no document names a path."""

from __future__ import annotations

import base64
import inspect
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

import sfumato as sf
from helpers.any_json import json_values, quickly, texts, tried
from sfumato import images, methods
from sfumato.cli import asked
from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import LENGTH
from sfumato.core.solvers import SOLVERS, solver
from sfumato.core.spacing import declared
from sfumato.home import home
from sfumato.images import ImageInput
from sfumato.models.card import Card, StageCard, mentions, read_card
from sfumato.models.loaders.library import BUNDLED
from sfumato.recipe import Recipe, places, store

GOOD = MappingProxyType({"model": "emoji", "prompt": "rose", "steps": 2, "stages": 1})
ZEROS = "0" * 64
PICTURE = np.zeros((4, 4, 3), "u1")


def refused(call: Callable[[], Any], phrase: str) -> None:
    """Refused with one line that holds the phrase."""
    with pytest.raises(SfumatoError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert phrase in text, text


# --- recipes: any JSON


TEXTS = [
    ("", "is not JSON"),
    ("[]", "r.json: input should be an object"),
    ("7", "r.json: input should be an object"),
    ("null", "r.json: input should be an object"),
    ("{}", "model is missing"),
    ("{", "is not JSON"),
    ("[" * 100_000, "is not JSON"),
    ('{"model":' * 100_000, "is not JSON"),
    ('{"model": "emoji", "seed": 1e999}', "seed"),
    ('{"model": "emoji", "seed": 1, "seed": 2}', "r.json: has 'seed' twice"),
    ('{"model": "emoji", "run": {"index": 0, "index": 1}}', "has 'index' twice"),
    ('{"model": "emoji", "seed": ' + "9" * 10_000 + "}", "is not JSON"),
    ('{"model": "emoji", "seed": ' + "9" * 100 + "}", "seed"),
    ('{"model": "emoji", "prompt": "\\ud800"}', "is not JSON"),
    ('{"model": "emoji", "methods": [{"method": "cfg", "scale": NaN}]}', "scale"),
]


@pytest.mark.parametrize(("text", "phrase"), TEXTS)
def test_texts_that_are_no_recipe(text: str, phrase: str) -> None:
    def read() -> None:
        recipe = Recipe.from_json(text, "r.json")
        for entry in recipe.methods:
            methods.from_data(entry)

    refused(read, phrase)


NOT_BARE = "is no bare name; a recipe names weights by their own name"
FIELDS: list[tuple[str, Any, str]] = [
    ("schema", 2, "recipe of schema 2, this version reads 1; update sfumato"),
    ("schema", "1", "schema = '1'"),
    ("modl", "emoji", "there is no field 'modl'"),
    *(
        ("model", bad, NOT_BARE)
        for bad in (
            "/etc/passwd", "../x", "~/x", "~root", "a/b/c", "a\\b", "C:\\x", "C:x", "", ".", "..",
            "org/name@../../x", "org/name@/etc", "org/../x", "../org/name", "a\0b", "x" * 300,
            "org/" + "x" * 300, "./x", "org/name\n",
        )
    ),
    ("model", 5, "model = 5: input should be a valid string"),
    ("model", None, "model = None"),
    ("prompt", 5, "prompt = 5"),
    ("prompt", "x" * (LENGTH + 1), "at most 10000 characters"),
    ("negative", None, "negative = None"),
    ("label", -1, "label = -1: input should be greater than or equal to 0"),
    ("label", "1", "label = '1'"),
    ("stages", 0, "stages = 0"),
    ("seed", 1.5, "seed = 1.5: input should be a valid integer"),
    ("seed", True, "seed = True"),
    ("seed", 1 << 64, "seed = 18446744073709551616"),
    ("seed", None, "seed = None"),
    ("n", 0, "n = 0"),
    ("n", 10**9, "n = 1000000000: input should be less than or equal to 4096"),
    ("n", "2", "n = '2'"),
    ("n", True, "n = True"),
    ("steps", "9", "steps = '9'"),
    ("steps", 0, "steps = 0"),
    ("steps", -4, "steps = -4"),
    ("steps", 300_000_000, "steps = 300000000: input should be less than or equal to 10000"),
    ("steps", 2.0, "steps = 2.0"),
    ("solver", "", "solver ''"),
    ("solver", "zzz", "solver 'zzz': unknown; known are ddpm"),
    ("solver", 7, "solver 7 must be a name"),
    ("solver", ["ddim"], "must be a name"),
    ("solver", {}, "solver None: unknown"),
    ("solver", {"solver": ["ddim"]}, "solver ['ddim']: unknown"),
    ("solver", {"solver": "ddim", "eta": 5}, "solver ddim: eta 5 must be 0 to 1"),
    ("solver", {"solver": "ddim", "eta": "a"}, "eta 'a' must be a finite number"),
    ("solver", {"solver": "ddim", "eta": True}, "eta True must be a finite number"),
    ("solver", {"solver": "ddim", "file": "/etc/passwd"}, "no option 'file'"),
    ("solver", {"solver": "plms", "order": 2.0}, "order 2.0 must be a whole number"),
    ("spacing", 5, "spacing 5: give a name, or times"),
    ("spacing", "ddim²", "spacing 'ddim²': not one of"),
    ("spacing", "ddim" + "9" * 9999, "not one of"),
    ("spacing", "1," * 100_000, "not one of"),
    ("spacing", [], "spacing: has 0 times"),
    ("spacing", [0.5], "spacing: has 1 times"),
    ("spacing", [1, 2], "spacing[1] = 2: must be 0 to 1"),
    ("spacing", [1, "0"], "spacing[1] = '0': must be a finite number"),
    ("spacing", [0.5, 0.5, 0], "spacing[1] 0.5: is the time before it again"),
    ("size", 0, "size = 0: must be 1 to"),
    ("size", 1.5, "size = 1.5: must be a whole number"),
    ("size", "big", "size 'big': give a number"),
    ("size", [1, 2, 3], "size '[1, 2, 3]': give a number"),
    ("size", [4, True], "size: height = True"),
    ("size", {}, "size = {}"),
    ("adapters", "x", "adapters = 'x'"),
    ("adapters", [{}], "adapters.0.file is missing"),
    ("adapters", [{"file": "x", "sha256": ZEROS, "scale": 1, "path": "/x"}], "no field"),
    ("adapters", [{"file": "../x", "sha256": ZEROS, "scale": 1}], NOT_BARE),
    ("adapters", [{"file": "/x/y", "sha256": ZEROS, "scale": 1}], NOT_BARE),
    ("adapters", [{"file": "x", "sha256": "0", "scale": 1}], "adapters.0.sha256 = '0'"),
    ("adapters", [{"file": "x", "sha256": ZEROS, "scale": "1"}], "adapters.0.scale = '1'"),
    ("adapters", [{"file": "x", "sha256": ZEROS, "scale": 1e9}], "adapters.0.scale"),
    ("methods", "x", "methods = 'x'"),
    ("methods", [7], "methods.0 = 7"),
    ("methods", [{}], "methods: method None must be a name"),
    ("methods", [{"method": 5}], "methods: method 5 must be a name"),
    ("methods", [{"method": "cfg"}] * 101, "at most 100 items"),
    ("run", None, "run = None"),
    ("run", "x", "run = 'x'"),
    ("run", {"index": 99}, "run.index = 99: its batch has 1"),
    ("run", {"index": -1}, "run.index = -1"),
    ("run", {"index": "0"}, "run.index = '0'"),
    ("run", {"size": "x"}, "run.size = 'x'"),
    ("run", {"size": [1]}, "run.size"),
    ("run", {"dtype": 3}, "run.dtype = 3"),
    ("run", {"start": {"t0": 3}}, "run.start.t0 = 3"),
    ("run", {"calls": 9}, "run.calls = 9"),
    ("versions", {"weights": 3}, "versions.weights = 3"),
    ("parents", "x", "parents = 'x'"),
    ("parents", [1], "parents.0 = 1"),
    ("embedded", {"x": "y"}, "embedded.x"),
    ("embedded", {ZEROS: 5}, f"embedded.{ZEROS} = 5"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "phrase"), FIELDS)
def test_fields_of_a_recipe(field: str, value: Any, phrase: str) -> None:
    refused(lambda: Recipe.from_data({**GOOD, field: value}, "r.json"), phrase)
    refused(lambda: Recipe.from_json(json.dumps({**GOOD, field: value})), phrase)


def test_a_recipe_of_before_reads_and_says_the_same() -> None:
    before = {
        "schema": 1, "model": "emoji", "prompt": "rose, ink drawing", "negative": "", "label": None,
        "stages": 1, "seed": 3, "n": 3, "steps": 8,
        "solver": {"solver": "ddpm", "variance": "auto", "last_noise": False},
        "spacing": "uniform", "size": None,
        "adapters": [{"file": "org/name", "sha256": ZEROS, "scale": 1.0}],
        "methods": [
            {"method": "ilvr", "image": {"sha256": ZEROS, "name": "a b.png"}, "factor": 6.0},
            {"method": "cfg", "scale": 3.0, "window": [0.0, 1.0], "rescale": 0.0},
        ],
        "run": {
            "dtype": "float32", "device": "cpu", "batch": 3, "index": 2, "calls": [8],
            "evaluations": {"clip": 7}, "work_size": [32, 32], "size": [32, 32], "threads": 1,
            "start": {"t0": 1.0, "ratio": 20291.2, "alpha_bar": 2.4e-09},
            "inversion": {"calls": 9, "top": 0.94}, "features": "denoiser",
        },
        "versions": {"sfumato": "0.1.0", "weights": f"sha256 {ZEROS}"},
        "parents": [f"sha256 {ZEROS}"],
    }  # fmt: skip
    made = Recipe.from_data(before)
    assert json.loads(made.to_json()) == before
    assert made.inputs() == [(ZEROS, "a b.png")]
    assert "Steps: 8, Sampler: ddpm, CFG scale: 3.0, Seed: 5" in made.parameters()


def test_the_published_schema_holds_the_ranges() -> None:
    found = methods.recipe_schema()["properties"]
    assert found["steps"]["anyOf"][0]["maximum"] == 10_000
    assert found["n"]["maximum"] == 4096
    ddim = found["solver"]["anyOf"][2]["properties"]
    assert ddim["solver"] == {"const": "ddim"}
    assert (ddim["eta"]["minimum"], ddim["eta"]["maximum"]) == (0, 1)


def test_huge_recipes_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfumato.models.replay.RECIPE_BYTES", 1000)
    monkeypatch.setattr("sfumato.recipe.value.RECIPE_BYTES", 1000)
    (tmp_path / "r.json").write_text(" " * 2000)
    refused(lambda: sf.run(tmp_path / "r.json"), "is larger than 1000 bytes")
    info = PngImagePlugin.PngInfo()
    info.add_itxt("sfumato", " " * 2000)
    Image.new("RGB", (4, 4)).save(tmp_path / "r.png", pnginfo=info)
    refused(lambda: sf.run(tmp_path / "r.png"), "is larger than")


@pytest.mark.parametrize("packed", [True, False])
def test_text_that_fills_memory_is_refused(tmp_path: Path, packed: bool) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("sfumato", " " * (80 << 20), zip=packed)
    Image.new("RGB", (4, 4)).save(tmp_path / "r.png", pnginfo=info)
    refused(lambda: sf.run(tmp_path / "r.png"), "r.png: ")


@pytest.mark.parametrize("source", [5, None, {"model": "emoji"}, b"{}", ["r.json"]])
def test_what_run_takes(source: Any) -> None:
    refused(lambda: sf.run(source), "give a path, or a Recipe")


@pytest.mark.parametrize("text", [None, 5, 1.5, Path("r.json"), object(), sf.CFG])
def test_what_is_no_text_is_no_recipe(text: Any) -> None:
    refused(lambda: Recipe.from_json(text), "is no text; give JSON")
    refused(lambda: Recipe(model=object()).to_json(), "is not plain data")  # type: ignore[arg-type]


# --- methods: entries of a recipe, and values of Python


ENTRIES: list[tuple[dict[str, Any], str]] = [
    ({"method": None}, "method None: unknown"),
    ({"method": ["cfg"]}, "method ['cfg']: unknown"),
    ({"method": "os:system"}, "method 'os:system': unknown; installed are"),
    ({"method": "cfg", "scal": 7}, "cfg: no field 'scal' (here it is scale); its fields: scale"),
    ({"method": "cfg", "scale": "3"}, "cfg: scale = '3': input should be a valid number"),
    ({"method": "cfg", "scale": True}, "cfg: scale = True"),
    ({"method": "cfg", "scale": 101}, "cfg: scale = 101"),
    ({"method": "cfg", "scale": 1e400}, "scale = inf"),
    ({"method": "cfg", "window": [1, 0]}, "cfg: window = [1, 0]: needs 0 <= low <= high <= 1"),
    ({"method": "cfg", "window": [0, 2]}, "cfg: window.1 = 2"),
    ({"method": "cfg", "window": "0,1"}, "cfg: window = '0,1'"),
    ({"method": "threshold", "mode": "x"}, "threshold: mode = 'x'"),
    ({"method": "ilvr"}, "ilvr: image is missing"),
    ({"method": "aesthetic", "head": "~/x"}, NOT_BARE),
    ({"method": "aesthetic", "head": "/x"}, NOT_BARE),
    ({"method": "perceptual", "features": "../x"}, NOT_BARE),
    ({"method": "clip_guidance", "clip": "a/../b"}, NOT_BARE),
    ({"method": "instruction", "prompt": 5}, "instruction: prompt = 5"),
    ({"method": "classifier", "target": "x" * (LENGTH + 1)}, "give at most 10,000"),
]


@pytest.mark.parametrize(("entry", "phrase"), ENTRIES)
def test_entries_of_methods(entry: dict[str, Any], phrase: str) -> None:
    refused(lambda: methods.from_data(entry), phrase)


NAMED: list[tuple[Any, str]] = [
    ("/etc/passwd", "picture: must be"),
    ("~/.bashrc", "picture: must be"),
    ("../x.png", "picture: must be"),
    ("x.png", "picture: must be"),
    (5, "picture: must be"),
    ([], "picture: must be"),
    ({}, "picture: sha256 = None"),
    ({"sha256": "../../x", "name": "a"}, "64 hexadecimal digits"),
    ({"sha256": ZEROS, "name": "../x.png"}, "is no file's own name"),
    ({"sha256": ZEROS, "name": "/etc/passwd"}, "is no file's own name"),
    ({"sha256": ZEROS, "name": "a\\b"}, "is no file's own name"),
    ({"sha256": ZEROS, "name": ".."}, "is no file's own name"),
    ({"sha256": ZEROS, "name": "a\0b"}, "is no file's own name"),
    ({"sha256": ZEROS, "name": ["x"]}, "is no file's own name"),
    ({"sha256": ZEROS, "path": "/etc/passwd"}, "picture: no key 'path'"),
    ({"sha256": ZEROS, "name": "x.png"}, "put the file x.png beside the recipe"),
]


def pictures() -> list[tuple[str, str]]:
    """(method, field) of every picture that a method takes."""
    return [
        (name, field)
        for name, cls in methods.registry().items()
        for field, shown in methods.schema(cls)["properties"].items()
        if "image" in {part.get("format") for part in (shown, *shown.get("anyOf", ()))}
    ]


@pytest.mark.parametrize(("method", "field"), pictures())
def test_no_document_names_a_picture_by_its_path(method: str, field: str) -> None:
    for value, phrase in NAMED:
        entry = {"method": method, field: value}
        refused(lambda entry=entry: methods.from_data(entry), phrase)


VALUES: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: sf.SDEdit(PICTURE, strength=0.4),
        "sdedit: no field 'strength' (here it is t0); its fields: image",
    ),
    (lambda: sf.CFG(scal=7), "cfg: no field 'scal'"),
    (lambda: sf.CFG(1, (0, 1), 0, "both", 9), "cfg: has more values than fields"),
    (lambda: sf.CFG(True), "cfg: scale = True: must not be a bool"),
    (lambda: sf.CFG(window=(False, True)), "cfg: window"),
    (lambda: sf.CFG("x"), "cfg: scale = 'x'"),
    (lambda: sf.CFG(float("nan")), "cfg: scale = nan"),
    (lambda: sf.CFG(-1), "cfg: scale = -1"),
    (lambda: sf.SDEdit(PICTURE, repeats=0), "sdedit: repeats = 0"),
    (lambda: sf.SDEdit(PICTURE, repeats=2.5), "sdedit: repeats = 2.5"),
    (lambda: sf.SDEdit(PICTURE, ratio=1e30), "sdedit: ratio"),
    (lambda: sf.SDEdit(PICTURE, background="mauvish"), "is no colour; give a name"),
    (lambda: sf.SDEdit("/dev/zero"), "/dev/zero: is no regular file"),
    (lambda: sf.SDEdit("a\0b"), "cannot be read"),
    (lambda: sf.SDEdit("~nobody-here/x.png"), "cannot be read"),
    (lambda: sf.SDEdit("x" * 5000), "cannot be read"),
    (lambda: sf.SDEdit.preset("x", PICTURE), "sdedit: no preset 'x'"),
    (lambda: sf.SDEdit.preset(["x"], PICTURE), "sdedit: no preset"),
    (lambda: sf.Inpaint(PICTURE, extend=(-1, 0, 0, 0)), "must be 0 or more"),
    (lambda: sf.Inpaint(PICTURE, extend=(10**9, 0, 0, 0)), "inpaint: extend"),
    (lambda: sf.Upscale(PICTURE, factor=0), "upscale: factor = 0"),
    (lambda: sf.DiffStyler(PICTURE, inversion="ddpm"), "draws noise"),
    (lambda: sf.DiffStyler(PICTURE, inversion="zzz"), "solver 'zzz': unknown"),
    (lambda: sf.DiffStyler(PICTURE, art=""), "must be a name or a file"),
    (lambda: sf.DiffStyler(PICTURE, learn=10**9), "diffstyler: learn"),
    (lambda: sf.Gradient(float("inf")), "gradient: fraction"),
    (lambda: sf.TotalVariation(1e30), "total_variation: weight"),
    (lambda: sf.DDIM(eta="a"), "solver ddim: eta 'a' must be a finite number"),
    (lambda: sf.DDIM(eta=-0.1), "eta -0.1 must be 0 to 1"),
    (lambda: sf.DDIM(eta=float("nan")), "eta nan must be a finite number"),
    (lambda: sf.DDPM("huge"), "variance 'huge' must be auto or small or large or learned"),
    (lambda: sf.DDPM(last_noise=1), "last_noise 1 must be true or false"),
    (lambda: sf.DPMpp2M(eta=-1), "eta -1 must be 0 to 10"),
    (lambda: sf.PLMS(start="zzz"), "start 'zzz' must be fork or"),
    (lambda: sf.PLMS(order=True), "order True must be a whole number"),
    (lambda: sf.RungeKutta(stages=3), "stages 3 must be 2 or 4"),
    (lambda: sf.EDM(churn=-5), "churn -5 must be 0 to 10,000"),
    (lambda: sf.EDM(s_min=3, s_max=2), "s_min 3.0 is above s_max 2.0"),
    (lambda: solver(None), "solver None: is none"),
    (lambda: solver(sf.DDIM), "is none; give one of"),
    (lambda: declared(("a", "b")), "spacing[0] = 'a': must be a finite number"),
    (lambda: declared(float("nan")), "give a name, or times"),
    (lambda: declared(iter(int, 1)), "give a name, or times"),
    (lambda: declared({1.0, 0.0}), "has 0 times"),
    (lambda: declared(b"karras"), "has 0 times"),
    (lambda: declared(np.zeros((2, 2))), "must be a finite number"),
]


@pytest.mark.parametrize(("call", "phrase"), VALUES, ids=range(len(VALUES)))
def test_values_made_in_python(call: Callable[[], Any], phrase: str) -> None:
    refused(call, phrase)


def test_every_number_of_a_method_has_two_ends_that_all_faces_keep() -> None:
    for name, cls in methods.registry().items():
        for field, shown in methods.schema(cls)["properties"].items():
            kinds = shown.get("anyOf", [shown])
            number = next((k for k in kinds if k.get("type") in ("integer", "number")), None)
            if number is None:
                continue
            low = number.get("minimum", number.get("exclusiveMinimum"))
            high = number.get("maximum", number.get("exclusiveMaximum"))
            assert None not in (low, high), f"{name}.{field}"
            shows = [f for m, f in pictures() if m == name]
            required = {f: PICTURE for f in shows if f == "image"}
            for f in methods.schema(cls).get("required", ()):
                required[f] = PICTURE if f in shows else "x"
            for value in (low - 1, high + 1, float("nan")):
                wrong = {**required, field: value}
                refused(lambda cls=cls, wrong=wrong: cls(**wrong), f"{name}: {field}")
                plain = {f: v for f, v in wrong.items() if f not in shows}
                with pytest.raises(SfumatoError):
                    methods.from_data({"method": name, **plain})


def test_numbers_of_solvers_have_two_ends() -> None:
    for name in SOLVERS:
        schema: Any = methods.recipe_schema()["properties"]["solver"]["anyOf"]
        own = next(s for s in schema[1:] if s["properties"]["solver"]["const"] == name)
        for field, shown in own["properties"].items():
            if shown.get("type") in ("integer", "number") and "enum" not in shown:
                for value in (shown["minimum"] - 1, shown["maximum"] + 1):
                    refused(
                        lambda name=name, field=field, value=value: solver(
                            {"solver": name, field: value}
                        ),
                        f"{field} {value}",
                    )


# --- processes


def process(**values: Any) -> sf.Process:
    denoiser: Any = None
    return sf.Process(denoiser, (3, 4, 4), **values)


PROCESSES: list[tuple[dict[str, Any], str]] = [
    ({"n": 0}, "n = 0: must be 1 to 4,096"),
    ({"n": True}, "n = True: must be a whole number"),
    ({"n": 2.0}, "n = 2.0: must be a whole number"),
    ({"n": np.float64(2)}, "must be a whole number"),
    ({"n": 10**8}, "n = 100000000"),
    ({"n_steps": -4}, "steps = -4: must be 1 to 10,000"),
    ({"n_steps": 300_000_000}, "steps = 300000000"),
    ({"n_steps": "9"}, "steps = '9': must be a whole number"),
    ({"label": -1}, "label = -1: must be at least 0"),
    ({"stages": 0}, "stages = 0: must be at least 1"),
    ({"prompt": None}, "prompt = None: must be a text"),
    ({"prompt": "\ud800"}, "is not UTF-8 text"),
    ({"negative": "x" * (LENGTH + 1)}, "negative: has 10,001 characters"),
    ({"solver": ""}, "solver '': unknown"),
    ({"solver": "zzz"}, "solver 'zzz': unknown"),
    ({"solver": 5}, "solver 5: is none"),
    ({"solver": {"solver": "heun", "eta": 1}}, "solver heun: no option 'eta'"),
    ({"spacing": "zzz"}, "spacing 'zzz': not one of"),
    ({"spacing": (1.0,)}, "spacing: has 1 times"),
    ({"size": 0}, "size = 0"),
    ({"size": np.array([3, 4])}, "must be a whole number"),
    ({"size": (3, 4.5)}, "size: height = 4.5"),
]


@pytest.mark.parametrize(("values", "phrase"), PROCESSES)
def test_processes(values: dict[str, Any], phrase: str) -> None:
    refused(lambda: process(**values), phrase)
    changed = {"steps" if name == "n_steps" else name: value for name, value in values.items()}
    refused(lambda: emoji().process(**changed), phrase.split(":")[0])


@pytest.mark.parametrize("shape", [(3, -4, 4), (3, 4.0, 4), (True, 4, 4), ("3", 4, 4), (None, 4)])
def test_shapes_that_no_state_has(shape: Any) -> None:
    denoiser: Any = None
    refused(lambda: sf.Process(denoiser, shape), "shape[")


@pytest.mark.parametrize(
    "state", [5, [1.0], np.zeros((1, 3, 4, 4)), torch.zeros(3), torch.zeros(1, 3, 4, 4).long()]
)
def test_states_that_are_no_tensors_of_pictures(state: Any) -> None:
    refused(lambda: process(solver="ddim", n_steps=1).steps(state), "x: got ")
    refused(lambda: process(solver="ddim", n_steps=1).invert(state), "x0: got ")


def test_noise_that_draws_nothing() -> None:
    made: Any = process(solver="ddim", n_steps=1)
    refused(lambda: made.steps(noise=5), "noise 5: is no source")
    refused(lambda: made.sample(noise="a"), "noise 'a': is no source")


@pytest.mark.parametrize("seed", [1.0, 1.5, "7", True, None, 1 << 70, float("nan"), np.float32(1)])
def test_seeds_that_are_none(seed: Any) -> None:
    refused(lambda: emoji().process("rose", steps=1, stages=1).begin(seed), "seed = ")
    refused(lambda: emoji().process("rose", steps=1).sample(seed), "seed = ")


def test_numbers_of_numpy_and_torch_become_pythons(tmp_path: Path) -> None:
    made = emoji().process(
        "rose", n=np.int64(2), steps=torch.tensor(2), stages=np.int8(1), size=(np.int64(32), 32)
    )
    made = made | sf.CFG(np.float32(2), window=np.array([0.0, 1.0]))
    result: Any = made.sample(np.uint8(7))
    (path, _) = result.save(tmp_path / "x-{seed}.png")
    kept = Recipe.from_json(images.read_metadata(path)["sfumato"])
    assert (kept.seed, kept.n, kept.steps, kept.size) == (7, 2, 2, (32, 32))
    again = sf.run(path).images[0]
    assert again.tobytes() == result.images[0].tobytes()
    numbers: Any = {"spacing": np.array([1.0, 0.5, 0.0]), "solver": {"solver": "ddim"}}
    numbers["solver"]["eta"] = np.float32(0.5)
    assert emoji().process("rose", stages=1, **numbers).times == (1.0, 0.5, 0.0)
    json.dumps(emoji().asked(emoji().process("rose", stages=1, **numbers)).to_data())


def test_what_is_composed_and_loaded_is_of_the_right_kind() -> None:
    made = emoji().process("rose", steps=1, stages=1)
    for wrong in (5, None, "cfg", sf.CFG, [sf.CFG(2)]):
        refused(lambda wrong=wrong: made | wrong, "is no method; compose a value")
    refused(lambda: made.based(zzz=1), "a process has no 'zzz'")
    refused(lambda: made.based(prompt=5), "prompt = 5: must be a text")
    refused(lambda: made.without(5), "without(5)")
    for wrong in (5, None, ""):
        refused(lambda wrong=wrong: sf.load(wrong), "give a name, a folder or a file")
        refused(lambda wrong=wrong: emoji().adapt(wrong), "give a name, a file or a folder")
    refused(lambda: sf.load("x" * 5000), "not one of emoji")
    refused(lambda: emoji().adapt("x" * 5000), "no such file")
    refused(lambda: emoji().adapt("x", float("nan")), "adapter: strength = nan")
    refused(lambda: emoji().adapt("x", True), "adapter: strength = True")


def test_revised_takes_no_field_that_is_not_there() -> None:
    made = emoji().process("rose", steps=1, stages=1) | sf.CFG(2)
    refused(lambda: made.revised("cfg", scal=9), "cfg: no field 'scal'")
    refused(lambda: made.revised("cfg", scale=900), "cfg: scale = 900")


def test_repeats_multiply_only_so_far() -> None:
    made = emoji().process("rose", steps=10_000, stages=1)
    made = made | sf.SDEdit(PICTURE, repeats=100) | sf.Inpaint(PICTURE, mask=PICTURE, resample=100)
    refused(lambda: made.times, "transitions with every repeat, of at most 1,000,000")


_loaded: dict[str, sf.Model] = {}


def emoji() -> Any:
    """The bundled model, loaded once."""
    if not _loaded:
        _loaded["emoji"] = sf.load("emoji", dtype="float32")
    return _loaded["emoji"]


# --- prompts


def test_long_prompts_take_no_time() -> None:
    stage = StageCard({}, (), "cosine")
    card = Card("x", stage, (32, 32), 8, 256, template="{prompt}, flat", styles=("ink drawing",))
    for text in ("ink " * 20_000, "ink,drawing " * 8_000, "a" * 80_000, "ink x, " * 12_000):
        began = time.perf_counter()
        assert card.full_prompt(text).endswith(", flat")
        assert not mentions(text, "ink drawing pencil")
        assert time.perf_counter() - began < 1
    refused(lambda: emoji().process("ink " * 20_000), "prompt: has 80,000 characters")
    refused(lambda: emoji().process("ink " * 2000, stages=1, steps=1).sample(), "token")


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("ink drawing", True),
        ("an Ink line DRAWING, of it", True),
        ("ink bottle, pencil drawing", False),
        ("drawing ink", False),
        ("inkdrawing", False),
        ("drinking, ink drawings", False),
        ("ink, ink drawing", True),
    ],
)
def test_styles_are_found_by_their_words(prompt: str, found: bool) -> None:
    assert mentions(prompt, "ink drawing") is found


@pytest.mark.parametrize(
    "template", ["{prompt:>2000000000}", "{prompt.__class__}", "{0}", "{", "{prompt!r}"]
)
def test_templates_are_no_format_strings(template: str) -> None:
    card = Card("x", StageCard({}, (), "cosine"), (32, 32), 8, 256, template=template)
    assert len(card.full_prompt("rose")) < 100


# --- where a path may come from


def recipe_with(**values: Any) -> Recipe:
    return Recipe.from_data({**GOOD, **values})


def test_run_reads_a_recipe_object_as_a_document(tmp_path: Path) -> None:
    """Whoever made it: it may have come from anywhere."""
    Image.new("RGB", (8, 8), "red").save(tmp_path / "private.png")
    entry: Any = {"method": "sdedit", "image": str(tmp_path / "private.png")}
    refused(lambda: sf.run(Recipe("emoji", methods=(entry,), steps=1)), "picture: must be")
    refused(lambda: sf.run(Recipe(str(tmp_path))), NOT_BARE)
    refused(lambda: sf.run(Recipe("emoji", n="2")), "n = '2'")  # type: ignore[arg-type]
    refused(lambda: sf.run(Recipe("emoji", methods="x")), "methods = 'x'")  # type: ignore[arg-type]
    refused(lambda: sf.run(Recipe("emoji", prompt=b"x")), "is not plain data")  # type: ignore[arg-type]
    deep: Any = []
    for _ in range(10_000):
        deep = [deep]
    entry = {"method": "cfg", "scale": deep}
    refused(lambda: sf.run(Recipe("emoji", methods=(entry,))), "recipe: is nested too deeply")


def test_the_hubs_names_are_no_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """org/name of a recipe is never the folder name in the folder org here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "private").mkdir(parents=True)
    phrase = "is the hub's name in a recipe, and a path in the working folder too"
    adapter = {"file": "photos/private", "sha256": ZEROS, "scale": 1}
    refused(lambda: sf.run(recipe_with(model="photos/private")), phrase)
    refused(lambda: sf.run(recipe_with(adapters=[adapter])), phrase)
    entry = {"method": "clip_guidance", "clip": "photos/private"}
    refused(lambda: sf.run(recipe_with(methods=[entry])), phrase)
    refused(lambda: sf.run(recipe_with(model="photos/other")), "sfumato models pull photos/other")


def test_weights_beside_a_recipe_are_found_by_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "head.pth").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.pth")
    entry = {"method": "aesthetic", "head": "head.pth"}
    token = places.beside.set((tmp_path / "there",))
    try:
        found: Any = methods.from_data(entry)
        assert found.head == str(tmp_path / "there" / "head.pth")
        assert methods.to_data(found)["head"] == "head.pth"
        assert places.placed("pipe.pth", [tmp_path]) is None
    finally:
        places.beside.reset(token)
    typed: Any = sf.Aesthetic(head=str(tmp_path / "there" / "head.pth"))
    assert typed.head == str(tmp_path / "there" / "head.pth")


@pytest.mark.parametrize(
    "text", ["", "[]", "7", '{"a": 5}', "[" * 100_000, '{"a": "b"}', '{"a": ["/x"]}']
)
def test_a_damaged_memory_of_places_is_none(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path))
    (tmp_path / "places.json").write_text(text)
    assert places.placed("a", []) is None
    (tmp_path / "w.pth").write_bytes(b"x")
    assert places.called(str(tmp_path / "w.pth")) == "w.pth"
    assert places.placed("w.pth", []) == tmp_path / "w.pth"
    assert not list(tmp_path.glob("*.part"))


def test_called_takes_any_text() -> None:
    for text in ("", "x" * 5000, "a\0b", "~nobody-here/x", "\ud800"):
        assert places.called(text) == text


def test_pipes_and_devices_are_no_pictures(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        refused(lambda name=name: ImageInput.of(tmp_path / name), "is no regular file")
    for name in ("pipe.png", "pipe.json", "zero.png"):
        refused(lambda name=name: sf.run(tmp_path / name), "is no regular file")
    for name in ("pipe.png", "zero.png"):  # by hash they are not that input
        refused(lambda name=name: store.fetch(ZEROS, name, {}, [tmp_path]), "no such file beside")


@pytest.mark.parametrize(
    ("text", "made"),
    [("1,0.5,0.25,0", (1.0, 0.5, 0.25, 0.0)), ("10,5", "10,5"), ("karras", "karras"), ("27", "27")],
)
def test_times_on_the_command_line(text: str, made: Any) -> None:
    assert asked.parse_spacing(text) == made
    refused(lambda: asked.parse_spacing("0.5,a"), "write times such as")


SPY = """
import json, sys
opened, armed = [], False
def hook(event, args):
    if armed and event == "open" and isinstance(args[0], (str, bytes)):
        opened.append(str(args[0]))
    elif armed and event.split(".")[0] in ("subprocess", "socket", "pty"):
        opened.append(event)
sys.addaudithook(hook)
import sfumato as sf
model = sf.load("emoji", dtype="float32")
armed, found = True, []
for source in sys.argv[2:]:
    said, opened = "", []
    try:
        sf.run(source, dtype="float32").save(sys.argv[1])
    except sf.SfumatoError as error:
        said = str(error)
    found.append([said, opened])
armed = False
print(json.dumps(found))
"""


def spied(sources: list[Path], output: Path, cwd: Path) -> list[tuple[str, set[str]]]:
    """What each run says, and what it opens beside Python's own files and the package's."""
    own = [sys.prefix, sys.base_prefix, str(Path(sf.__file__).parent), str(home())]
    own += ["/proc", "/sys", "/usr", "/etc/localtime", str(output.parent)]
    path = str(Path(sf.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", SPY, str(output), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=100)
    assert done.returncode == 0, done.stderr
    return [
        (said, {file for file in opened if not file.startswith(tuple(own))})
        for said, opened in json.loads(done.stdout.splitlines()[-1])
    ]


def test_a_foreign_recipe_opens_nothing_but_what_it_names_by_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    for folder in ("private", "sent", "made", "cwd/org/name"):
        (tmp_path / folder).mkdir(parents=True)
    secret = tmp_path / "private" / "secret.png"
    Image.new("RGB", (16, 16), "red").save(secret)
    (tmp_path / "cwd" / "secret.png").write_bytes(secret.read_bytes())
    guide = tmp_path / "sent" / "guide.png"
    Image.new("RGB", (16, 16), "blue").save(guide)
    named = {"sha256": ImageInput.of(guide).sha256, "name": "guide.png"}
    source = tmp_path / "sent" / "r.json"

    source.write_text(json.dumps({**GOOD, "methods": [{"method": "sdedit", "image": named}]}))
    paths = (str(secret), "../private/secret.png", "secret.png", "~/secret.png")
    tries: list[dict[str, Any]] = []
    for path in paths:
        tries += [
            {"methods": [{"method": "sdedit", "image": path}]},
            {"methods": [{"method": "sdedit", "image": named, "mask": path}]},
            {"methods": [{"method": "ilvr", "image": {"sha256": path}}]},
        ]
    for path in (str(secret), "../private/secret.png", "secret.png", "org/name"):
        adapter = {"file": path, "sha256": ZEROS, "scale": 1}
        tries += [
            {"model": path},
            {"adapters": [adapter]},
            {"methods": [{"method": "diffstyler", "image": named, "art": path}]},
            {"methods": [{"method": "perceptual", "image": named, "features": path}]},
        ]
    for given_ in tries:
        data = {**GOOD, **given_}
        monkeypatch.chdir(tmp_path / "cwd")
        refused(lambda data=data: sf.run(Recipe.from_data(data)), "")
    bad = tmp_path / "sent" / "bad.json"
    bad.write_text(json.dumps({**GOOD, **tries[0]}))
    named_as_weights = tmp_path / "sent" / "named.json"
    named_as_weights.write_text(json.dumps({**GOOD, "model": "secret.png"}))
    sources = [source, bad, named_as_weights]
    seen = spied(sources, tmp_path / "made" / "a.png", tmp_path / "cwd")
    assert seen[0] == ("", {str(source), str(guide)})
    assert "picture: must be" in seen[1][0]
    assert seen[1][1] == {str(bad)}
    assert "a recipe names weights, whose files end in" in seen[2][0]
    assert seen[2][1] == {str(named_as_weights)}
    assert [file.name for file in (tmp_path / "made").iterdir()] == ["a.png"]


# --- the store


def test_a_damaged_input_is_stored_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path))
    assert store.keep(b"picture")
    (file,) = (tmp_path / "store").glob("*/*")
    for damage in (b"pictur3", b"", b"picture and more"):
        file.write_bytes(damage)
        refused(lambda: store.fetch(file.name, "a.png", {}, []), "not in the store")
        assert store.keep(b"picture")
        assert store.fetch(file.name, "a.png", {}, []) == b"picture"


def test_parts_of_a_killed_program_do_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path))
    (tmp_path / "store" / "aa").mkdir(parents=True)
    old, new = (tmp_path / "store" / "aa" / f"{name}.part" for name in ("old", "new"))
    for part in (old, new):
        part.write_bytes(b"x")
    place = tmp_path / "places.123.part"
    place.write_bytes(b"x")
    for part in (old, place):
        os.utime(part, (0, 0))
    store.keep(b"picture")
    places.called(str(new))
    assert not old.exists()
    assert not place.exists()
    assert new.exists(), "another program may be writing it"

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert store.keep(b"another") is False
    assert [part.name for part in (tmp_path / "store").glob("*/*.part")] == ["new.part"]


def test_many_threads_store_one_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path))
    failed: list[int] = []

    def storing() -> None:
        for k in range(20):
            if not store.keep(bytes([k]) * 1000):
                failed.append(k)

    threads = [threading.Thread(target=storing) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(list((tmp_path / "store").glob("*/*"))) == 20


@pytest.mark.parametrize("text", ["%%%", "YQ", "é", "YQ==YQ=="])
def test_embedded_content_is_checked(text: str, tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match=r"embedded, but not as base64|not embedded"):
        store.fetch(ZEROS, "a.png", {ZEROS: text}, [tmp_path])


# --- the command line


def said(app: Any, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


LINES = [
    (("--steps", "300000000", "--plan"), 1, "steps = 300000000"),
    (("--steps", "-4"), 1, "steps = -4"),
    (("--steps", "x"), 2, "'--steps'"),
    (("-n", "0", "--plan"), 1, "n = 0"),
    (("-n", "100000000"), 1, "n = 100000000"),
    (("--seed", "9" * 40, "--plan"), 1, "seed = "),
    (("--label", "-1"), 1, "label = -1"),
    (("--stages", "0"), 1, "stages = 0"),
    (("--solver", ""), 1, "--solver: is empty"),
    (("--solver", "zzz"), 1, "solver 'zzz': unknown"),
    (("--spacing", ""), 1, "--spacing: is empty"),
    (("--spacing", "ddim²"), 1, "not one of uniform"),
    (("--model", ""), 1, "--model: is empty"),
    (("--recipe", ""), 1, "--recipe: is empty"),
    (("--size", ""), 1, "--size: is empty"),
    (("--size", "0"), 1, "size = 0"),
    (("--size", "1x2x3"), 1, "--size 1x2x3: write N"),
    (("--adapt", ""), 1, "--adapt '': write NAME or FILE"),
    (("--adapt", "=2"), 1, "write NAME or FILE"),
    (("--adapt", "x=nan"), 1, "strength = nan: must be a finite number"),
    (("--target", "rms=0.2"), 1, "--target rms=0.2: no field is given as auto"),
    (("--cfg", "1000"), 2, "'--cfg'"),
    (("--cfg", "nan"), 2, "'--cfg'"),
    (("--cfg", "2", "--with", "cfg.scale=3"), 1, "cfg.scale: is given twice"),
    (("--with", "cfg.scale=2", "--with", "cfg.scale=3"), 1, "cfg.scale: is given twice"),
    (("--with", "cfg.scal=2"), 1, "cfg has no 'scal'"),
    (("--with", "cfg.scale=x"), 1, "cfg: scale = 'x'"),
    (("--with", "cfg.window=" + "[" * 100_000), 1, "cfg: window"),
    (("--with", "cfg.window=1,0"), 1, "needs 0 <= low <= high <= 1"),
    (("--with", "x.y=1"), 1, "method 'x': unknown"),
    (("--with", "cfg"), 1, "write METHOD.FIELD=VALUE"),
    (("--with", "sdedit.image=/dev/zero"), 1, "/dev/zero: is no regular file"),
    (("--with", "sdedit.image="), 1, "is a folder; give a file"),
    (("--negative", "\udcff"), 1, "is not UTF-8 text"),
]


@pytest.mark.parametrize(("options", "code", "phrase"), LINES)
def test_options(options: tuple[str, ...], code: int, phrase: str, app: Any, tmp_path: Path,
                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    model = emoji()
    monkeypatch.setattr("sfumato.models.loaders.library.load", lambda name, **values: model)
    found, text = said(app, "generate", "-p", "rose", *options)
    assert phrase.replace(" ", "") in text.replace(" ", ""), text
    assert found == code
    assert "internal error" not in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("over", "phrase"),
    [
        ("cfg.scale=1e9,1e10", "cfg.scale = 1e+09: input should be less than or equal"),
        ("cfg.window=1,2", "cfg.window = 1: "),
        ("cfg.adapters=1,2", "cfg.adapters = 1: "),
        ("sdedit.repeats=1.5,2.5", "sdedit.repeats = 1.5: "),
        ("cfg.scale=1,nan", "is not finite"),
        ("cfg.scal=1,2", "cfg has no 'scal'"),
    ],
)
def test_a_sweep_begins_with_values_that_its_field_takes(over: str, phrase: str) -> None:
    from sfumato.measure.axis import axis

    refused(lambda: axis(over), phrase)


CLAIM: dict[str, Any] = {
    "recipe": {"model": "emoji", "schema": 1}, "over": {"method": "", "field": "steps",
    "values": [1, 2]}, "prompts": ["rose"], "weights": "0", "dtype": "float32",
}  # fmt: skip


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("recipe",), {"schema": 1}),
        (("recipe", "model"), "/etc/passwd"),
        (("recipe", "steps"), "9"),
        (("over",), []),
        (("over", "values"), ["1", "2"]),
        (("over", "values"), [1]),
        (("over", "evil"), 1),
        (("prompts",), "rose"),
        (("prompts",), []),
        (("weights",), 3),
        (("dtype",), None),
        (("evil",), 1),
    ],
)
def test_a_sweeps_file_is_refused_by_field(
    where: tuple[str, ...], value: Any, tmp_path: Path
) -> None:
    data = json.loads(json.dumps(CLAIM))
    inner = data
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    (tmp_path / "sweep.json").write_text(json.dumps(data))
    made = emoji().process("rose, flat", steps=1, stages=1)
    with pytest.raises(SfumatoError, match=rf"sweep\.json: .*{where[0]}"):
        sf.sweep(made, "steps=1,2", tmp_path)


@pytest.mark.parametrize("text", ["", "[[[", "[]", "7", "{}", '{"recipe": null}'])
def test_a_folder_of_another_sweep_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(text)
    made = emoji().process("rose, flat", steps=1, stages=1)
    with pytest.raises(SfumatoError, match=r"sweep\.json: |holds a sweep of other"):
        sf.sweep(made, "steps=1,2", tmp_path)
    for seeds in (0, 1.5, True, 10**8):
        refused(lambda seeds=seeds: sf.sweep(made, "steps=1,2", tmp_path, seeds=seeds), "seeds = ")


def test_margins_beyond_any_picture_take_no_time() -> None:
    began = time.perf_counter()
    made = sf.Inpaint(PICTURE, extend=(0, 0, 30_000, 30_000))
    process = emoji().process("rose", steps=1, stages=1) | made
    refused(lambda: process.sample(), "makes 30004x30004, more than")
    assert time.perf_counter() - began < 5


CLASHES = '''
"""Has fields that are called like options of the program."""
from typing import Annotated, ClassVar
from sfumato.methods import Method, knob, method


@method
class Clash(Method):
    verb: ClassVar[bool] = True
    {fields}
    odd: Annotated[list[str] | None, knob("of a type that no option has")] = None

    def __call__(self, process):
        assert (self.seed, self.steps) == (5, 0.25), self
        return process
'''
NAMES = (
    "seed", "n", "threshold", "aesthetic", "steps", "model", "prompt", "plan", "debug", "json",
    "as_json", "output", "o", "extra", "recipe", "quiet", "help", "h", "cfg", "source",
    "over", "folder", "seeds", "size", "spacing", "with_", "own_seed", "values", "ctx",
)  # fmt: skip
SEED = """
from sfumato.methods import Method, knob, method
from typing import Annotated


@method
class {name}(Method):
    value: Annotated[float, knob("a number", main=True, ge=0, le=1)] = 0.5

    def __call__(self, process):
        return process
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Methods whose names and fields clash with the program's own; the program built with them."""
    from sfumato.cli import main

    folder = tmp_path / "more"
    folder.mkdir()
    fields = [f'{n}: Annotated[float | None, knob("a number", ge=0, le=9)] = None' for n in NAMES]
    (folder / "clash.py").write_text(CLASHES.replace("{fields}", "\n    ".join(fields)))
    for name in ("seed", "model", "n", "json"):
        (folder / f"{name}.py").write_text(SEED.replace("{name}", name.title()))
    verb = SEED.replace("{name}", "Run").replace("    value", "    verb = True\n    value")
    (folder / "run.py").write_text(verb)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(folder)])
    methods.registry.cache_clear()
    fresh = main.app.__class__(pretty_exceptions_enable=False)
    monkeypatch.setattr(main, "app", fresh)
    main.build()
    yield fresh
    methods.registry.cache_clear()
    for name in ("clash", "seed", "model", "n", "json", "run"):
        sys.modules.pop(f"sfumato.methods.{name}", None)


def test_fields_called_like_options_do_not_clash(
    installed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = emoji()
    monkeypatch.setattr("sfumato.models.loaders.library.load", lambda name, **values: model)
    for words in (("--help",), ("clash", "--help"), ("sweep", "clash", "--help"), ("run", "--help"),
                  ("batch", "clash", "--help"), ("generate", "--help")):  # fmt: skip
        code, text = said(installed, *words)
        assert code == 0, text
    assert "again, bit for bit" in said(installed, "run", "--help")[1]
    code, text = said(
        installed, "clash", "-p", "rose, flat", "--seed", "9", "--clash-seed", "5", "--steps", "2",
        "--clash-steps", "0.25", "--cfg", "2", "--plan", "--json",
    )  # fmt: skip
    assert code == 0, text
    recipe = json.loads(text)["recipe"]
    assert (recipe["seed"], recipe["steps"]) == (9, 2)
    made = {entry["method"]: entry for entry in recipe["methods"]}
    assert (made["clash"]["seed"], made["cfg"]["scale"]) == (5, 2)
    code, text = said(
        installed, "generate", "-p", "rose, flat", "--steps", "2", "--with", "seed.value=1",
        "--plan", "--json",
    )  # fmt: skip
    assert code == 0, text
    assert json.loads(text)["recipe"]["methods"][0] == {"method": "seed", "value": 1.0}


def test_a_field_is_not_called_like_what_a_method_has() -> None:
    with pytest.raises(TypeError, match="field preset"):

        @methods.method
        class Odd(methods.Method):
            preset: str = ""


def test_a_package_that_does_not_load_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        name = "broken"

        def load(self) -> Any:
            raise ImportError("no module named nothing")

    class Other(Broken):
        name = "other"

        def load(self) -> Any:
            return object

    monkeypatch.setattr(methods, "entry_points", lambda group: [Broken(), Other()])
    methods.registry.cache_clear()
    try:
        assert "cfg" in methods.registry()
        assert not {"broken", "other"} & set(methods.registry())
        assert "method broken: could not be loaded (no module named nothing)" in caplog.text
    finally:
        methods.registry.cache_clear()


# --- any JSON gives a value, or one line


names = st.sampled_from(list(inspect.signature(Recipe).parameters))


@quickly
@given(st.dictionaries(names, json_values, max_size=3))
def test_any_fields_make_a_recipe_or_one_line(fields: dict[str, Any]) -> None:
    made = tried(lambda: Recipe.from_data({**GOOD, **fields}))
    if made is not None:
        again = Recipe.from_json(made.to_json())
        assert again.to_data() == made.to_data() or "nan" in str(made).lower()
        made.parameters()
        made.inputs()
        for entry in made.methods:
            tried(lambda entry=entry: methods.from_data(entry))


@quickly
@given(st.text(max_size=40) | json_values.map(lambda value: json.dumps(value)))
def test_any_text_makes_a_recipe_or_one_line(text: str) -> None:
    tried(lambda: Recipe.from_json(text))


@quickly
@given(st.data())
def test_any_entry_makes_a_method_or_one_line(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(methods.registry())))
    fields = st.sampled_from(sorted(methods.described(methods.find(name))))
    entry = data.draw(st.dictionaries(fields, json_values, max_size=4))
    made = tried(lambda: methods.from_data({"method": name, **entry}))
    if made is not None:
        assert methods.from_data(json.loads(json.dumps(methods.to_data(made)))) == made


@quickly
@given(st.sampled_from(list(SOLVERS)), st.dictionaries(texts, json_values, max_size=2), json_values)
def test_any_value_makes_a_solver_and_a_spacing_or_one_line(
    name: str, options: dict[str, Any], value: Any
) -> None:
    tried(lambda: solver({"solver": name, **options}))
    for option in ("eta", "order", "start", "of", "stages", "full", "churn", "s_min", "variance"):
        tried(lambda option=option: solver({"solver": name, option: value}))
    tried(lambda: declared(value))


def test_tensors_that_lie_about_their_shape() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((3, 4, 4), "f4"))
    data = buffer.getvalue()
    refused(lambda: ImageInput.of(data[:-8], "x.npy").tensor(), "x.npy: not a readable .npy")
    huge = data.replace(b"(3, 4, 4)", b"(9999999999, 4, 4)"[:9] + b"")
    tried(lambda: ImageInput.of(huge, "x.npy").tensor())


MULTIPLE = read_card(BUNDLED["emoji"]).multiple
TENSORS: list[tuple[Callable[[], Any], str]] = [
    (lambda: sf.SDEdit(torch.zeros(2)), "tensor of 2: this process takes 3 channels"),
    (lambda: sf.SDEdit(torch.zeros(())), "tensor of no sides"),
    (lambda: sf.SDEdit(torch.zeros(1, 32, 32)), "tensor of 1x32x32: this process takes 3 channels"),
    (lambda: sf.SDEdit(torch.zeros(3, 33, 32)), f"multiples of {MULTIPLE}"),
    (lambda: sf.SDEdit(torch.zeros(3, 0, 0)), "is empty; give real values"),
    (lambda: sf.SDEdit(torch.zeros(5, 3, 32, 32)), "sdedit: tensor.npy is a tensor of 5x3x32x32"),
    (lambda: sf.SDEdit(torch.zeros(3, 32, 32), mask=torch.ones(2, 9, 9)), "a tensor of 2x9x9"),
    (lambda: sf.SDEdit(torch.zeros(3, 32, 32), mask=PICTURE), "is a picture; a tensor is needed"),
    (lambda: sf.SDEdit(torch.zeros(3, 32, 32).cfloat()), "holds complex numbers"),
    (
        lambda: sf.Inpaint(torch.zeros(3, 32, 32), extend=(1, 1, 1, 1)),
        "a state takes a tensor mask",
    ),
    (lambda: sf.Inpaint(torch.zeros(3, 32, 32), alpha_mask=True), "a state takes a tensor mask"),
    (lambda: sf.ILVR(torch.zeros(2, 3, 32, 32)), "ilvr: tensor.npy is a tensor of 2x3x32x32"),
    (lambda: sf.LowPass(image=torch.zeros(9, 3, 32, 32)), "low_pass: tensor.npy is a tensor"),
    (lambda: sf.SDEdit(torch.full((3, 32, 32), float("nan"))), "not finite"),
]


@pytest.mark.parametrize(("method", "phrase"), TENSORS, ids=range(len(TENSORS)))
def test_tensors_that_do_not_fit(method: Callable[[], Any], phrase: str) -> None:
    made = emoji().process("rose", steps=1, stages=1)
    refused(lambda: (made | method()).sample(), phrase)


def test_a_classifier_reads_one_size() -> None:
    made = emoji().process("rose", steps=1, stages=1, size=16)
    side = emoji().card.classifier.size
    refused(lambda: (made | sf.Classifier("ink")).sample(), f"classifier: reads {side}x{side}")


def test_embedded_inputs_are_read_by_their_hash(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    given_ = ImageInput.of(buffer.getvalue(), "a.png")
    content = base64.b64encode(given_.data).decode()
    assert store.fetch(given_.sha256, "a.png", {given_.sha256: content}, []) == given_.data
    lied = recipe_with(
        methods=[{"method": "sdedit", "image": {"sha256": ZEROS, "name": "a.png"}}],
        embedded={ZEROS: content},
    )
    refused(lambda: sf.run(replace(lied, steps=1)), "not embedded")
