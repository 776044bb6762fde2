"""Training by what nobody should write: recipes, captions, run folders, options."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.program import fails
from helpers.subjects import OPTIONS
from helpers.training import RECIPE, config, data, trained
from sfumato.cli.training_recipe import tables
from sfumato.core.errors import SfumatoError
from sfumato.measure.sweep import OWNED
from sfumato.models.batch import read_rows
from sfumato.train import checkpoint, origin, program, report, run_folder
from sfumato.train.config import parse
from sfumato.train.data import store
from sfumato.train.data.compose import Mix
from sfumato.train.optim import Weights
from sfumato.train.subject.shots import read_shots
from sfumato.train.weighting import MinSNR

__all__ = ["data"]  # a fixture

RECIPES: list[tuple[dict[str, Any], str]] = [
    ({"optim": {"steps": 0}}, "optim.steps = 0"),
    ({"optim": {"steps": -4}}, "optim.steps = -4"),
    ({"optim": {"steps": True}}, "optim.steps = True"),
    ({"optim": {"steps": "9"}}, "optim.steps = '9'"),
    ({"optim": {"steps": 10**400}}, "optim.steps"),
    ({"optim": {"rate": math.nan}}, "optim.rate = nan"),
    ({"optim": {"rate": 0}}, "optim.rate = 0"),
    ({"optim": {"rate": -1e-3}}, "optim.rate = -0.001"),
    ({"optim": {"ema": 2}}, "optim.ema = 2"),
    ({"optim": {"ema": 1}}, "optim.ema = 1"),
    ({"optim": {"clip": 0}}, "optim.clip = 0"),
    ({"optim": {"clip": math.inf}}, "optim.clip = inf"),
    ({"optim": {"betas": [0.9]}}, "optim.betas"),
    ({"optim": {"betas": [0.9, 1.0]}}, "optim.betas.1 = 1.0"),
    ({"optim": {"warmup": -1}}, "optim.warmup = -1"),
    ({"optim": {"dtype": "float16"}}, "optim.dtype = 'float16'"),
    ({"optim": {"dtype": "nonsense"}}, "'auto', 'float32' or 'bfloat16'"),
    ({"optim": {"optimizer": "sgd"}}, "optim.optimizer = 'sgd'"),
    ({"optim": 3}, "optim = 3"),
    ({"run": {"log": 0}}, "run.log = 0"),
    ({"run": {"grid": 0}}, "run.grid = 0"),
    ({"run": {"judge": -1}}, "run.judge = -1"),
    ({"run": {"seed": -1}}, "run.seed = -1"),
    ({"run": {"prompts": "a cat"}}, "run.prompts = 'a cat'"),
    ({"model": {"kind": "evil"}}, "model.kind = 'evil'"),
    ({"model": {"schedule": "evil"}}, "known are linear"),
    ({"model": {"vocabulary": 0}}, "model.vocabulary = 0"),
    ({"model": {"table": 0}}, "model.table = 0"),
    ({"model": {"factor": 0}}, "model.factor = 0"),
    ({"model": {"factor": 5}}, "must be multiples of it"),
    ({"data": {"size": -32}}, "data.size = -32"),
    ({"data": {"size": 16, "crop": 64}}, "at most data.size"),
    ({"data": {"judged": "evil"}}, "known are fluent"),
    ({"data": {"split": "evil"}}, "data.split = 'evil'"),
    ({"mix": {"hue": 2}}, "mix.hue = 2"),
    ({"mix": {"pair": 0.8, "small": 0.8}}, "more than 1 together"),
    ({"mix": {"styles": {"ink": -1}}}, "= -1"),
    ({"mix": {"styles": {"ink": 0}}}, "all weights are 0"),
    ({"wording": {"empty": -0.5}}, "wording.empty = -0.5"),
    ({"adapter": {"rank": -2}}, "adapter.rank = -2"),
    ({"adapter": {"alpha": 0}}, "adapter.alpha = 0"),
    ({"adapter": {"targets": []}}, "adapter.targets"),
    ({"subject": {"prior": -1}}, "subject.prior = -1"),
    ({"subject": {"class_pictures": -4}}, "subject.class_pictures = -4"),
    ({"subject": {"vectors": 0}}, "subject.vectors = 0"),
    ({"subject": {"wording": "{0} {}"}}, "subject.wording"),
    ({"subject": {"name": "../x"}}, "subject.name"),
    ({"objective": {"vb": 1.0}}, "set model.learned_range"),
    ({"objective": {"norm": "l3"}}, "objective.norm = 'l3'"),
    ({"objective": {"times": {"name": "lognormal", "std": -1}}}, "std = -1"),
    ({"objective": {"times": {"name": "soft-truncation", "k": math.nan}}}, "k = nan"),
    ({"objective": {"weighting": 5}}, "known are constant"),
    ({"objective": {"weighting": {"name": "min-snr", "gamma": -1}}}, "gamma = -1"),
    ({"name": "a/b"}, "name = 'a/b'"),
    ({"name": ""}, "name = ''"),
    ({"tuner": ["diffusion"]}, "tuner"),
    ({"text": "x"}, "no field 'text'"),
    ({"tuner": "dreambooth", "optim": {"dtype": "bfloat16"}}, "trains in float32"),
    ({"tuner": "judge", "optim": {"compile": True}}, "has none; leave it out"),
]


@pytest.mark.parametrize(("change", "said"), RECIPES, ids=[str(k) for k in range(len(RECIPES))])
def test_a_recipe_out_of_range_is_one_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SfumatoError) as error:
        parse({"name": "x", "tuner": "diffusion", **change})
    assert said in str(error.value)
    assert "\n" not in str(error.value)


UNREAD: list[tuple[str, dict[str, Any], list[str]]] = [
    ("dreambooth", {"subject": {"prior": 0.0, "class_pictures": 64}}, ["subject.class_pictures"]),
    (
        "dreambooth",
        {"subject": {"class_pictures": 64, "class_folder": "cats"}},
        ["subject.class_pictures"],
    ),
    ("custom_diffusion", {"subject": {"prior": 0.0, "class_folder": "cats"}},
     ["subject.class_folder"]),
    ("dreambooth", {"adapter": {"targets": ["conv"]}}, ["adapter.targets"]),
    ("diffusion", {"adapter": {"targets": ["conv"]}}, ["adapter.targets"]),
    (
        "textual_inversion",
        {"subject": {"class_pictures": 64}, "adapter": {"rank": 8, "targets": ["conv"]}},
        ["adapter.rank", "adapter.targets", "subject.class_pictures"],
    ),
    ("dreambooth", {"subject": {"class_folder": "cats"}, "adapter": {"rank": 2}}, []),
    ("dreambooth", {"adapter": {"rank": 2, "targets": ["conv"]}}, []),
]  # fmt: skip


@pytest.mark.parametrize(("tuner", "tables", "unread"), UNREAD)
def test_what_older_recipes_carry_for_nothing_is_said(
    tuner: str, tables: dict[str, Any], unread: list[str]
) -> None:
    made = parse({"name": "x", "tuner": tuner, **tables})
    lines = [f"{name}: does nothing in this recipe; leave it out" for name in unread]
    assert made.carried() == lines
    assert not set(unread) & set(origin.of(made, {}).recipe)


@pytest.mark.parametrize("options", [{}, {"prior": None}, {"rank": 0}, {"word": True}])
def test_the_program_writes_nothing_that_is_not_read(options: dict[str, Any]) -> None:
    made = {**OPTIONS, **options}
    if "word" in options:
        made |= {"rank": None, "prior": None, "model": "somewhere"}
    assert parse(tables("pictures", made, own=lambda name: name == "emoji")).carried() == []


def test_a_run_that_carries_what_is_not_read_goes_on(data: Path, tmp_path: Path) -> None:
    """As earlier versions wrote it: said once, and no reason to refuse."""
    from sfumato.train.trainer import Trainer

    older = RECIPE + '[adapter]\ntargets = ["attention", "conv", "embedding"]\n'
    trained(config(older, steps=3), data, tmp_path, until=1)
    kept = json.loads((tmp_path / "origin.json").read_text())
    kept["recipe"]["adapter.targets"] = ["attention", "conv", "embedding"]
    (tmp_path / "origin.json").write_text(json.dumps(kept))
    for text in (older, RECIPE):
        lines = list[str]()
        assert Trainer(config(text, steps=3), data, tmp_path, say=lines.append).step == 1
        said = "adapter.targets: does nothing in this recipe; leave it out"
        assert lines.count(said) == (text == older)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is missing"),
        ("name = ", "is not TOML"),
        ("name = " + "1" * 5000, "is not TOML"),
        ("a = " + "[" * 100_000, "is not TOML"),
        ("\x00", "is not TOML"),
        ("name = 1979-05-27\ntuner = 'x'\nmodel = 1979-05-27", "model = '1979-05-27'"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(SfumatoError, match=said):
        program.train(file, tmp_path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_chanels": 32}, "no field 'model_chanels'"),
        ({"model_channels": "32"}, "model_channels = '32'"),
        ({"model_channels": 0}, "must be above 0"),
        ({"num_res_blocks": 10**6}, "at most 64"),
        ({"channel_mult": []}, "give 1 to 32"),
        ({"xf_heads": 3}, "multiple of xf_heads"),
        ({"out_channels": 3}, "must be 6"),
        ({"n_vocab": 100}, "knows 100 tokens"),
        ({"dropout": 5.0}, "make no network"),
        ({"bands": {"levls": 1}}, "bands"),
        ({"text_ctx": 0}, "text_ctx = 0"),
        ({"in_channels": 1, "out_channels": 2}, "in_channels = 1"),
    ],
)
def test_a_network_that_cannot_be_is_one_line(
    change: dict[str, Any], said: str, data: Path, tmp_path: Path
) -> None:
    made = config()
    model = replace(made.model, network={**made.model.network, **change})
    with pytest.raises(SfumatoError, match=said):
        trained(replace(made, model=model), data, tmp_path / "run")


@pytest.mark.parametrize(
    "change", [{"low_res": True}, {"inpaint": True}, {"num_classes": 4}, {"xf_width": 32}]
)
def test_a_classifier_reads_pictures_alone(
    change: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    prompts = 'prompts = ["red disc", "blue box"]\n'
    of_diffusion = ("learned_range = true\n", "[objective]\nvb = 0.1\n", prompts)
    text = RECIPE.replace('"diffusion"', '"classifier"')
    for line in of_diffusion:
        text = text.replace(line, "")
    made = config(text)
    plain = {**made.model.network, "xf_width": 0, "inpaint": False}
    model = replace(made.model, network={**plain, **change})
    with pytest.raises(SfumatoError, match=f"network.{next(iter(change))}: a classifier reads"):
        trained(replace(made, model=model), data, tmp_path / "run")


def test_the_library_has_the_same_ranges() -> None:
    made = config()
    for wrong in (
        lambda: replace(made.optim, steps=0),
        lambda: replace(made.run, log=0),
        lambda: Mix(hue=-1),
        lambda: MinSNR(math.nan),
        lambda: Mix(styles=(("ink", math.inf),)),
    ):
        with pytest.raises(SfumatoError):
            wrong()


# captions


def folder_with(tmp_path: Path, files: dict[str, str | bytes]) -> Path:
    Image.new("RGB", (12, 8), "red").save(tmp_path / "a.png")
    for name, content in files.items():
        target = tmp_path / name
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path


@pytest.mark.parametrize(
    "files",
    [
        {"captions.csv": b"\xef\xbb\xbffile,caption\na.png,a thing\n"},
        {"captions.csv": "File ; Caption\r\na.png;a thing\r\n\r\n"},
        {"captions.csv": "caption\tfile\na thing\ta.png"},
        {"captions.jsonl": '\ufeff{"file": "a.png", "caption": "a thing", "id": 3}\n\n'},
        {"a.txt": b"\xef\xbb\xbfa thing\n", "a.json": "{}"},
    ],
)
def test_captions_as_programs_write_them_are_read(
    files: dict[str, str | bytes], tmp_path: Path
) -> None:
    read = store.read(folder_with(tmp_path, files), size=8)
    assert [concept.label for concept in read.concepts] == ["a thing"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"captions.csv": ""}, "must name the columns"),
        ({"captions.csv": "name,text\na.png,x\n"}, "must name the columns"),
        ({"captions.csv": "file,caption\na.png,red, round\n"}, "has 3 cells"),
        ({"captions.csv": "file,caption\na.png\n"}, "has 1 cells"),
        ({"captions.csv": 'file,caption\na.png,"torn\n'}, "unexpected end of data"),
        ({"captions.csv": b"file,caption\na.png,\xff\n"}, "not UTF-8"),
        ({"captions.csv": "file,caption\na.png,x\na.png,y\n"}, "two captions"),
        ({"captions.csv": "file,caption\n../a.png,x\n"}, "in this folder"),
        ({"captions.csv": "file,caption\n/etc/passwd,x\n"}, "in this folder"),
        ({"captions.jsonl": "[1]\n"}, "line 1"),
        ({"captions.jsonl": '{"file": "a.png"}\n'}, "caption is missing"),
        ({"captions.jsonl": '{"file": 3, "caption": "x"}\n'}, "file = 3"),
        ({"captions.csv": "file,caption\nb.png,x\n"}, "not there"),
        ({"captions.csv": "file,caption\ne.png,x\n", "e.png": b"%!PS-Adobe\n"}, "cannot be read"),
    ],
)
def test_captions_that_are_none_are_one_line(
    files: dict[str, str | bytes], said: str, tmp_path: Path
) -> None:
    with pytest.raises(SfumatoError) as error:
        store.read(folder_with(tmp_path, files), size=8)
    assert said in str(error.value)


@pytest.mark.parametrize("name", ["captions.csv", "captions.jsonl", "a.txt"])
def test_no_link_takes_captions_from_elsewhere(name: str, tmp_path: Path) -> None:
    """What is trained may be passed on; a folder from elsewhere brings no text of this machine."""
    (tmp_path / "kept").mkdir()
    secret = tmp_path / "secret"
    secret.write_text("file,caption\na.png,key\n" if name.endswith("csv") else "key")
    folder = folder_with(tmp_path / "kept", {"b.txt": "a thing"})
    (folder / name).symlink_to(secret)
    with pytest.raises(SfumatoError, match="is a link that leads out of the folder"):
        store.read(folder, size=8)


def test_links_of_a_picture_with_its_caption_are_followed(tmp_path: Path) -> None:
    """Of a selection, and of the hub's cache, whose every file is a link to its blobs."""
    for where in ("all", "models--a/blobs"):
        folder = tmp_path / where
        folder.mkdir(parents=True)
        folder_with(folder, {"a.txt": "a thing", "c": "file,caption\na.png,a thing\n"})
    chosen, snapshot = tmp_path / "chosen", tmp_path / "models--a" / "snapshots" / "0"
    for folder in (chosen, snapshot):
        folder.mkdir(parents=True)
    for name, source in (("a.png", "a.png"), ("a.txt", "a.txt")):
        (chosen / name).symlink_to(tmp_path / "all" / source)
    for name, source in (("a.png", "a.png"), ("captions.csv", "c")):
        (snapshot / name).symlink_to(Path("..") / ".." / "blobs" / source)
    for folder in (chosen, snapshot):
        assert [concept.label for concept in store.read(folder, size=8).concepts] == ["a thing"]


