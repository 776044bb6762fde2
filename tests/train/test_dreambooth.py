"""DreamBooth: what is trained, what survives, what is written, and what bad input gets."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as PILImage
from PIL import ImageDraw
from safetensors.torch import load_file
from torch.nn import functional as F

import sfumato as sf
from helpers import pipelines
from helpers.adapters import fresh, ours, theirs
from helpers.pictures import photo
from helpers.program import call, fails
from helpers.subjects import recipe, trained
from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.models import adapters
from sfumato.train.subject import class_pictures, naming, vocabulary
from sfumato.train.subject.shots import buckets, fit, read_shots
from sfumato.train.tuners import dreambooth, textual_inversion


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sd1")
    pipelines.stable(root, "sd1")
    return root / "pipeline"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("text", [False, True])
def test_a_lora_trained_here_changes_diffusers_output_exactly_as_ours(
    pipeline: Path, pictures: Path, tmp_path: Path, text: bool
) -> None:
    """The file for load_lora_weights and the one in kohya's form, network and text encoder."""
    state = trained(recipe(pipeline, pictures, subject={"text": text}), tmp_path / "run")
    parts = {name.split("/")[1].split(".")[0] for name in state}
    assert parts == ({"unet", "text_encoder"} if text else {"unet"})
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    prompt = run["prompt"]
    model = sf.load(str(pipeline), dtype="float32")
    names = ["pytorch_lora_weights.safetensors", f"{run['name']}.kohya.safetensors"]
    for name in names:
        pipe = fresh(pipeline)
        before = theirs(pipe, prompt)
        pipe.load_lora_weights(tmp_path / "run" / name)
        wanted = theirs(pipe, prompt)
        assert float((wanted - before).abs().max()) > 1e-3, "the adapter does nothing"
        found = ours(model.adapt(tmp_path / "run" / name), pipe, prompt)
        assert float((found - wanted).abs().max()) < 1e-5
    whole = ours(model.adapt(tmp_path / "run"), pipe, prompt)
    assert torch.equal(whole, ours(model.adapt(tmp_path / "run" / names[0]), pipe, prompt))


def test_a_whole_pipeline_trained_here_is_diffusers_own(
    pipeline: Path, pictures: Path, tmp_path: Path
) -> None:
    given = recipe(pipeline, pictures, adapter={"rank": 0}, optim={"rate": 1e-3},
                   subject={"text": True})  # fmt: skip
    trained(given, tmp_path / "run")
    pipe = fresh(tmp_path / "run" / "model")
    wanted, before = theirs(pipe), theirs(fresh(pipeline))
    model = sf.load(str(tmp_path / "run" / "model"), dtype="float32")
    assert float((wanted - before).abs().max()) > 1e-3
    assert float((ours(model, pipe) - wanted).abs().max()) < 1e-5
    keys = load_file(tmp_path / "run" / "model" / "text_encoder" / "model.safetensors")
    assert all(name.startswith("text_model.") for name in keys), "what the older stack reads"


