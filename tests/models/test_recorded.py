"""What a run of a model records and keeps: prompts, stages, transparency, inputs, dtype."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import sfumato as sf
from sfumato.core.errors import SfumatoError
from sfumato.core.noise import Seeded
from sfumato.core.schedule import linear
from sfumato.models import devices
from sfumato.models.cascade import Cascade, Walk
from sfumato.models.replay import compose
from sfumato.recipe import store

TABLE = linear()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def model() -> sf.Model:
    return sf.load("emoji", dtype="float32")


def test_negative_prompt_steers_and_is_recorded(model: sf.Model) -> None:
    plain = model.process("red apple", steps=2, stages=1).sample()
    other = model.process("red apple", negative="red heart", steps=2, stages=1).sample()
    assert (np.asarray(plain.images[0]) != np.asarray(other.images[0])).any()
    assert other.recipe.negative == "red heart"
    assert "Negative prompt: red heart" in other.recipe.parameters()


def test_stages_have_their_own_noise_and_rows(model: sf.Model) -> None:
    cascade = model.process("red apple", n=2, steps=1)
    assert isinstance(cascade, Cascade)
    with torch.no_grad():
        walk = Walk(cascade, 5, None)
        steps = list(walk.steps())
    assert walk.loops[0].run.noise == Seeded(5, 0)
    assert walk.loops[1].run.noise == Seeded(5, 1)
    low = walk.loops[1].run.process.cond
    assert low is not None
    assert low["low_res"].shape == (2, 3, *model.card.native)
    assert walk.loops[-1].run.noise == Seeded(5, len(model.card.upsamplers))
    assert steps[-1].x.shape == (2, 3, 256, 256)
    assert not torch.equal(low["low_res"][0], low["low_res"][1])


def test_a_run_of_more_stages_than_there_are_now_takes_all(
    model: sf.Model, caplog: pytest.LogCaptureFixture
) -> None:
    """Weights that are bundled anew may have fewer upsamplers; a recipe that never ran is told."""
    recipe = model.process("rose", steps=1, stages=1).sample().recipe
    alone, more = replace(model, upsamplers=()), replace(recipe, stages=3)
    assert compose(more, alone, []).stages == 1
    assert "stages 3: emoji has 1 now; all are run" in caplog.text
    with pytest.raises(SfumatoError, match="stages = 3: model emoji has 1"):
        compose(replace(more, run={}), alone, [])


def test_transparency_stays_as_it_was(model: sf.Model) -> None:
    image = PIL.Image.new("RGBA", (32, 32), (200, 30, 30, 255))
    image.putalpha(PIL.Image.linear_gradient("L").resize((32, 32)))
    mask = PIL.Image.new("L", (32, 32), 255)
    edit = sf.SDEdit(image, t0=0.3, mask=mask)
    made = (model.process("x", steps=1, stages=1) | edit).sample().images[0]
    assert (np.asarray(made.getchannel("A")) == np.asarray(image.getchannel("A"))).all()


def test_inputs_are_checked_against_their_hash(home: Path, tmp_path: Path) -> None:
    assert store.keep(b"picture")
    digest = "0" * 64
    stored = home / "store" / digest[:2] / digest
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"another")
    with pytest.raises(SfumatoError, match="put it there"):
        store.fetch(digest, "a.png", {digest: store.encoded(b"other")}, [tmp_path])


def test_the_store_is_bounded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "STORE_BYTES", 2500)
    for k in range(5):
        assert store.keep(bytes([k]) * 1000)
    kept = [f for f in (home / "store").glob("*/*") if f.is_file()]
    assert 1 <= len(kept) <= 2
    assert kept[0].read_bytes()[0] >= 0
    assert any(f.read_bytes() == bytes([4]) * 1000 for f in kept), "the newest stays"


def test_replay_takes_the_recorded_dtype_and_warns_of_other_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = sf.load("emoji", dtype="float32")
    result = model.process("rose", steps=2, stages=1).sample()
    again = sf.run(result.recipe)
    assert again.recipe.run["dtype"] == "float32"
    assert not caplog.records or "weights" not in caplog.text
    sf.run(replace(result.recipe, versions={"weights": "sha256 0"}))
    assert "weights of emoji differ" in caplog.text


def test_devices_are_taken_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_available", lambda kind: kind in ("mps", "cpu"))
    assert devices.choose().device == "mps"
    assert devices.choose(device="cpu").device == "cpu"
    with pytest.raises(SfumatoError, match="not available"):
        devices.choose(device="cuda")