@pytest.mark.parametrize("name", ["a-x.zip", "a-²2.zip", "a-0.zip", "a-16.zip"])
def test_a_packed_set_without_pictures_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text("{}")
    if name == "a-16.zip":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(SfumatoError, match="none fits 16 px"):
        store.read(tmp_path, size=16)


@pytest.mark.parametrize("packing", ["stored", "deflated", "bzip2", "lzma"])
def test_a_packed_set_that_is_damaged_is_one_line(packing: str, tmp_path: Path) -> None:
    row = {"hex": "1f600", "label": "a thing", "group": "g", "subgroup": "s", "split": "train"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps({**row, "styles": ["3d"]}))
    drawn, packed = io.BytesIO(), io.BytesIO()
    Image.effect_noise((16, 16), 90).convert("RGB").save(drawn, "WEBP", lossless=True)
    with zipfile.ZipFile(packed, "w", getattr(zipfile, f"ZIP_{packing.upper()}")) as archive:
        archive.writestr("3d/1f600.webp", drawn.getvalue())
    draw, file = Random(packing), tmp_path / "emoji-16.zip"
    for _ in range(40):
        data = bytearray(packed.getvalue())
        for _ in range(draw.choice((1, 3))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        file.write_bytes(data[: draw.choice((len(data), draw.randrange(len(data))))])
        with suppress(SfumatoError):
            store.read(tmp_path, size=16)
    file.write_bytes(packed.getvalue())
    if packing in ("stored", "deflated"):
        assert len(store.read(tmp_path, size=16).concepts) == 1
    else:
        with pytest.raises(SfumatoError, match="is no small picture"):
            store.read(tmp_path, size=16)


@pytest.mark.parametrize("name", ["x" * 5000, "가" * 90, "a/" * 3000, "a\0b"])
def test_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text(json.dumps({"file": name, "caption": "a thing"}))
    with pytest.raises(SfumatoError, match=r"but not there|must be a file"):
        store.read(tmp_path, size=8)
    with pytest.raises(SfumatoError, match="no such folder"):
        store.read(tmp_path / name, size=8)
    with pytest.raises(SfumatoError, match="not a folder"):
        read_shots(tmp_path / name)
    with pytest.raises(SfumatoError, match="no such folder or manifest"):
        read_rows(tmp_path / name)
    with pytest.raises(SfumatoError, match="cannot be made"):
        run_folder.make_folder(tmp_path / name / "x")
    with pytest.raises(SfumatoError, match="cannot be made"):
        OWNED.check_free(tmp_path / name / "x")


def test_a_pipe_as_a_runs_log_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.csv")
    with pytest.raises(SfumatoError, match=r"log\.csv: is no regular file"):
        report.read(tmp_path / "log.csv")


def test_training_pictures_are_turned_upright(tmp_path: Path) -> None:
    """And names are names, not patterns."""
    tall = Image.new("RGB", (8, 8), "blue")
    tall.paste("red", (0, 0, 4, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    tall.save(tmp_path / "a [1].png", exif=exif)
    (tmp_path / "a [1].txt").write_text("a thing")
    read = store.read(tmp_path, size=8)
    assert read.pixels[0, :3, 1, 6].tolist() == [255, 0, 0]
    assert read.pixels[0, :3, 6, 6].tolist() == [0, 0, 255]


# run folders


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps, stopped after two."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    trained(config(LORA, steps=3), data, folder, until=2)
    return folder


LORA = RECIPE.replace("save_minutes = 0", "save_minutes = 60")
LORA += '[adapter]\nrank = 2\nalpha = 2\ntargets = ["attention"]\n'


def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rank = 2", "rank = 4", "adapter.rank is 4, was 2"),
        ("rank = 2", "rank = 1", "adapter.rank is 1, was 2"),
        ("alpha = 2", "alpha = 3", "adapter.alpha is 3, was 2"),
        ('"attention"]', '"conv"]', "adapter.targets"),
        ("dropout = 0.1", "dropout = 0.1\nxf_final_ln = true", "was left out"),
        ('kind = "v"', 'kind = "eps"', "model.kind is 'eps', was 'v'"),
        ("size = 16", "size = 32", "data.size is 32, was 16"),
        ("log = 1\n", "log = 1\nseed = 4\n", "run.seed is 4, was 0"),
        ("rate = 1e-3", 'rate = 1e-3\noptimizer = "adamw-8bit"', "optim.optimizer"),
    ],
)
def test_a_run_with_other_settings_does_not_go_on(
    old: str, new: str, said: str, run: Path, data: Path, tmp_path: Path
) -> None:
    folder = copied(run, tmp_path)
    before = (folder / "recipe.toml").read_bytes()
    assert old in LORA
    with pytest.raises(SfumatoError, match="cannot go on") as error:
        trained(config(LORA.replace(old, new), steps=3), data, folder)
    assert said in str(error.value)
    assert (folder / "recipe.toml").read_bytes() == before


def test_a_run_with_other_pictures_does_not_go_on(run: Path, data: Path, tmp_path: Path) -> None:
    folder, other = copied(run, tmp_path), Path(shutil.copytree(data, tmp_path / "other"))
    Image.new("RGB", (24, 24), "pink").save(other / "red-disc.png")
    with pytest.raises(SfumatoError, match=r"picture red-disc\.png has changed"):
        trained(config(LORA, steps=3), other, folder)


def test_more_steps_and_other_rates_go_on_and_are_said(
    run: Path, data: Path, tmp_path: Path
) -> None:
    folder, lines = copied(run, tmp_path), list[str]()
    from sfumato.train.trainer import Trainer

    made = config(LORA.replace("rate = 1e-3", "rate = 1e-4"), steps=5)
    Trainer(made, data, folder, say=lines.append).run()
    assert any("optim.steps is 5, was 3" in line for line in lines)
    assert any("optim.rate is 0.0001, was 0.001" in line for line in lines)
    assert lines[-1].startswith("exported to ")
    again = list[str]()
    Trainer(made, data, folder, say=again.append).run()
    assert "this run is finished, 5 of 5 steps" in again[-1]
    with pytest.raises(SfumatoError, match="has 5 steps already"):
        trained(config(LORA, steps=3), data, folder)


def test_a_run_of_an_earlier_version_goes_on(run: Path, data: Path, tmp_path: Path) -> None:
    folder, lines = copied(run, tmp_path), list[str]()
    (folder / "origin.json").unlink()
    tensors = load_file(folder / "state.safetensors")
    note = {"step": 2, "seconds": 1.5, "measures": {"a": 1.0}}
    save_file(tensors, folder / "state.safetensors", {"note": json.dumps(note)})
    from sfumato.train.trainer import Trainer

    trainer = Trainer(config(LORA, steps=3), data, folder, say=lines.append)
    assert any("not recorded" in line for line in lines)
    assert trainer.step == 2
    with pytest.raises(SfumatoError, match=r"adapter\.rank is 4, was 2"):
        trained(config(LORA.replace("rank = 2", "rank = 4"), steps=3), data, folder)


def tensors_changed(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "state.safetensors"
        with safe_open(file, "pt") as opened:
            header = dict(opened.metadata())
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file, header)

    return apply


def noted(**note: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "state.safetensors"
        save_file(load_file(file), file, {"note": json.dumps(note)})

    return apply


def written(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content) and None


def first(tensors: dict[str, torch.Tensor], part: str) -> str:
    return next(name for name in sorted(tensors) if name.startswith(f"{part}/"))


def filled(part: str, value: float) -> Callable[[Path], None]:
    return tensors_changed(lambda tensors: tensors[first(tensors, part)].fill_(value))


def cut(part: str) -> Callable[[Path], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        name = first(tensors, part)
        tensors[name] = tensors[name][:1].clone()

    return tensors_changed(change)


def dropped(part: str) -> Callable[[Path], None]:
    return tensors_changed(lambda tensors: tensors.pop(first(tensors, part)))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (filled("weight", math.nan), "not finite"),
        (filled("average", math.inf), "not finite"),
        (filled("adam.exp_avg", math.nan), "not finite"),
        (filled("adam.exp_avg_sq", math.inf), "not finite"),
        (cut("weight"), "this recipe's is"),
        (cut("average"), "this recipe's is"),
        (cut("adam.exp_avg"), "this recipe's is"),
        (dropped("average"), "differ from the recipe's"),
        (dropped("weight"), "differ from the recipe's"),
        (dropped("adam.exp_avg_sq"), "are not those of adamw"),
        (noted(step="2"), "step = '2'"),
        (noted(step=-1), "step = -1"),
        (noted(step=9), "has 9 steps already"),
        (noted(), "step is missing"),
        (written("state.safetensors", "torn"), "damaged or no checkpoint"),
        (written("origin.json", '{"recipe": []}'), "origin.json: recipe"),
        (written("origin.json", "[" * 100_000), "origin.json"),
        (written("tokenizer.json", "{}"), "tokenizer.json has changed"),
    ],
)
def test_a_harmed_run_folder_is_one_line(
    harm: Callable[[Path], None], said: str, run: Path, data: Path, tmp_path: Path
) -> None:
    folder = copied(run, tmp_path)
    harm(folder)
    with pytest.raises(SfumatoError) as error:
        trained(config(LORA, steps=3), data, folder)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.csv", ""),
        ("log.csv", "step,se"),
        ("log.csv", "step,loss\r\n1,0.5\r\n2,0."),
        ("log.csv", "step,loss\r\n1,0.5\r\n2\r\n"),
        ("log.csv", "step,loss\r\n1,0.5\r\n2,0.\x000\r\n"),
        ("log.csv", "loss\r\n\x00\r\n"),
        ("heldout.csv", ""),
        ("recipe.toml", ""),
        ("recipe.toml", "name = "),
    ],
)
def test_what_a_kill_tore_is_mended(
    name: str, content: str, run: Path, data: Path, tmp_path: Path
) -> None:
    folder = copied(run, tmp_path)
    (folder / name).write_text(content, newline="")
    trained(config(LORA, steps=3), data, folder)
    rows = report.read(folder / "log.csv")
    assert [row["step"] for row in rows][-1] == 3
    assert (folder / "recipe.toml").read_text() == LORA


