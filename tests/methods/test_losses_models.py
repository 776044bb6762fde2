"""Losses with real files and models: features, heads, latents, the bundled model."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import sfumato as sf
from helpers import pipelines
from helpers.adapters import of_a_style
from helpers.losses import last
from sfumato.core.errors import SfumatoError
from sfumato.models import recorded, replay
from sfumato.nn.unet import UNet, UNetConfig
from sfumato.nn.vgg import VGG19


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("SFUMATO_HOME", str(folder))
    return folder


@pytest.fixture(scope="module")
def model() -> sf.Model:
    return sf.load("emoji", dtype="float32")


def vgg(file: Path) -> Path:
    """A narrow VGG19 as torchvision saves it, classifier included."""
    torch.manual_seed(3)
    weights = VGG19((4,) * 16).state_dict()
    torch.save({**weights, "classifier.0.weight": torch.zeros(2, 2)}, file)
    return file


def origin(file: Path) -> dict[str, str]:
    """What a recipe's run says of a file."""
    return {"name": file.name, "sha256": sha256(file.read_bytes()).hexdigest()}


def test_weights_that_a_method_brought_are_compared_on_replay(
    model: sf.Model, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, photo = vgg(home / "narrow.pth"), np.zeros((32, 32, 3), np.uint8)
    loss = sf.Perceptual(1.0, image=photo, features=str(file))
    recipe = (model.process("cat", stages=1, steps=1) | loss).sample().recipe
    assert recipe.run["weights"] == {"perceptual.features": origin(file)}
    replay.run(recipe)
    assert "differ" not in caplog.text
    torch.save({**torch.load(file), "classifier.0.bias": torch.zeros(2)}, file)
    replay.run(recipe)
    lines = [one.message for one in caplog.records if "differ" in one.message]
    assert lines == [
        "weights narrow.pth of perceptual.features differ from those recorded: another picture is "
        "likely"
    ]
    broken = replace(recipe, run={**recipe.run, "weights": {"perceptual.features": 3}})
    with pytest.raises(SfumatoError, match=r"recipe: run"):
        replay.run(broken)


def test_a_clips_digest_is_of_its_files(model: sf.Model) -> None:
    clip = model.clip()
    assert clip is not None
    assert clip.origin is not None
    assert len(clip.origin.sha256) == 64


def test_a_style_that_an_earlier_recipe_recorded_is_still_compared(
    model: sf.Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    art = model.second("", str(of_a_style(tmp_path)))
    assert art is not None
    earlier = {"weights": art.weights, "adapters": [one["sha256"] for one in art.adapters]}
    used = {"diffstyler.art": {"name": art.origin.name, "sha256": art.origin.sha256}}
    recorded.compare_method_weights({"art": earlier}, {"weights": used})
    assert not caplog.records
    recorded.compare_method_weights({"art": {**earlier, "weights": "0"}}, {"weights": used})
    assert "diffstyler.art differ from those recorded" in caplog.text


def test_features_come_from_a_users_file_first(model: sf.Model, home: Path) -> None:
    assert model.features().name == "denoiser"
    file = vgg(home / "vgg19-small.pth")
    found = model.features()
    assert found.name == "vgg19-small.pth"
    assert model.features("model").name == "denoiser"
    maps = found(torch.zeros(1, 3, 32, 32))
    assert maps["relu2_1"].shape == (1, 4, 16, 16)
    assert list(maps) == ["relu1_1", "relu1_2", "relu2_1"], "nothing behind it is computed"
    result = (model.process("cat", stages=1, steps=1) | sf.TotalVariation(1.0)).sample()
    assert "weights" not in result.recipe.run
    photo = np.zeros((32, 32, 3), np.uint8)
    made = model.process("cat", stages=1, steps=1) | sf.Perceptual(1.0, image=photo)
    assert made.sample().recipe.run["weights"] == {"perceptual.features": origin(file)}
    torch.save({"features.0.weight": torch.zeros(4, 3, 3, 3)}, home / "other.pth")
    with pytest.raises(
        SfumatoError, match=r"other\.pth: no weights of VGG19, it has no features\."
    ):
        model.features(str(home / "other.pth"))


def test_the_way_down_is_that_of_the_network() -> None:
    net = UNet(UNetConfig(model_channels=32, channel_mult=(1, 2), num_res_blocks=1, out_channels=3))
    seen: list[Tensor] = []
    for entry in net.input_blocks:
        list(entry.children())[-1].register_forward_hook(lambda m, i, o: seen.append(o))
    x, time = torch.randn(2, 3, 8, 8), torch.tensor([7.0, 700.0])
    net(x, time, {})
    expected, seen = list(seen), []
    walk = net.encoding(x, time, {})
    assert [name for name, _ in walk] == [f"input_blocks.{k}" for k in range(4)]
    for (_, found), wanted in zip(net.encoding(x, time, {}), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_heads_are_told_apart_by_their_keys(home: Path, model: sf.Model) -> None:
    width = model.clip().text(["a"]).shape[1]
    vectors = F.normalize(torch.randn(3, width), dim=1)
    weight, bias = torch.randn(1, width), torch.tensor([4.0])
    torch.save({"weight": weight, "bias": bias}, home / "ava.pth")
    torch.save({"linear.weight": weight, "linear.bias": bias}, home / "sac.pth")
    torch.save({"weight": weight[:, :7], "bias": bias}, home / "narrow.pth")
    torch.save({"gain": bias}, home / "none.pth")
    ava, sac = (model.rating(str(home / f"{name}.pth")) for name in ("ava", "sac"))
    torch.testing.assert_close(ava(vectors), (vectors @ weight.T)[:, 0] + 4)
    torch.testing.assert_close(sac(vectors), (vectors @ weight.T)[:, 0] * width**0.5 + 4)
    with pytest.raises(SfumatoError, match="no head here"):
        (model.process("cat", stages=1, steps=1) | sf.Aesthetic(1.0)).sample()
    (home / "sac.pth").rename(home / "sac_public.pth")
    model.memo.pop(("rating", None))
    made = (model.process("cat", stages=1, steps=1) | sf.Aesthetic(1.0)).sample()
    used = made.recipe.run["weights"]
    assert used["aesthetic.head"] == origin(home / "sac_public.pth"), "it is found by itself"
    assert len(used["aesthetic.clip"]["sha256"]) == 64
    for name, said in (
        ("narrow", f"reads vectors of width 7, this CLIP gives {width}; give clip"),
        ("none", r"none\.pth: no head of ratings"),
        ("lost", r"lost\.pth: no such file"),
    ):
        made = model.process("cat", stages=1, steps=1)
        with pytest.raises(SfumatoError, match=said):
            (made | sf.Aesthetic(1.0, head=str(home / f"{name}.pth"))).sample()


def disc(size: int = 32) -> Any:
    """A red disc on white, as a picture."""
    axis = np.linspace(-1, 1, size)
    inside = (axis[:, None] ** 2 + axis[None] ** 2) < 0.5
    pixels = np.full((size, size, 3), 255, np.uint8)
    pixels[inside] = (200, 30, 30)
    return pixels


def test_results_say_what_guides_cost(model: sf.Model, home: Path) -> None:
    made = model.process("red apple, ink drawing", steps=3) | sf.SDEdit(disc(), t0=0.5)
    made = made | sf.Instruction(100.0) | sf.Perceptual(3.0) | sf.Gradient(0.2)
    result = made.sample(seed=1)
    wanted = {"features": 4, "clip": 3, "backward": 3}
    assert dict(result.evaluations) == wanted == result.recipe.run["evaluations"]
    assert "4 features" in repr(result)
    assert set(result.scores) == {"instruction", "perceptual"}
    again = sf.run(result.save(home / "apple.png")[0])
    assert np.array_equal(np.asarray(again.images[0]), np.asarray(result.images[0]))


def test_masks_of_pictures_must_fit(model: sf.Model, home: Path) -> None:
    made = model.process("cat", stages=1, steps=1) | sf.SDEdit(disc(), t0=0.5)
    small = PIL.Image.new("L", (16, 16), 255)
    with pytest.raises(SfumatoError, match="is 16x16, the picture is 32x32"):
        (made | sf.TotalVariation(1.0, mask=small)).sample()
    with pytest.raises(SfumatoError, match="is 40x40, the picture that is made is not"):
        (made | sf.LowPass(1.0, image=disc(40))).sample()
    half = PIL.Image.new("L", (32, 32), 0)
    half.paste(255, (0, 0, 16, 32))
    plain = np.asarray(made.sample().images[0]).astype(int)
    method = sf.TotalVariation(300.0, mask=half, through="prediction")
    moved = abs(np.asarray((made | method).sample().images[0]).astype(int) - plain).max(2)
    assert moved[:, :16].max() > 0
    assert moved[:, 16:].max() == 0


def test_losses_see_latents_through_the_decoder(tmp_path: Path, home: Path) -> None:
    pipelines.stable(tmp_path, "sd1")
    latent = sf.load(str(tmp_path / "pipeline"), dtype="float32")
    made = latent.process("red cat", steps=3) | sf.CFG(1) | sf.SDEdit(disc(), t0=0.6)
    with pytest.raises(SfumatoError, match="perceptual: this model lends no features"):
        (made | sf.Perceptual(1.0)).sample()
    with pytest.raises(SfumatoError, match="low_pass: no tiny autoencoder"):
        (made | sf.LowPass(1.0, decoder="tiny")).sample()
    vgg(home / "vgg19.pth")
    for loss in (sf.LowPass(factor=2), sf.Perceptual(layers="relu1_2")):
        found = []
        for weight in (1e-6, 200.0):
            *_, step = (made | replace(loss, weight=weight)).steps(seed=1)
            found.append(-float(step.scores[loss.id]) / weight)
        assert found[0] > found[1], loss.id


@pytest.mark.slow
@pytest.mark.parametrize("through", ["network", "prediction"])
@pytest.mark.parametrize(
    ("loss", "weights"),
    [
        (sf.Instruction(prompt="ink drawing"), (1e-6, 100.0, 1000.0)),
        (sf.Perceptual(), (1e-6, 10.0, 60.0)),
        (sf.PatchNCE(), (1e-6, 10.0, 60.0)),
        (sf.LowPass(), (1e-6, 30.0, 300.0)),
        (sf.TotalVariation(), (1e-6, 30.0, 300.0)),
    ],
    ids=lambda value: getattr(value, "id", ""),
)
def test_a_larger_weight_is_a_smaller_loss(
    loss: Any, weights: Any, through: Any, model: sf.Model, home: Path
) -> None:
    """Mean of four seeds on the bundled model."""
    base = model.process("hamburger, flat", stages=1, steps=10, n=4) | sf.SDEdit(disc(), t0=0.6)
    means = []
    for weight in weights:
        result = (base | replace(loss, weight=weight, through=through)).sample(seed=1)
        means.append(-np.mean(result.scores[loss.id]) / weight)
    assert means[0] > means[1] > means[2]


@pytest.mark.slow
def test_a_larger_weight_is_a_better_rating(model: sf.Model, home: Path) -> None:
    width = model.clip().text(["a"]).shape[1]
    generator = torch.Generator().manual_seed(1)
    head = {"weight": torch.randn(1, width, generator=generator), "bias": torch.zeros(1)}
    torch.save(head, home / "head.pth")
    side = model.card.native[0]
    base = model.process("hamburger, flat", stages=1, steps=10, n=4) | sf.SDEdit(disc(side), t0=0.6)
    clip, rate = model.clip(), model.rating(str(home / "head.pth"))
    ratings = []
    for weight in (0, 3.0, 30.0):
        step = last(base | sf.Aesthetic(weight, head=str(home / "head.pth")), seed=1)
        ratings.append(float(rate(clip.image(step.x, torch.zeros(4).long())).mean()))
    assert ratings[0] < ratings[1] < ratings[2]
