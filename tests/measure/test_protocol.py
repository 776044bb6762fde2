"""The benchmark of DreamBooth's paper: its layout, its measures by hand, its pictures made once."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import sfumato as sf
from helpers import pipelines
from helpers.clips import clip
from helpers.program import call, fails
from helpers.subjects import recipe, trained
from sfumato.core.errors import SfumatoError
from sfumato.measure import features, protocol
from sfumato.measure.protocol.measures import MEASURES
from sfumato.nn import lora
from sfumato.recipe import Recipe
from sfumato.train import checkpoint
from sfumato.train.subject.class_pictures import pixels

LAYOUT = """Classes

subject_name,class
rex,dog
 mug , tea cup
gone,vase

Prompts

Object Prompts

prompt_list = [
'a {0} {1} in a garden'.format(unique_token, class_token),
"a {0} {1} beside the cook's hat".format(unique_token, class_token),
  'a green {0} {1}'.format( unique_token , class_token )
]

Live Subject Prompts

prompt_list = [
'a {0} {1} asleep'.format(unique_token, class_token),
'a {0} {1} in a garden'.format(unique_token, class_token),
'a green {0} {1}'.format(unique_token, class_token)
]
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two subjects of three photos each; the file names a third one that is not there."""
    folder = tmp_path / "public" / "dataset"
    generator = np.random.default_rng(0)
    for name in ("rex", "mug"):
        (folder / name).mkdir(parents=True)
        for k in range(3):
            blocks = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            photo = PILImage.fromarray(blocks).resize((64, 64), PILImage.Resampling.BILINEAR)
            photo.save(folder / name / f"{k:02d}.png")
    (folder / "prompts_and_classes.txt").write_text(LAYOUT)
    return folder


def test_the_public_layout_is_read(dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    left: list[str] = []
    with caplog.at_level(logging.WARNING, "sfumato"):
        rex, mug = protocol.subjects(dataset, left)
    assert (rex.name, rex.noun, mug.name, mug.noun) == ("rex", "dog", "mug", "tea cup")
    assert rex.prompts("jok") == ["a jok dog asleep", "a jok dog in a garden", "a green jok dog"]
    assert mug.prompts()[1:] == ["a tea cup beside the cook's hat", "a green tea cup"]
    assert left == [f"gone: no such folder in {dataset}"]
    assert [record.getMessage() for record in caplog.records] == [f"{left[0]}; left out"]
    for name in ("..", "../outside"):
        (dataset / "prompts_and_classes.txt").write_text(LAYOUT.replace("gone,", f"{name},"))
        with pytest.raises(SfumatoError, match="is not SUBJECT,CLASS"):
            protocol.subjects(dataset, [])
    (dataset / "prompts_and_classes.txt").write_text(LAYOUT)
    beside = dataset.parent / "prompts_and_classes.txt"
    (dataset / "prompts_and_classes.txt").rename(beside)
    for given in (dataset, dataset.parent):
        assert protocol.subjects(given, []) == [rex, mug]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rex,dog", "rex", "line 4: 'rex' is not SUBJECT,CLASS"),
        ("rex,dog", "../rex,dog", "line 4: '../rex,dog' is not SUBJECT,CLASS"),
        ("Classes\n", "", "no lines SUBJECT,CLASS under a heading Classes"),
        ("Live Subject Prompts", "More Prompts", "no live subject prompts, which rex needs"),
        ("'a {0} {1} asleep'", "'a {0} dog'", "has no prompt with {0} and {1} in quotes"),
        ("'a {0} {1} asleep'", "'a {0.x} {1}'", "has no prompt with {0} and {1} in quotes"),
        ("asleep'", "on the cook's hat'", "has no prompt with {0} and {1} in quotes"),
        ("unique_token", "open('written', 'w')", "has no prompt with {0} and {1} in quotes"),
    ],
)
def test_a_wrong_file_is_one_line_and_nothing_of_it_runs(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (dataset / "prompts_and_classes.txt").write_text(LAYOUT.replace(old, new))
    with pytest.raises(SfumatoError) as error:
        protocol.subjects(dataset, [])
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "written").exists()


def test_what_is_no_layout_is_one_line(app: Any, dataset: Path, tmp_path: Path) -> None:
    begin = ["eval", "--protocol", "dreambooth"]
    runs = ["--runs", str(tmp_path), "-o", str(tmp_path / "out")]
    data = ["--data", str(dataset)]
    wrong = {
        "no such folder": [*begin, *runs, "--data", str(tmp_path / "nowhere")],
        "no prompts_and_classes.txt in it or beside it": [*begin, *runs, "--data", str(tmp_path)],
        "no folder there is a subject": [*begin, *runs, "--data", str(dataset / "rex")],
        "nothing to measure with": [*begin, *runs, *data],
        "give --runs or --generated": [*begin, *data],
        "give -o": [*begin, *data, "--runs", str(tmp_path)],
        "give --data": [*begin, *runs],
        "there is dreambooth": ["eval", "--protocol", "dreambuth"],
        "--dino: needs --protocol dreambooth": ["eval", "--dino", "x"],
        "--scales: is empty": ["eval", "--scales", ""],
        "--features: is empty": ["eval", "--features", ""],
        "--protocol: is empty": ["eval", "--protocol", ""],
        "--dino: is empty": ["eval", "--protocol", "dreambooth", "--dino", ""],
        "--protocol: takes no --styles": ["eval", "--protocol", "dreambooth", "--styles", "ink"],
        "--data: is compared by --features": ["eval", "--data", "x"],
        "takes neither --scales": [*begin, *data, *runs, "--scales", "1"],
        "so n says nothing": [*begin, *data, "--generated", str(tmp_path), "-n", "3"],
    }
    (dataset / "rex" / "prompts_and_classes.txt").write_text(LAYOUT)
    for said, words in wrong.items():
        assert said in fails(app, 1, *words)


def grey(folder: Path, *shades: tuple[int, int, int]) -> list[Path]:
    """Pictures of one colour each."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{k}.png" for k in range(len(shades))]
    for file, shade in zip(files, shades, strict=True):
        PILImage.new("RGB", (8, 8), shade).save(file)
    return files


RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)


def colour(pixels: Tensor) -> Tensor:
    """Features that one can see: the mean colour in [0, 1], (B, 3)."""
    return (pixels.mean((2, 3)) + 1) / 2


def test_the_measures_by_hand(tmp_path: Path) -> None:
    """Unit colours have cosine 1 or 0, yellow 1/sqrt(2) with red and with green."""
    half = 0.5**0.5
    networks = protocol.Networks(
        dino=colour,
        clip=lambda x: colour(x).flip(1),
        text=lambda texts: torch.tensor([[0.0, 0.0, 2.0] if "red" in t else [0.0, 2.0, 0.0]
                                         for t in texts]),
        lpips=lambda x: 3 * colour(x),
    )  # fmt: skip
    photos = [pixels(sf.open_image(f)) for f in grey(tmp_path / "real", RED, RED, GREEN)]
    prompts = [
        ("red", grey(tmp_path / "0", RED, YELLOW, BLUE)),
        ("green", grey(tmp_path / "1", RED, RED, RED)),
    ]
    alone = grey(tmp_path / "class", BLUE, GREEN)
    found, ceilings = protocol.measure_subject(networks, photos, prompts, alone)
    # cosines with red, red, green: red 2/3, yellow half, blue 0; thrice red
    per = [2 / 3, half, 0.0, 2 / 3, 2 / 3, 2 / 3]
    assert found["DINO"].value == pytest.approx(sum(per) / 6, abs=1e-6)
    assert found["DINO"].n == 6
    assert found["DINO"].low < found["DINO"].value < found["DINO"].high
    assert found["CLIP-I"].value == pytest.approx(sum(per) / 6, abs=1e-6)
    # flipped, red's text is red: 1, half, 0; and green's text against red is 0
    assert found["CLIP-T"].value == pytest.approx((1 + half) / 6, abs=1e-6)
    assert found["PRES"].value == pytest.approx((0 + 1 / 3) / 2, abs=1e-6)
    # squared distances, times 9: red yellow 1, red blue 2, yellow blue 3; then none
    assert found["DIV"].value == pytest.approx((9 * (1 + 2 + 3) / 3 + 0) / 2, abs=1e-5)
    assert found["DIV"].n == 2, "one number a prompt"
    assert ceilings == {name: pytest.approx(1 / 3, abs=1e-6) for name in ("DINO", "CLIP-I")}
    few, _ = protocol.measure_subject(protocol.Networks(lpips=colour), photos, [prompts[0]], alone)
    assert set(few) == {"DIV"}, "without their network the others are not measured"