def test_what_was_killed_before_its_first_checkpoint_leaves_no_row(
    data: Path, tmp_path: Path
) -> None:
    made = config(LORA, steps=1)
    trained(made, data, tmp_path)
    (tmp_path / "state.safetensors").unlink()
    (tmp_path / "log.csv").write_text("step,loss\r\n7,0.5\r\n", newline="")
    (tmp_path / "tokenizer.json").write_text("{}")
    trained(made, data, tmp_path)
    assert [row["step"] for row in report.read(tmp_path / "log.csv")] == [1]


def test_a_recipe_of_other_use_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("mine")
    with pytest.raises(SfumatoError, match="is another recipe"):
        trained(config(LORA, steps=1), data, tmp_path)
    assert (tmp_path / "recipe.toml").read_text() == "mine"


def test_a_state_that_explodes_is_not_kept(data: Path, tmp_path: Path) -> None:
    """The rate ruins the weights at once; what is kept is what was before, and it goes on."""
    wild = config(RECIPE, steps=30, rate=1e4, warmup=0, clip=1e9)
    with pytest.raises(SfumatoError, match=r"the state before it is kept .*lower optim\.rate"):
        trained(wild, data, tmp_path)
    kept = load_file(tmp_path / "state.safetensors")
    assert all(float(v.abs().max()) < 100 for k, v in kept.items() if k.startswith("weight/"))
    assert trained(config(RECIPE, steps=3), data, tmp_path).step == 3


