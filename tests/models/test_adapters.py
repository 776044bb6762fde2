"""Low-rank adapters and the networks beside a model's denoisers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as PILImage
from safetensors.torch import save_file
from typer.testing import CliRunner

import sfumato as sf
from helpers.adapters import arbitrary
from sfumato.core.errors import SfumatoError
from sfumato.images import ImageInput
from sfumato.models.loaders.library import BUNDLED
from sfumato.models.replay import compose
from sfumato.nn import lora
from sfumato.nn.classifier import Classifier
from sfumato.nn.clip import CLIPConfig, NoisedCLIP
from sfumato.nn.unet import UNet, UNetConfig
from sfumato.recipe import Recipe
from sfumato.recipe.places import called
from sfumato.recipe.store import encoded
from sfumato.train import checkpoint

SMALL = UNetConfig(
    model_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_resolutions=(2,),
    num_head_channels=32,
    use_scale_shift_norm=True,
)


def net() -> UNet:
    torch.manual_seed(0)
    made = UNet(SMALL)
    for parameter in made.parameters():  # layers that start at zero would hide what is before them
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return made


def test_a_fresh_adapter_changes_nothing_and_trains_nothing_else() -> None:
    made, x, time = net(), torch.randn(2, 3, 16, 16), torch.tensor([3.0, 700.0])
    before = made(x, time, {}).detach()
    parameters = lora.attach(made, 2, 2.0, ["attention", "conv"])
    torch.testing.assert_close(made(x, time, {}), before)
    made(x, time, {}).square().sum().backward()
    trained = {id(p) for p in parameters.values()}
    moved = [p for p in made.parameters() if p.grad is not None]
    assert {id(p) for p in moved} <= trained
    assert any(p.grad.any() for p in moved if p.grad is not None)


def test_merging_gives_what_the_attached_adapter_gives() -> None:
    """And touches no weight that the adapter does not name."""
    made, x, time = net(), torch.randn(2, 3, 16, 16), torch.tensor([3.0, 700.0])
    plain = {name: value.clone() for name, value in made.state_dict().items()}
    parameters = lora.attach(made, 2, 3.0, ["attention", "conv"])
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.normal_(std=0.1)
        expected = made(x, time, {})
    merged = lora.merged(plain, {k: v.detach() for k, v in parameters.items()}, 3.0 / 2)
    other = UNet(SMALL)
    other.load_state_dict(merged)
    with torch.no_grad():
        torch.testing.assert_close(other(x, time, {}), expected, rtol=1e-4, atol=1e-5)
    touched = {f"{name.removesuffix('.down')}.weight" for name in parameters if "down" in name}
    assert all((merged[name] is plain[name]) == (name not in touched) for name in plain)


def test_what_cannot_be_an_adapter_of_this_network_is_said() -> None:
    with pytest.raises(SfumatoError, match="no layer ends in nothing"):
        lora.attach(net(), 2, 2.0, ["nothing"])
    with pytest.raises(SfumatoError, match="rank 0"):
        lora.attach(net(), 0, 2.0, ["attention"])
    stray = {"somewhere.down": torch.zeros(2, 4), "somewhere.up": torch.zeros(4, 2)}
    with pytest.raises(SfumatoError, match=r"1 of its 1 layers.*another model"):
        lora.merged(net().state_dict(), stray, 1.0)
    wrong = {"input_blocks.1.0.in_layers.2.down": torch.zeros(2, 5)}
    wrong |= {"input_blocks.1.0.in_layers.2.up": torch.zeros(32, 2)}
    with pytest.raises(SfumatoError, match="other sizes"):
        lora.merged(net().state_dict(), wrong, 1.0)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """Of the bundled base, with arbitrary numbers."""
    return arbitrary(tmp_path / "mine.safetensors")


def test_an_adapted_model_shares_the_rest_and_records_its_adapter(adapter: Path) -> None:
    model = sf.load("emoji", dtype="float32")
    adapted = model.adapt(adapter, 0.5)
    before: Any = model.denoiser.network
    after: Any = adapted.denoiser.network
    assert after.out[2].weight.data_ptr() == before.out[2].weight.data_ptr()
    plain, made, same = (
        m.process("red apple", steps=3, stages=1).sample(seed=1)
        for m in (model, adapted, model.adapt(adapter, 0.0))
    )
    assert list(made.images[0].get_flattened_data()) != list(plain.images[0].getdata())
    assert list(same.images[0].get_flattened_data()) == list(plain.images[0].getdata())
    (entry,) = made.recipe.adapters
    assert (entry["file"], entry["scale"]) == ("mine.safetensors", 0.5)
    assert plain.recipe.adapters == ()


def test_a_picture_of_an_adapted_model_is_made_again(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = sf.load("emoji", dtype="float32").adapt(adapter)
    picture = model.process("red apple", steps=3, stages=1).sample(seed=1).images[0]
    path = picture.save(tmp_path / "apple.png")
    again = sf.run(tmp_path / "apple.png").images[0]
    assert list(again.get_flattened_data()) == list(picture.getdata()), path
    adapter.unlink()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SfumatoError, match=r"adapter mine\.safetensors: not found"):
        sf.run(tmp_path / "apple.png")


def test_a_recipe_names_weights_without_their_folders(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: Any
) -> None:
    """Of a model and of a method; they are found where they were, or beside the recipe."""
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    folder = tmp_path / "private" / "mine"
    shutil.copytree(BUNDLED["emoji"], folder)
    model = sf.load(str(folder), dtype="float32")
    photo = PILImage.new("RGB", (32, 32), "salmon")
    process = model.process("rose", steps=2, stages=1)
    process = process | sf.DiffStyler(photo, art=str(adapter), t_start=0.5)
    picture: Any = process.sample(seed=1).images[0]
    text = picture.recipe.to_json()
    assert (picture.recipe.model, picture.recipe.methods[0]["art"]) == ("mine", adapter.name)
    assert str(tmp_path) not in text
    (tmp_path / "sent" / "none").mkdir(parents=True)
    given = ImageInput.of(photo)
    entry: Any = {"method": "diffstyler", "art": "none"}
    entry["image"] = {"sha256": given.sha256, "name": "photo.png"}
    sent = Recipe("mine", methods=(entry,), embedded={given.sha256: encoded(given.data)})
    (made,) = compose(sent, model, [tmp_path / "sent"]).methods
    assert getattr(made, "art") == "none", "a word there, whatever lies beside"  # noqa: B009
    (tmp_path / "linked.safetensors").symlink_to(adapter)
    assert called(str(tmp_path / "linked.safetensors")) == "linked.safetensors"

    path = tmp_path / "sent" / "rose.png"
    picture.save(path)
    assert list(sf.run(path).images[0].get_flattened_data()) == list(picture.getdata())
    plan = CliRunner().invoke(app, ["generate", "--recipe", str(path), "--plan"])
    assert plan.exit_code == 0, plan.output
    adapter.rename(tmp_path / "sent" / adapter.name)
    assert list(sf.run(path).images[0].get_flattened_data()) == list(picture.getdata())
    (tmp_path / "sent" / adapter.name).unlink()
    with pytest.raises(SfumatoError, match=r"mine\.safetensors"):
        sf.run(path)
    folder.rename(tmp_path / "moved")
    with pytest.raises(SfumatoError, match="model 'mine'"):
        sf.run(path)


def test_files_that_are_no_adapters_are_refused(tmp_path: Path) -> None:
    model = sf.load("emoji", dtype="float32")
    with pytest.raises(SfumatoError, match="no such file"):
        model.adapt(tmp_path / "gone.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(SfumatoError, match="not one that sfumato trained"):
        model.adapt(tmp_path / "other.safetensors")


def test_a_folder_brings_clip_and_classifier(tmp_path: Path) -> None:
    """What the trainer exports is what the model loads, with unit vectors and probabilities."""
    from dataclasses import asdict

    source = Path(str(sf.load("emoji").folder))
    for file in source.iterdir():
        (tmp_path / file.name).symlink_to(file)
    card = json.loads((source / "card.json").read_text())
    config = CLIPConfig(32, 16, 32, 4, 32, 1, 32, 1, 24, 4608, 1000, 10.0)
    clip, classes = NoisedCLIP(config), {"style": ["flat", "ink"], "group": ["a", "b", "c"]}
    network = UNetConfig(**{**asdict(SMALL), "out_channels": 5})
    classifier = Classifier(network, 32)
    for name, made in (("clip", clip), ("classifier", classifier)):
        names = checkpoint.write_shards(
            tmp_path, name, {k: v.half() for k, v in made.state_dict().items()}
        )
        card[name] = {"weights": names, "tokenizer": "tokenizer.json"}
    card["clip"] |= {"network": asdict(config), "schedule": "squaredcos_cap_v2"}
    card["classifier"] |= {"network": asdict(network), "size": 32, "pool": "attention"}
    card["classifier"] |= {"classes": classes}
    (tmp_path / "card.json").unlink()
    (tmp_path / "card.json").write_text(json.dumps(card))
    model = sf.load(str(tmp_path), dtype="float32")
    text = model.clip().text(["red apple", "a blue thing"])
    image = model.clip().image(torch.randn(2, 3, 32, 32), torch.tensor([0, 500]))
    for vectors in (text, image):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    assert model.clip() is model.clip()
    found = model.classifier().log_probabilities(torch.randn(2, 3, 32, 32), torch.zeros(2))
    assert {name: part.shape[1] for name, part in found.items()} == {"style": 2, "group": 3}
    for part in found.values():
        torch.testing.assert_close(part.exp().sum(1), torch.ones(2))


def test_a_model_without_them_says_so_by_none() -> None:
    model = sf.load("emoji")
    assert (model.clip() is None) == (model.card.clip is None)
    assert (model.classifier() is None) == (model.card.classifier is None)
    bare = replace(model, card=replace(model.card, clip=None, classifier=None), memo={})
    assert bare.clip() is None
    assert bare.classifier() is None