def vit(folder: Path, pooled: bool) -> Any:
    """A small transformer as DINO's, with a picture processor; what is in the folder."""
    from transformers import ViTConfig, ViTModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    config = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                       intermediate_size=16, image_size=32, patch_size=8)  # fmt: skip
    network = pipelines.scrambled(ViTModel(config, add_pooling_layer=pooled), 3)
    network.save_pretrained(folder)
    sides = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size=sides, crop_size=sides).save_pretrained(folder)
    return network


def prepared(folder: Path, pixels: Tensor) -> Tensor:
    from transformers import AutoImageProcessor

    reader: Any = AutoImageProcessor
    shown = list(((pixels + 1) * 127.5).round().byte())
    found: Tensor = reader.from_pretrained(folder)(images=shown, return_tensors="pt")[
        "pixel_values"
    ]
    return found


def test_dino_is_the_class_token_whatever_pools_it(tmp_path: Path) -> None:
    """Of weights without a pooler transformers makes one up, another in every run."""
    pixels = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for pooled in (False, True):
        folder = tmp_path / str(pooled)
        network = vit(folder, pooled)
        with torch.no_grad():
            wanted = network(pixel_values=prepared(folder, pixels))
        token = wanted.last_hidden_state[:, 0]
        torch.testing.assert_close(features.load(folder, token=True)(pixels), token)
        plain = features.load(folder)(pixels)
        torch.testing.assert_close(plain, wanted.pooler_output if pooled else token)