def test_a_measure_that_is_not_finite_stops_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sfumato.train.tuners.diffusion import Diffusion

    monkeypatch.setattr(Diffusion, "judge", lambda self: {"held-out": math.nan})
    made = config(RECIPE, steps=4)
    with pytest.raises(SfumatoError, match=r"step 2: the measure 'held-out' is nan"):
        trained(replace(made, run=replace(made.run, judge=2)), data, tmp_path)
    assert checkpoint.read(tmp_path / "state.safetensors")[1].step < 2


def test_moments_that_are_not_finite_are_not_saved() -> None:
    weights = Weights({"a": torch.nn.Parameter(torch.ones(2))}, config().optim)
    weights.parameters["a"].grad = torch.ones(2)
    weights.step(0, weights.gather())
    assert weights.unhealthy() == ""
    weights.adam.state[weights.masters["a"]]["exp_avg_sq"].fill_(math.inf)
    assert weights.unhealthy() == "adam.exp_avg_sq/a"


def test_a_refused_command_changes_nothing(run: Path, data: Path, tmp_path: Path) -> None:
    folder = copied(run, tmp_path)
    trained(config(LORA, steps=3), data, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    for steps in (1, 3):  # fewer than there are, and those that are done
        with contextlib.suppress(SfumatoError):
            trained(config(LORA.replace("log = 1", "log = 3"), steps=steps), data, folder)
        after = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
        assert after == before


@pytest.mark.parametrize("until", [0, -5, 99])
def test_a_stop_that_is_no_step_is_refused(until: int, data: Path, tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match=f"--until {until}: must be from 1 to the 3 steps"):
        trained(config(LORA, steps=3), data, tmp_path, until=until)


@pytest.mark.parametrize("steps", [0, -5, 10**12])
def test_steps_of_train_are_refused_by_their_option(steps: int, tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match=f"--steps {steps}: must be 1 to"):
        config(LORA).with_steps(steps)


# options of dreambooth


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--steps", "0"], "--steps 0"),
        (["--steps", "-4"], "--steps -4"),
        (["--rate", "0"], "--rate 0"),
        (["--rate", "nan"], "--rate nan"),
        (["--batch", "0"], "--batch 0"),
        (["--prior", "-1"], "--prior -1"),
        (["--class-pictures", "-4"], "--class-pictures -4"),
        (["--class-pictures", "0"], "--class-pictures 0"),
        (["--rank", "-2"], "--rank -2"),
        (["--seed", "-1"], "--seed -1"),
        (["--name", "a/b"], "--name 'a/b'"),
        (["--word", "--vectors", "0"], "--vectors 0"),
        (["--vectors", "2"], "give --word too"),
        (["--word", "--rank", "4"], "goes with pictures"),
        (["--word", "--prior", "0.5"], "goes with pictures"),
        (["--prior", "0", "--class-pictures", "8"], "none are made"),
        (["--class-folder", "x", "--class-pictures", "8"], "none are made"),
        (["--class-folder", "x", "--prior", "0"], "--class-folder: is not read with --prior 0"),
    ],
)
def test_options_of_dreambooth_have_the_recipes_ranges(
    given: list[str], said: str, tmp_path: Path, app: Any
) -> None:
    run = tmp_path / "run"
    for more in ([], ["--plan"]):
        line = fails(app, 1, "dreambooth", str(tmp_path), "--class", "dog", "-o", str(run),
                     *given, *more)  # fmt: skip
        assert said in line
        assert not run.exists()
