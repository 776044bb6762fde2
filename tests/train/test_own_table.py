"""A tuner's own table in a recipe: strict, read by that tuner alone, a part of what a run is."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sfumato.core.errors import SfumatoError
from sfumato.train import origin, tuners
from sfumato.train.config import parse
from sfumato.train.tables import toml

TUNER = '''
"""Probe: a tuner with a table of its own."""

from typing import Literal

from sfumato.train.values import Positive, part


@part
class Options:
    hint: Literal["edges", "depth"] = "edges"
    strength: Positive = 1.0


def tuner(config, data, folder, device):
    return config.part_of(Options)
'''


@pytest.fixture(autouse=True)
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "probe.py").write_text(TUNER)
    monkeypatch.setattr(tuners, "__path__", [*tuners.__path__, str(tmp_path)])
    yield
    sys.modules.pop("sfumato.train.tuners.probe", None)


def made(table: dict[str, Any] | None, tuner: str = "probe", named: str = "probe") -> Any:
    own = {} if table is None else {named: table}
    return tuners.make(parse({"name": "tiny", "tuner": tuner, **own}), Path(), Path(), "cpu")


def test_a_tuner_reads_its_own_table() -> None:
    assert made({"hint": "depth"}).hint == "depth"
    assert made(None).hint == "edges"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"hint": "smoke"}, r"\[probe\]: hint"),
        ({"strength": -1.0}, r"\[probe\]: strength"),
        ({"strngth": 1.0}, r"\[probe\]: .*strngth"),
    ],
)
def test_its_table_is_strict(table: dict[str, Any], said: str) -> None:
    with pytest.raises(SfumatoError, match=said):
        made(table)


def test_tables_of_nobody_are_refused() -> None:
    with pytest.raises(SfumatoError, match="probe"):
        made({"hint": "edges"}, tuner="judge")
    with pytest.raises(SfumatoError, match=r"\[judge\]: this tuner has no table of its own"):
        made({"hint": "edges"}, tuner="judge", named="judge")
    with pytest.raises(SfumatoError, match="no field 'own'"):
        parse({"name": "tiny", "tuner": "probe", "own": {}})
    with pytest.raises(SfumatoError, match="own"):
        parse({"name": "tiny", "tuner": "probe", "probe": 3})


def test_its_fields_stay_as_long_as_a_run_goes_on(tmp_path: Path) -> None:
    def origin_of(table: dict[str, Any]) -> origin.Origin:
        return origin.of(parse({"name": "tiny", "tuner": "probe", "probe": table}), {"data": "a"})

    config = parse({"name": "tiny", "tuner": "probe", "probe": {"hint": "depth"}})
    (tmp_path / origin.CHECKPOINT).touch()
    origin.begin(tmp_path, config, origin_of({"hint": "depth"}))
    assert origin.going_on(tmp_path, origin_of({"hint": "depth"})) == []
    for table in ({"hint": "edges"}, {}, {"hint": "depth", "strength": 2.0}):
        with pytest.raises(SfumatoError, match=r"cannot go on with this: own\."):
            origin.going_on(tmp_path, origin_of(table))


def test_a_recipe_is_written_with_its_nested_tables() -> None:
    """What a run folder keeps is read again."""
    data = {
        "name": "x",
        "model": {"kind": "v", "network": {"channel_mult": [1, 2], "bands": {"low": 2.0}}},
        "mix": {"hue": 0.1, "styles": {"ink": 0.5}},
    }  # fmt: skip
    assert tomllib.loads(toml(data)) == data