def test_class_pictures_are_made_once_and_are_the_same(
    pipeline: Path, pictures: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run makes none; a damaged one is made again alone; the result is equal."""
    made: list[int] = []
    sample = sf.Process.sample

    def counted(self: sf.Process, seed: int = 0, **given: Any) -> Any:
        made.append(self.n)
        return sample(self, seed, **given)

    monkeypatch.setattr(sf.Process, "sample", counted)
    first = trained(recipe(pipeline, pictures), tmp_path / "one")
    files = sorted((home / "classes").rglob("*.png"))
    assert (len(files), made) == (9, [2] * 5), "9 pictures, made as many at once as are trained"
    made.clear()
    second = trained(recipe(pipeline, pictures), tmp_path / "two")
    assert made == []
    kept = files[3].read_bytes(), files[6].read_bytes()
    files[3].write_bytes(b"cut")
    files[6].write_bytes(files[5].read_bytes())  # exchanged
    third = trained(recipe(pipeline, pictures), tmp_path / "three")
    assert made == [2, 2]
    assert (files[3].read_bytes(), files[6].read_bytes()) == kept
    for other in (second, third):
        assert first.keys() == other.keys()
        assert all(torch.equal(first[name], other[name]) for name in first)
    model = sf.load(str(pipeline), dtype="float32")
    keys = [
        class_pictures.Wanted(model, text, 9, seed, 2).key
        for text, seed in (("a dog", 0), ("a cat", 0), ("a dog", 1))
    ]
    assert len(set(keys)) == 3


def test_class_pictures_follow_all_that_makes_them(
    pipeline: Path, tmp_path: Path, home: Path
) -> None:
    """Another scheduler or vocabulary in the same folder, as after an update of the model."""
    folder = Path(shutil.copytree(pipeline, tmp_path / "model"))
    table, words = "scheduler/scheduler_config.json", "tokenizer/tokenizer.json"

    def key() -> str:
        model = sf.load(str(folder), dtype="float32")
        return class_pictures.Wanted(model, "a red cat", 9, 0, 2).key

    keys = [key(), key()]
    for file, change in (
        (table, {"prediction_type": "v_prediction"}), (table, {"beta_end": 0.02}), (words, {}),
    ):  # fmt: skip
        before = (folder / file).read_text()
        data = {**json.loads(before), **change}
        if file == words:  # without the merge that makes "cat" one token
            data["model"]["merges"] = data["model"]["merges"][:-1]
        (folder / file).write_text(json.dumps(data))
        keys.append(key())
        (folder / file).write_text(before)
    assert len(set(keys)) == len(keys) - 1 == 4


def test_class_pictures_of_the_users_own(
    pipeline: Path, pictures: Path, tmp_path: Path, home: Path
) -> None:
    """Fitted as the subject's are, of whatever size; nothing is made."""
    folder = tmp_path / "dogs"
    folder.mkdir()
    for k, size in enumerate(((300, 300), (640, 400), (90, 120))):
        photo(*size).save(folder / f"{k}.png")
    given = recipe(pipeline, pictures, subject={"class_folder": str(folder)})
    tuner = dreambooth.tuner(given, pictures, tmp_path / "run", "cpu")
    assert len(tuner.class_states) == 3
    assert max(max(row.shape[-2:]) for row in tuner.class_states) <= 16, "of 8 native cells"
    trained(given, tmp_path / "run")
    assert not (home / "classes").exists()


def test_without_a_prior_there_are_no_class_rows(
    pipeline: Path, pictures: Path, tmp_path: Path, home: Path
) -> None:
    trained(recipe(pipeline, pictures, subject={"prior": 0.0}), tmp_path / "run")
    assert not (home / "classes").exists()
    log = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert "class" not in log[0]


@pytest.mark.slow
def test_the_upsampler_learns_the_subjects_detail(tmp_path: Path) -> None:
    """One run, one file for both networks; the upsampled picture gets nearer to the truth."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for k, x in enumerate((60, 75)):
        image = PILImage.new("RGB", (128, 128), "white")
        draw = ImageDraw.Draw(image)
        draw.ellipse([x - 40, 24, x + 40, 104], fill="#43b868")
        draw.ellipse([x - 12, 44, x + 12, 76], fill="white")
        draw.arc([x - 20, 70, x + 20, 96], 20, 160, "#1d2a44", 4)
        image.save(pictures / f"{k}.png")
    given = recipe(
        Path("emoji"), pictures,
        subject={"upsampler": True, "prior": 0.0, "wording": "{}"},
        adapter={"rank": 8, "alpha": 8.0, "targets": ["conv", "embedding"]},
        optim={"steps": 40, "rate": 1e-3, "warmup": 3, "ema": 0.9},
    )  # fmt: skip
    state = trained(given, tmp_path / "run")
    assert {name.split("/")[1].split(".")[0] for name in state} == {"unet", "upsampler"}
    plain = sf.load("emoji", dtype="float32")
    tuned = plain.adapt(tmp_path / "run")
    side = plain.card.native[0] * plain.card.factor(2)
    shot = fit(read_shots(pictures)[0], [(side, side)])[None]
    errors = []
    for model in (plain, tuned):
        process = replace(
            model.upsampler(0),
            source=None,
            shape=(3, side, side),
            cond=Cond({"low_res": F.avg_pool2d(shot, plain.card.factor(2))}),
        )
        errors.append(float((process.sample(seed=0) - shot).square().mean()))
    assert errors[1] < 0.95 * errors[0]
    upsampled = PILImage.open(tmp_path / "run" / "upsampled-000040.png")
    assert upsampled.height == 2 * side  # of two poses the upsampled above the true, and its label
    with pytest.raises(SfumatoError, match="has none"):
        adapters.adapt(replace(plain, upsamplers=()), tmp_path / "run")


@pytest.mark.slow
def test_two_processes_teach_as_one(pipeline: Path, pictures: Path, tmp_path: Path) -> None:
    """The same batch on two devices: the same adapter but for rounding."""
    from sfumato.train.tables import toml

    given = json.loads(recipe(pipeline, pictures, optim={"rate": 1e-3}).text)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.toml").write_text(toml(given))
    command = [sys.executable, "-m", "sfumato.cli.main", "dreambooth", "--resume", "-q", "-o"]
    subprocess.run([*command, str(tmp_path / "one")], check=True)
    runs = []
    for rank in range(2):
        places = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        env = {**os.environ, **places, "MASTER_PORT": str(30500 + os.getpid() % 1000)}
        runs.append(subprocess.Popen([*command, str(tmp_path / "two")], env=env))
    assert [run.wait(timeout=300) for run in runs] == [0, 0]
    one, two = (load_file(tmp_path / n / "state.safetensors") for n in ("one", "two"))
    for name in one:
        if name.startswith("weight/"):
            torch.testing.assert_close(one[name], two[name], rtol=0, atol=2e-4)


def killed(folder: Path, pictures: Path, model: Path, rank: int, kills: int) -> int:
    """The program on a run, killed at random moments and resumed; how often it was killed."""
    command = [sys.executable, "-m", "sfumato.cli.main", "dreambooth"]
    done, moments = 0, random.Random(rank)
    while True:
        process = subprocess.Popen(
            [*command, "--resume", "-o", str(folder), "-q"], stderr=subprocess.PIPE, text=True
        )
        began = time.monotonic()
        lines = len(rows(folder))
        while process.poll() is None and done < kills:
            if len(rows(folder)) > lines + moments.randint(1, 4) or time.monotonic() - began > 60:
                time.sleep(moments.random() * 0.2)
                os.kill(process.pid, signal.SIGKILL)
                done += 1
                break
        said = process.communicate(timeout=300)[1]
        if process.returncode == 0:
            return done
        assert process.returncode == -signal.SIGKILL, said


def rows(folder: Path) -> list[str]:
    try:
        return (folder / "log.csv").read_text().splitlines()
    except FileNotFoundError:
        return []


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "kills"), [(2, 1), (2, 5), (0, 5)])
def test_killed_and_resumed_is_bit_identical(
    pipeline: Path, pictures: Path, tmp_path: Path, rank: int, kills: int
) -> None:
    from sfumato.train.tables import toml

    given = recipe(pipeline, pictures, adapter={"rank": rank},
                   optim={"steps": 30 * kills, "rate": 1e-3})  # fmt: skip
    tables = {**json.loads(given.text), "run": {"log": 1, "grid": 10**6, "judge": 10**6}}
    tables["run"]["save_minutes"] = 1e-9
    for name in ("straight", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.toml").write_text(toml(tables))
    assert killed(tmp_path / "killed", pictures, pipeline, rank, kills) >= kills - 1
    assert killed(tmp_path / "straight", pictures, pipeline, rank, 0) == 0
    one, two = (load_file(tmp_path / n / "state.safetensors") for n in ("straight", "killed"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_pictures_keep_their_shape(pictures: Path) -> None:
    """Buckets of about the native area; upright; never stretched."""
    shots = read_shots(pictures)
    assert [shot.picture.size for shot in shots] == [(64, 64), (96, 64), (64, 96)]
    sizes = buckets((64, 64), 8)
    assert (64, 64) in sizes
    assert all(0.7 < w * h / 64**2 < 1.4 and max(w, h) <= 2 * min(w, h) for w, h in sizes)
    shapes = [tuple(fit(shot, sizes).shape[:0:-1]) for shot in shots]
    assert shapes[0] == (64, 64)
    assert shapes[1] == shapes[2][::-1]
    assert shapes[1][0] > shapes[1][1]
    disc = fit(shots[1], sizes)[2] > 0  # of blue: round where nothing was stretched
    height, width = (int(disc.any(axis).sum()) for axis in (1, 0))
    assert abs(height - width) <= 2


def test_a_name_is_one_rare_token() -> None:
    model = sf.load("emoji", dtype="float32")
    tokens, words = vocabulary.tokens_of(model), vocabulary.vocabulary_of(model)
    names = {naming.pick_identifier(tokens, words, seed) for seed in range(20)}
    assert len(names) > 5
    for name in names:
        assert len(tokens(f"a {name} dog")) == len(tokens("a dog")) + 1
        assert 2 <= len(name) <= 3
        assert words.index(name) > len(words) // 2
    assert naming.pick_identifier(tokens, words, 7) == naming.pick_identifier(tokens, words, 7)


def test_bad_names_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    model = sf.load("emoji", dtype="float32")
    tokens = vocabulary.tokens_of(model)
    with caplog.at_level(logging.WARNING, "sfumato"):
        assert len(naming.inspected(tokens, "xxy5syt00")) > 4
        assert "each with a meaning of its own" in caplog.text
        naming.inspected(tokens, "sks")
        assert "rifle" in caplog.text
        caplog.clear()
        words, spelled = vocabulary.vocabulary_of(model), vocabulary.spelled_by(model)
        naming.inspected(tokens, "xxy5syt00", words, spelled)
        assert " tokens (x, x" in caplog.text
        for name in ("dog", "red"):
            naming.inspected(tokens, name, words, spelled)
            assert f"identifier '{name}' is an ordinary word" in caplog.text
        caplog.clear()
        chosen = naming.pick_identifier(tokens, words, 3)
        naming.inspected(tokens, chosen, words, spelled)
        assert not caplog.text
    with pytest.raises(SfumatoError, match="is empty"):
        naming.inspected(tokens, " ")


def test_odd_pictures_of_a_subject_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Too small, several in one, named strangely, PostScript, no pictures."""
    photo().save(tmp_path / "good.picture", "PNG")
    PILImage.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    frames = [PILImage.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "3.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (tmp_path / "0.txt").write_text("words beside a picture")
    (tmp_path / "notes.md").write_text("words")
    with caplog.at_level(logging.WARNING, "sfumato"):
        found = [shot.name for shot in read_shots(tmp_path)]
    assert found == ["good.picture", "moving.gif"]
    for said in (
        "dot.png: is 1x1, too small to learn from; left out",
        "moving.gif: is several pictures; the first one is taken",
        "3.png: is PostScript",
        "no pictures, left out: notes.md",
    ):
        assert said in caplog.text


def test_every_target_of_an_adapter_is_there(
    pipeline: Path, pictures: Path, tmp_path: Path
) -> None:
    """Attention beside another target means what it means alone; one that is nowhere is named."""

    def layers(*targets: str) -> set[str]:
        given = recipe(pipeline, pictures, adapter={"targets": targets}, subject={"prior": 0})
        tuner = dreambooth.tuner(given, pictures, tmp_path / "run", "cpu")
        return {name.removesuffix(".down").rpartition(".")[2] for name in tuner.parameters()}

    assert {"to_q", "to_k", "to_v", "conv1"} <= layers("attention", "conv1")
    with pytest.raises(SfumatoError, match="no layer ends in nonsense"):
        layers("attention", "nonsense")


def test_bad_input_is_one_line(
    pipeline: Path, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (pictures / "broken.png").write_bytes((pictures / "a.png").read_bytes()[:60])
    (pictures / "notes.txt").write_text("not a picture")
    with caplog.at_level(logging.WARNING, "sfumato"):
        assert len(read_shots(pictures)) == 3
        assert "broken.png" in caplog.text
        assert "left out" in caplog.text
        one = tmp_path / "one"
        one.mkdir()
        photo().save(one / "only.png")
        read_shots(one)
        assert "1 picture of the subject: its pose and background will come back" in caplog.text
        for k in range(200):
            (one / f"{k}.png").write_bytes((one / "only.png").read_bytes())
        assert len(read_shots(one)) == 201
        assert "201 pictures: more than 5 seldom help" in caplog.text
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, said in ((empty, "no picture there"), (tmp_path / "gone", "not a folder")):
        with pytest.raises(SfumatoError, match=said):
            read_shots(folder)
    with pytest.raises(SfumatoError, match="no class noun"):
        trained(recipe(pipeline, pictures, subject={"noun": " "}), tmp_path / "run")
    with pytest.raises(SfumatoError, match="wording"):
        trained(recipe(pipeline, pictures, subject={"wording": "a dog"}), tmp_path / "run")
    with pytest.raises(SfumatoError, match="should be 'sum' or 'mean'"):
        trained(recipe(pipeline, pictures, subject={"convention": "both"}), tmp_path / "run")
    with pytest.raises(SfumatoError, match="gamma"):
        recipe(pipeline, pictures, objective={"weighting": {"name": "min-snr", "gamma": 0.0}})


def test_a_loss_that_is_not_finite_keeps_the_last_state(
    pipeline: Path, pictures: Path, tmp_path: Path
) -> None:
    given = recipe(pipeline, pictures, optim={"rate": 1e30, "steps": 30, "clip": 1e30})
    with pytest.raises(SfumatoError, match=r"the state before it is kept"):
        trained(given, tmp_path / "run")
    state = load_file(tmp_path / "run" / "state.safetensors")
    assert state


@pytest.mark.parametrize(("kind", "count"), [("sd1", 1), ("sd1", 3), ("sdxl", 2)])
def test_a_learned_word_is_diffusers_own(
    kind: str, count: int, pictures: Path, tmp_path: Path
) -> None:
    """Only the word's rows move; the file does the same in diffusers and here."""
    root = tmp_path / kind
    pipelines.stable(root, kind)
    given = recipe(
        root / "pipeline", pictures, "textual_inversion", subject={"vectors": count, "noun": "red"},
        optim={"rate": 0.05, "weight_decay": 0.0, "ema": 0.0},
    )  # fmt: skip
    plain = sf.load(str(root / "pipeline"), dtype="float32")
    before = plain.text.encoders[0].vectors.clone()  # type: ignore[union-attr]
    state = trained(given, tmp_path / "run")
    assert {name.split("/")[1] for name in state} == ({"0"} if kind == "sd1" else {"0", "1"})
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    file = tmp_path / "run" / run["file"]
    learned = load_file(file)
    assert all(value.shape[0] == count for value in learned.values())
    model = plain.adapt(file)
    assert torch.equal(model.text.encoders[0].vectors, before)  # type: ignore[union-attr]
    prompt, pipe = f"a {run['name']} cat", fresh(root / "pipeline")
    if kind == "sd1":
        pipe.load_textual_inversion(str(file))
    else:
        for part, name in (("clip_l", ""), ("clip_g", "_2")):
            pipe.load_textual_inversion(
                learned[part], token=run["name"], tokenizer=getattr(pipe, f"tokenizer{name}"),
                text_encoder=getattr(pipe, f"text_encoder{name}"),
            )  # fmt: skip
    assert float((ours(model, pipe, prompt) - theirs(pipe, prompt)).abs().max()) < 1e-5
    assert float((ours(model, pipe, prompt) - ours(model, pipe, "a cat")).abs().max()) > 1e-3


def test_a_learned_word_lowers_its_loss(pipeline: Path, pictures: Path, tmp_path: Path) -> None:
    """And a pixel model, whose tokens are inside its network, says that it has none to learn."""
    rates = {"rate": 0.02, "steps": 40, "weight_decay": 0.0}
    given = recipe(pipeline, pictures, "textual_inversion", optim=rates)
    tuner = textual_inversion.tuner(given, pictures, tmp_path / "fresh", "cpu")
    with torch.no_grad():
        before = {k: v for k, v in tuner.judge().items() if "subject" in k}
    trained(given, tmp_path / "run")
    held = (tmp_path / "run" / "heldout.csv").read_text().splitlines()
    after = dict(zip(held[0].split(","), map(float, held[-1].split(",")), strict=True))
    assert sum(after[k] for k in before) < sum(before.values())
    own = recipe(Path("emoji"), pictures)
    with pytest.raises(SfumatoError, match="has no text encoder of its own"):
        textual_inversion.tuner(own, pictures, tmp_path / "own", "cpu")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    from sfumato.train import checkpoint

    kept = tmp_path / "state.safetensors"
    checkpoint.write(kept, {"a": torch.ones(2)}, {"step": 1})
    with pytest.raises(SfumatoError, match=r"could not be written .*what was there is kept"):
        checkpoint.put(Path("/dev/full/state.safetensors"), {"a": torch.ones(2)}, {})
    limit = "import resource, signal, torch; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
    limit += "from pathlib import Path; from sfumato.train import checkpoint; "
    limit += f"checkpoint.write(Path({str(kept)!r}), {{'a': torch.ones(10**5)}}, {{}})"
    done = subprocess.run([sys.executable, "-c", limit], capture_output=True, text=True)
    assert "SfumatoError" in done.stderr
    assert "could not be written" in done.stderr
    assert torch.equal(checkpoint.read(kept)[0]["a"], torch.ones(2))
    assert [file.name for file in tmp_path.iterdir()] == ["state.safetensors"]


def test_the_program_plans_trains_and_refuses_other_settings(
    pipeline: Path, pictures: Path, tmp_path: Path, app: Any
) -> None:
    run = tmp_path / "my-dog"
    common = ["dreambooth", str(pictures), "--class", "dog", "-o", str(run)]
    common += ["--model", str(pipeline), "--class-pictures", "8"]
    plan = call(app, *common, "--plan")
    assert plan.exit_code == 0, plan.output
    assert "class: 'a dog', 8 pictures to make" in plan.stdout
    assert "an adapter of rank 8, 800 steps of 1 + 1 pictures" in plan.stdout
    assert not run.exists(), "a plan writes nothing"
    first = call(app, *common, "--steps", "3")
    assert first.exit_code == 0, first.output
    name = json.loads((run / "run.json").read_text())["name"]
    ready = f"sfumato generate -p 'a {name} dog' --model {pipeline} --adapt {run}"
    assert ready in first.stderr
    assert "exported to" in first.stderr
    assert f"exported to {run}/model" not in first.stderr
    other = fails(app, 1, *common, "--steps", "5")
    assert "other settings; give --resume" in other
    assert "optim.steps is 5, was 3" in other
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    resume = ["dreambooth", "--resume", "-o", str(run)]
    again = call(app, *resume, "--class", "dog", "--plan")
    assert again.exit_code == 0, again.output
    again = call(app, *resume)
    assert again.exit_code == 0, again.output
    assert "this run is finished, 3 of 3 steps" in again.stderr
    assert "exported" not in again.stderr
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    assert "--rank is 8 in this run, not 4" in fails(app, 1, *resume, "--rank", "4")
    assert "--word is False in this run, not True" in fails(app, 1, *resume, "--word")
    assert "has 3 steps already" in fails(app, 1, *resume, "--steps", "2")
    photo = next(iter(sorted(pictures.iterdir())))
    kept = photo.read_bytes()
    PILImage.open(photo).rotate(180).save(photo)
    for command in ([*common, "--steps", "3"], resume):
        assert f"picture {photo.name} has changed" in fails(app, 1, *command)
    photo.write_bytes(kept)
    more = call(app, *resume, "--steps", "4")
    assert more.exit_code == 0, more.output
    assert json.loads((run / "done.json").read_text())["step"] == 4
    assert "steps = 4" in (run / "recipe.toml").read_text()
    picture = call(
        app, "generate", "-p", "a dog", "--model", str(pipeline), "--steps", "1", "--size", "32",
        "--adapt", str(run), "-o", str(tmp_path / "out.png"),
    )  # fmt: skip
    assert picture.exit_code == 0, picture.output
    assert sf.open_image(tmp_path / "out.png").size == (32, 32)
    lost = fails(app, 1, "dreambooth", "--resume", "-o", str(tmp_path / "none"))
    assert "holds no run" in lost
    assert "give the folder with the subject's pictures" in fails(app, 1, "dreambooth", "-o", "x")
    unsaid = fails(app, 1, "dreambooth", str(pictures), "-o", "x", "--model", str(pipeline))
    assert "has no CLIP to guess by; give --class" in unsaid
    (run / "pytorch_lora_weights.safetensors").unlink()
    for file in (run / "best", *run.glob("*.kohya.safetensors")):
        shutil.rmtree(file, ignore_errors=True) if file.is_dir() else file.unlink(missing_ok=True)
    for given in (run, run / "state.safetensors"):
        with pytest.raises(SfumatoError, match=r"a training that is not finished; give its comm"):
            sf.load(str(pipeline), dtype="float32").adapt(given)


def test_the_class_is_guessed_where_it_is_not_said(tmp_path: Path, app: Any) -> None:
    folder = tmp_path / "burgers"
    folder.mkdir()
    model = sf.load("emoji", dtype="float32")
    burgers = model.process("hamburger", n=3, steps=12, stages=1).sample().images
    for k, picture in enumerate(burgers):
        picture.save(folder / f"{k}.png")
    plan = call(app, "dreambooth", str(folder), "-o", str(tmp_path / "run"), "--plan")
    assert plan.exit_code == 0, plan.output
    said = re.search(r"class: (.+), by the model's CLIP \(then (.+), (.+)\); ", plan.stderr)
    assert said is not None
    assert "hamburger" in said.groups()
    assert f"class: '{said[1]}, 3d render'" in plan.stdout