def test_clip_sees_what_its_own_processor_prepares(tmp_path: Path) -> None:
    from transformers import CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = clip(tmp_path / "clip")
    seen, said = features.clip(folder)
    network: Any = CLIPModel.from_pretrained(folder)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}
    )
    pixels = torch.rand(2, 3, 50, 72, generator=torch.Generator().manual_seed(1)) * 2 - 1
    shown = list(((pixels + 1) * 127.5).round().byte())
    given = processor(images=shown, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        wanted = network.visual_projection(network.vision_model(pixel_values=given).pooler_output)
    found = seen(pixels)
    # bilinear: 0.985; a column further to the side: 0.989
    assert float(nn.functional.cosine_similarity(found, wanted).min()) > 0.9995
    assert said(["a dog", "a vase"]).shape == (2, 24)


class Perceptual(nn.Module):
    """Called as StyleGAN's VGG16 is; resized, or without return_lpips, it gives something else."""

    def forward(
        self, pixels: Tensor, resize_images: bool = True, return_lpips: bool = False
    ) -> Tensor:
        if resize_images or not return_lpips:
            return torch.zeros(pixels.shape[0], 1)
        return pixels.flatten(1) / 255


class Blind(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1)


def perceptual(file: Path, network: nn.Module | None = None) -> Path:
    torch.jit.script(network or Perceptual()).save(str(file))
    return file


def test_lpips_is_read_by_the_names_of_its_arguments(tmp_path: Path) -> None:
    look = features.lpips(perceptual(tmp_path / "vgg16.pt"))
    assert look(torch.ones(1, 3, 2, 2)).tolist() == [[1.0] * 12]
    with pytest.raises(SfumatoError, match=r"blind\.pt: its forward takes no return_lpips"):
        features.lpips(perceptual(tmp_path / "blind.pt", Blind()))
    with pytest.raises(SfumatoError, match="no such file"):
        features.lpips(tmp_path / "nowhere.pt")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two steps on a tiny pipeline, for both subjects."""
    root = tmp_path_factory.mktemp("tuned")
    pipelines.stable(root, "sd1")
    PILImage.linear_gradient("L").convert("RGB").resize((32, 32)).save(root / "photo.png")
    (root / "photos").mkdir()
    (root / "photo.png").rename(root / "photos" / "photo.png")
    for name, noun in (("rex", "dog"), ("mug", "tea cup")):
        given = {"noun": noun, "name": "jok", "prior": 0.0, "wording": "a {}"}
        optim = {"steps": 2, "rate": 0.3}
        config = recipe(root / "pipeline", root / "photos", subject=given, optim=optim)
        trained(config, root / "runs" / name)
    return root / "runs"


@pytest.fixture
def words(dataset: Path, tuned: Path, tmp_path: Path) -> list[str]:
    """A command line that measures everything; its DINO has a pooler that is not DINO's."""
    vit(tmp_path / "dino", True)
    clip(tmp_path / "clip")
    perceptual(tmp_path / "vgg16.pt")
    networks = ["--dino", str(tmp_path / "dino"), "--clip", str(tmp_path / "clip")]
    networks += ["--lpips", str(tmp_path / "vgg16.pt")]
    begin = ["eval", "--protocol", "dreambooth", "--data", str(dataset), *networks]
    return [*begin, "--device", "cpu", "--dtype", "float32", "--json", "-q"]


@pytest.fixture
def making(words: list[str], tuned: Path, tmp_path: Path) -> list[str]:
    return [*words, "--runs", str(tuned), "-n", "2", "--steps", "2", "-o", str(tmp_path / "report")]


def test_every_subject_in_every_prompt(
    app: Any, making: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line from the photos to the report, its DINO worked out apart; and once more."""
    calls: list[int] = []
    sample = sf.Process.sample

    def counted(self: sf.Process, seed: int = 0, **given: Any) -> Any:
        calls.append(seed)
        return sample(self, seed, **given)

    monkeypatch.setattr(sf.Process, "sample", counted)
    done = call(app, *making)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    folder = tmp_path / "report"
    assert report == json.loads((folder / "report.json").read_text())
    assert calls == 2 * [0, 1000, 2000, 3000, 4000, 5000, 6000], "3 prompts, 4 of the class"
    rex, _ = report["subjects"]
    assert rex["seeds"] == calls[:7]
    assert rex["prompts"] == ["a jok dog asleep", "a jok dog in a garden", "a green jok dog"]
    assert rex["CLIP reads"] == ["a dog asleep", "a dog in a garden", "a green dog"]
    assert rex["class prompt"] == "a dog"
    assert report["networks"] == {"dino": "dino", "clip": "clip", "lpips": "vgg16.pt"}
    assert set(report["mean"]) == set(MEASURES)
    assert report["left out"] == [f"gone: no such folder in {tmp_path / 'public' / 'dataset'}"]
    for name, mean in report["mean"].items():
        values = [one["measures"][name]["value"] for one in report["subjects"]]
        assert mean["value"] == pytest.approx(sum(values) / 2)
        assert mean["n"] == 2
    made = sorted(folder.glob("rex/[0-9]*/*.png"))
    assert [str(f.relative_to(folder)) for f in made[:3]] == [
        "rex/00/0.png", "rex/00/1.png", "rex/01/0.png",
    ]  # fmt: skip
    assert len(list(folder.glob("rex/class/*.png"))) == 8
    seen = unit_tokens(tmp_path / "dino", made)
    real = unit_tokens(tmp_path / "dino", sorted((tmp_path / "public/dataset/rex").iterdir()))
    assert rex["measures"]["DINO"]["value"] == pytest.approx(
        float((seen @ real.T).mean()), abs=1e-5
    )
    between = [float(real[a] @ real[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert rex["real"]["DINO"] == pytest.approx(sum(between) / 3, abs=1e-5)
    first, second = (np.asarray(PILImage.open(f), dtype=np.float64) / 255 for f in made[:2])
    gaps = [np.square(first - second).sum()]
    for k in (2, 4):
        a, b = (np.asarray(PILImage.open(f), dtype=np.float64) / 255 for f in made[k : k + 2])
        gaps.append(np.square(a - b).sum())
    assert rex["measures"]["DIV"]["value"] == pytest.approx(np.mean(gaps), rel=1e-4)
    shown = (folder / "report.txt").read_text()
    assert f"{report['mean']['DINO']['value']:.3f} [" in shown
    assert "left out: gone" in shown
    assert "CLIP-T is of the prompts without" in shown

    calls.clear()
    whole, damaged, beside = made[2].read_bytes(), made[2], made[3].stat().st_mtime_ns
    assert json.loads(call(app, *making).stdout) == report
    assert calls == [], "nothing is made anew"
    damaged.write_bytes(whole[: len(whole) // 2])
    made[5].unlink()
    assert json.loads(call(app, *making).stdout) == report
    assert calls == [1000, 2000]
    assert damaged.read_bytes() == whole
    assert made[3].stat().st_mtime_ns == beside, "of the same prompt, and not damaged"
    assert "was made with another" in fails(app, 1, *making, "--seed", "1")
    assert damaged.read_bytes() == whole

    elsewhere = making[: making.index("--runs")]
    again = json.loads(call(app, *elsewhere, "--generated", str(folder)).stdout)
    assert again["mean"] == report["mean"]
    assert again["real"] == report["real"]


def unit_tokens(folder: Path, files: list[Path]) -> Tensor:
    """Class tokens of transformers' own network, of unit length."""
    from transformers import ViTModel

    network: Any = ViTModel.from_pretrained(folder, add_pooling_layer=False)
    shown = [torch.from_numpy(np.array(PILImage.open(f))).permute(2, 0, 1) for f in files]
    with torch.no_grad():
        parts = [network(pixel_values=prepared(folder, p.float()[None] / 127.5 - 1))
                 .last_hidden_state[:, 0] for p in shown]  # fmt: skip
    tokens = torch.cat(parts)
    return tokens / tokens.norm(dim=1, keepdim=True)


def test_the_pictures_are_those_of_the_tuned_model(
    app: Any, making: list[str], tuned: Path, tmp_path: Path
) -> None:
    """As `generate --adapt` makes them; a run trained anew does not pass for the old one."""
    assert call(app, *making).exit_code == 0
    file = tmp_path / "report" / "rex" / "01" / "1.png"
    base = sf.load(str(tuned.parent / "pipeline"), device="cpu", dtype="float32")
    wanted: Any = base.adapt(tuned / "rex").process("a jok dog in a garden", n=2, steps=2)
    assert np.array_equal(
        np.asarray(wanted.sample(1000).images[1]), np.asarray(PILImage.open(file))
    )
    plain: Any = base.process("a jok dog in a garden", n=2, steps=2)
    untouched = np.asarray(plain.sample(1000).images[1])
    assert not np.array_equal(untouched, np.asarray(PILImage.open(file)))
    other = tmp_path / "other"
    other.mkdir()
    (other / "rex").symlink_to(tuned / "mug")
    assert "rex/00/0.png: was made with another" in fails(app, 1, *making, "--runs", str(other))


def test_whole_networks_and_learned_words(
    app: Any, words: list[str], tuned: Path, dataset: Path, tmp_path: Path
) -> None:
    """The other two kinds of runs; a network changed since is noticed by its weights."""
    pipeline, runs = tuned.parent / "pipeline", tmp_path / "runs"
    (runs / "rex").mkdir(parents=True)
    shutil.copytree(pipeline, runs / "rex" / "model")
    note = {"name": "jok", "noun": "dog", "model": str(pipeline), "prompt": "a jok dog"}
    (runs / "rex" / "run.json").write_text(json.dumps(note))
    (runs / "mug").mkdir()
    (runs / "mug" / "run.json").write_text('{"name": "<mug>", "noun": "tea cup"}')
    vector = torch.randn(1, 32, generator=torch.Generator().manual_seed(5))
    save_file({"<mug>": vector}, runs / "mug" / "learned_embeds.safetensors")
    given = [*words, "--runs", str(runs), "--model", str(pipeline), "-n", "1", "--steps", "1"]
    done = call(app, *given, "-o", str(tmp_path / "report"))
    assert done.exit_code == 0, done.output
    rex, mug = json.loads(done.stdout)["subjects"]
    assert rex["model"] == str(runs / "rex" / "model")
    assert rex["adapters"] == []
    assert mug["adapters"][0]["file"] == "learned_embeds.safetensors"
    assert mug["prompts"][2] == "a green <mug> tea cup"
    assert mug["class prompt"] == "a tea cup"
    model = sf.load(str(pipeline), device="cpu", dtype="float32").adapt(runs / "mug")
    wanted: Any = model.process("a green <mug> tea cup", steps=1).sample(2000)
    file = tmp_path / "report" / "mug" / "02" / "0.png"
    assert np.array_equal(np.asarray(wanted.images[0]), np.asarray(PILImage.open(file)))
    weights = next((runs / "rex" / "model" / "unet").glob("*.safetensors"))
    tensors = load_file(weights)
    tensors["conv_in.bias"] += 1
    save_file(tensors, weights, {"format": "pt"})
    said = fails(app, 1, *given, "-o", str(tmp_path / "report"))
    assert "rex/00/0.png: was made with another" in said


def test_what_is_missing_is_said(
    app: Any, words: list[str], tuned: Path, dataset: Path, tmp_path: Path
) -> None:
    """Runs, networks, pictures, photos: the rest is measured."""
    folder = tmp_path / "made"
    shades = [RED, GREEN]
    grey(folder / "rex" / "0", *shades)
    grey(folder / "rex" / "02", *shades)[1].write_bytes(b"cut")
    (folder / "mug").mkdir()
    for file in (dataset / "mug").iterdir():
        file.unlink()
    cut = words.index("--clip")
    less = [*words[:cut], *words[words.index("--lpips") :]]
    done = call(app, *less, "--generated", str(folder))
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    (rex,) = report["subjects"]
    assert rex["pictures"] == 3
    assert set(rex["measures"]) == {"DINO", "DIV"}
    assert rex["measures"]["DIV"] == {"value": 128.0, "low": 128.0, "high": 128.0, "n": 1}
    assert rex["CLIP reads"] == ["a dog asleep", "a green dog"]
    said = "\n".join(report["left out"])
    for line in ("gone: no such folder", "no picture there that can be read", "1.png",
                 "no pictures of 1 of the 3 prompts", "no pictures of the class alone",
                 "CLIP-I: no --clip", "CLIP-T: no --clip", "PRES: no pictures enough"):  # fmt: skip
        assert line in said
    assert "DIV: " not in said
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "rex").symlink_to(tuned / "rex")
    few = [*less, "-n", "1", "--steps", "1", "-o", str(tmp_path / "few"), "--runs"]
    report = json.loads(call(app, *few, str(runs)).stdout)
    assert [one["name"] for one in report["subjects"]] == ["rex"]
    assert "DIV: no pictures enough" in report["left out"]
    said = fails(app, 1, *few, str(tmp_path / "nothing"))
    assert "no subject could be measured" in said
    assert "rex: no " in said
    (runs / "rex").unlink()
    (runs / "rex").mkdir()
    (runs / "rex" / "run.json").write_text("{}")
    assert "run.json: names no subject" in fails(app, 1, *few, str(runs))
    (runs / "rex" / "run.json").write_text('{"name": "<rex>", "noun": "dog"}')
    assert "run.json: names no model; give --model" in fails(app, 1, *few, str(runs))


@pytest.mark.slow
def test_the_bundled_model_is_measured_too(
    app: Any, dataset: Path, words: list[str], tmp_path: Path
) -> None:
    """An adapter of the base with arbitrary numbers; the class is said as in training."""
    model = sf.load("emoji", device="cpu", dtype="float32")
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    network: Any = model.denoiser.network
    for name, layer in lora.layers(network, ["attention"]).items():
        weight: Any = layer.weight
        tensors[f"{name}.down"] = torch.randn(2, weight[0].numel(), generator=generator) * 0.05
        tensors[f"{name}.up"] = torch.randn(len(weight), 2, generator=generator) * 0.05
    run = tmp_path / "runs" / "rex"
    run.mkdir(parents=True)
    checkpoint.write(run / "adapter.safetensors", tensors, {"alpha": 2.0, "rank": 2})
    note = {"name": "jok", "noun": "bear", "model": "emoji", "prompt": "jok bear, 3d render"}
    (run / "run.json").write_text(json.dumps(note))
    layout = LAYOUT.replace("'a {0} {1} asleep'", "'{0} {1} asleep'").replace("mug ", "cup ")
    lines = layout.splitlines()
    live = lines.index("Live Subject Prompts")
    short = [*lines[: live + 4], "]"]  # one prompt
    (dataset / "prompts_and_classes.txt").write_text("\n".join(short))
    given = [*words, "--runs", str(run.parent), "-n", "1", "--steps", "2"]
    done = call(app, *given, "-o", str(tmp_path / "report"))
    assert done.exit_code == 0, done.output
    (rex,) = json.loads(done.stdout)["subjects"]
    assert rex["class prompt"] == "dog, 3d render"
    assert rex["adapters"][0]["file"] == "adapter.safetensors"
    picture = PILImage.open(tmp_path / "report" / "rex" / "00" / "0.png")
    assert picture.size == (256, 256)
    kept = Recipe.from_json(picture.text["sfumato"])  # type: ignore[attr-defined]
    assert kept.prompt == "jok dog asleep, 3d render"
    assert (kept.seed, kept.steps) == (0, 2)
