"""A method of another package that asks for all that methods may: library, program and recipe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sfumato as sf
from helpers.installed import installed
from helpers.program import FAST, call, fails, home
from sfumato import methods
from sfumato.core.errors import SfumatoError
from sfumato.models.replay import read_recipe

__all__ = ["home"]

METHOD = '''
"""Probe: asks for all that a method may ask for."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from sfumato.core.guides import Guide
from sfumato.methods import Method, knob, method
from sfumato.methods.cfg import CFG
from sfumato.methods.common.secret import Secret


@dataclass(frozen=True)
class Region:
    """Words and where they belong."""

    words: str
    box: tuple[float, float, float, float]


@method
class Probe(Method):
    """Answers with what it was told."""

    verb: ClassVar[bool] = True
    solver: ClassVar = {"solver": "ddim", "eta": 0.5, "below": 0.4}
    defaults: ClassVar = (CFG(1.5),)

    key: Annotated[Secret | None, knob("a password")] = None
    words: Annotated[tuple[str, ...], knob("any number of words")] = ()
    regions: Annotated[tuple[Region, ...], knob("where words belong")] = ()

    def __call__(self, process):
        return process.add(guides=(self,))

    def bind_guide(self, run):
        run.answers["length"] = len(self.key.text("probe: key") if self.key else "")
        run.answers["said"] = " and ".join([*self.words, *(r.words for r in self.regions)])
        return Guide()
'''


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with installed("Probe", METHOD, tmp_path, monkeypatch) as cls:
        yield cls


@pytest.fixture
def program(probe: Any, request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("app")


@pytest.fixture(scope="module")
def model() -> sf.Model:
    return sf.load()


def test_a_method_brings_its_solver_and_methods(probe: Any, model: sf.Model) -> None:
    resolved = (model.process("apple", stages=1) | probe()).resolved()
    assert resolved.solver == probe.solver
    assert [m.id for m in resolved.methods][:2] == ["probe", "cfg"]
    assert resolved.methods[1] == sf.CFG(1.5)  # before the card's
    given: Any = model.process("apple", stages=1, solver="ddpm") | sf.CFG(4) | probe()
    assert given.resolved().solver == "ddpm"
    assert [m for m in given.resolved().methods if m.id == "cfg"] == [sf.CFG(4)]


def test_answers_stand_in_result_and_recipe(probe: Any, model: sf.Model) -> None:
    made: Any = model.process("apple", steps=1, stages=1) | probe(key="abcd", words=("a", "b"))
    result = made.sample()
    assert result.answers == {"length": 4, "said": "a and b"}
    assert result.images[0].recipe.run["answers"] == result.answers
    assert sf.Recipe.from_json(result.recipe.to_json()).run["answers"] == result.answers


def test_a_secret_is_recorded_as_its_digest_and_shown_nowhere(probe: Any, model: sf.Model) -> None:
    made: Any = model.process("apple", steps=1, stages=1) | probe(key="hunter2")
    recipe = made.sample().recipe
    assert "hunter2" not in recipe.to_json() + repr(made) + repr(made.methods)
    (entry,) = [data for data in recipe.methods if data["method"] == "probe"]
    assert entry["key"].startswith("sha256:")
    again = methods.from_data(entry)
    assert methods.to_data(again)["key"] == entry["key"]
    with pytest.raises(SfumatoError, match="probe: key: the recipe holds a digest"):
        (model.process("apple", steps=1, stages=1) | again).sample()


def test_options_may_be_repeated_and_read_a_file(program: Any, tmp_path: Path) -> None:
    layout = [{"words": "moon", "box": [0, 0, 0.5, 1]}, {"words": "tree", "box": [0.5, 0, 1, 1]}]
    (tmp_path / "layout.json").write_text(json.dumps(layout))
    words = ("probe", "-p", "apple", "--key", "hunter2", "--words", "sun", "--words", "sea")
    result = call(program, *words, "--regions", "@layout.json", *FAST, "-o", "a.png")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-2:] == ["length: 7", "said: sun and sea and moon and tree"]
    recipe = read_recipe("a.png")
    (entry,) = [data for data in recipe.methods if data["method"] == "probe"]
    assert entry["words"] == ["sun", "sea"]
    assert entry["regions"] == layout
    assert "hunter2" not in recipe.to_json()
    said = fails(program, 1, *words, "--regions", "@none.json", *FAST, "-o", "b.png")
    assert "none.json" in said
    (tmp_path / "wrong.json").write_text('[{"words": "moon"}]')
    said = fails(program, 1, *words, "--regions", "@wrong.json", *FAST, "-o", "b.png")
    assert "regions" in said
