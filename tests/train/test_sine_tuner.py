"""SINE's tuning: patches and where they lie, the file that says so, the command that reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as PILImage
from torch.nn import functional as F

import sfumato as sf
from helpers import unets
from helpers.families import family, last
from helpers.pictures import photo
from helpers.program import call, fails
from helpers.subjects import recipe, trained
from sfumato.core.errors import SfumatoError
from sfumato.nn import positions
from sfumato.train.config import Config, parse


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    folder = tmp_path / "picture"
    folder.mkdir()
    photo(64, 64).save(folder / "a.png")
    return folder


def tuned(kind: str, pictures: Path, own: dict[str, Any] | None = None, **changes: Any) -> Config:
    name = "emoji" if kind == "emoji" else str(family(kind).folder)
    changes["subject"] = {"prior": 0.0, **changes.get("subject", {})}
    tables = json.loads(recipe(Path(name), pictures, "dreambooth", **changes).text)
    tables |= {"tuner": "sine", "sine": own or {}}
    tables["subject"].pop("class_pictures")
    return parse(tables, json.dumps(tables))


def test_a_patch_has_its_part_of_the_grid() -> None:
    net = unets.network(unets.TEXT)
    told = positions.Positions(2.0)
    out = torch.zeros(2, 32, 8, 8)
    whole = told(None, None, out)
    assert torch.allclose(
        whole[:1], 2 * F.interpolate(positions.waves(32), (8, 8), mode="bilinear")
    )
    told.boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, 0.0, 1.0, 0.5]])
    both = told(None, None, out)
    assert torch.allclose(both[0], whole[0], atol=1e-5)
    corner = F.interpolate(positions.waves(32)[..., :64, 64:], (8, 8), mode="bilinear")[0]
    assert torch.allclose(both[1], 2 * corner, atol=1e-5)
    assert positions.waves(30).shape == (1, 30, 128, 128)
    assert positions.strength_of(net) == 0
    positions.attach(net, 0.5)
    assert positions.strength_of(net) == 0.5


@pytest.mark.parametrize("kind", [pytest.param("emoji", marks=pytest.mark.slow), "sd1", "sdxl"])
def test_its_file_tells_the_network_where_pixels_lie(
    kind: str, picture: Path, tmp_path: Path
) -> None:
    trained(tuned(kind, picture, {"grid": 0.5}), tmp_path / "run")
    adapted = family(kind).adapt(tmp_path / "run")
    network: Any = adapted.denoiser.network
    before: Any = family(kind).denoiser.network
    assert positions.strength_of(getattr(network, "net", network)) == 0.5
    assert positions.strength_of(getattr(before, "net", before)) == 0
    twice: Any = adapted.adapt(tmp_path / "run").denoiser.network
    stem = positions.stem_of(getattr(twice, "net", twice))
    assert len(stem._forward_hooks) == 1
    prompt = "red apple, flat" if kind == "emoji" else "red cat"
    plain = family(kind).process(prompt, steps=3, stages=1) | sf.CFG(3)
    sine = sf.SINE(tuned=str(tmp_path / "run"), caption="a dog")
    assert not torch.allclose(last(plain | sine), last(plain), atol=1e-3)
    off = sf.SINE(tuned=str(tmp_path / "run"), caption="a dog", original=1.0)
    assert torch.equal(last(plain | off), last(plain))


def test_a_run_goes_on_to_the_same_bits_and_differs_from_one_without_patches(
    picture: Path, tmp_path: Path
) -> None:
    states = [
        trained(tuned("sd1", picture, own), tmp_path / name)
        for name, own in (("one", {}), ("two", {}), ("three", {"patches": False}))
    ]
    one, two, whole = states
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], whole[name]) for name in one)


def test_what_cannot_be_is_said(picture: Path, tmp_path: Path) -> None:
    for said, config in (
        ("prior: it learns one picture", tuned("sd1", picture, subject={"prior": 1.0})),
        ("adapter.rank is 0", tuned("sd1", picture, adapter={"rank": 0})),
    ):
        with pytest.raises(SfumatoError, match=said):
            trained(config, tmp_path / "run")
    PILImage.open(picture / "a.png").save(picture / "b.png")
    with pytest.raises(SfumatoError, match="2 pictures there; it learns from one"):
        trained(tuned("sd1", picture), tmp_path / "run")


def test_options_of_the_command_make_its_recipe(app: Any, picture: Path, tmp_path: Path) -> None:
    model = str(family("sd1").folder)
    given = ["dreambooth", str(picture), "--class", "dog", "--model", model, "--steps", "2"]
    done = call(app, *given, "-o", str(tmp_path / "run"), "--patches")
    assert done.exit_code == 0, done.output
    assert "sfumato sine" in done.stderr.replace("\n", "")
    custom = [*given, "--custom", "--prior", "0", "-o", str(tmp_path / "custom")]
    assert "learned_embeds.safetensors" in call(app, *custom).stderr.replace("\n", "")
    out = ("-o", str(tmp_path / "no"))
    assert "are two ways to learn" in fails(app, 1, *given, *out, "--patches", "--custom")
    assert "--patches has no class" in fails(app, 1, *given, *out, "--patches", "--prior", "1")
    assert "is not trained with --custom" in fails(app, 1, *given, *out, "--custom", "--text")
    again = [*given[:2], "-o", str(tmp_path / "run"), "--resume", "--patches"]
    assert call(app, *again).exit_code == 0
    assert "--custom is False" in fails(app, 1, *again[:-1], "--custom")
