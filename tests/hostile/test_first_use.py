"""What one meets first: help, wrong words, plans, lists, how things print."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

import sfumato as sf
from helpers import pipelines
from helpers.families import bundled, upsampling
from sfumato.cli import main, show
from sfumato.cli.compose import Composed
from sfumato.cli.makers import prompted
from sfumato.cli.verbs import doctor
from sfumato.core.errors import SfumatoError
from sfumato.core.synonyms import meant
from sfumato.images.photos import photographic
from sfumato.models import cost, planning
from sfumato.models.loaders import library
from sfumato.train.grids import tiled

ROOT = Path(__file__).parents[2]
ROSE = str(ROOT / "examples" / "strokes" / "rose.png")
FAST = ["--steps", "2", "--stages", "1"]


@pytest.fixture(scope="module")
def app() -> Any:
    return main.build()


command_of = cache(typer.main.get_command)  # made once, not for every call


@pytest.fixture(scope="module")
def emoji() -> sf.Model:
    return sf.load("emoji")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emoji: sf.Model) -> None:
    monkeypatch.setattr(library, "load", lambda *name, **how: emoji)  # seconds each time
    monkeypatch.setattr("typer.testing._get_command", command_of)
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)


def call(app: Any, *words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def said(app: Any, code: int, *words: str) -> str:
    """The one line that a command line is refused with."""
    done = call(app, *words)
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return str(done.stderr)


# words --------------------------------------------------------------------------------------------

OPTIONS = [
    ("sdedit", "--strength", "here it is --t0"),
    ("sdedit", "--denoising-strength", "here it is --t0"),
    ("generate", "--scheduler", "here it is --solver"),
    ("generate", "--sampler", "here it is --solver"),
    ("generate", "--guidance-scale", "here it is --cfg"),
    ("generate", "--guidance_scale", "here it is --cfg"),
    ("generate", "--cfg-scale", "here it is --cfg"),
    ("generate", "--num-inference-steps", "here it is --steps"),
    ("generate", "--num_inference_steps", "here it is --steps"),
    ("generate", "--negative-prompt", "here it is --negative"),
    ("generate", "--num-images-per-prompt", "here it is -n"),
    ("generate", "--width", "here it is --size"),
    ("generate", "--height", "here it is --size"),
    ("generate", "--lora", "here it is --adapt"),
    ("generate", "--ckpt", "here it is --model"),
    ("generate", "--outdir", "here it is --output"),
    ("generate", "--verbose", "here it is --debug"),
    ("generate", "--dry-run", "here it is --plan"),
    ("generate", "--sede", "here it is --seed"),
    ("generate", "--init-image", "take sdedit"),
    ("generate", "--mask", "take inpaint"),
    ("generate", "--upscale", "take upscale"),
    ("generate", "--aspect-ratio", "here it is --size"),
    ("generate", "--n_iter", "here it is -n"),
    ("generate", "--out-dir", "here it is --output"),
    ("dreambooth", "--lora-rank", "here it is --rank"),
    ("dreambooth", "--instance_data_dir", "give the pictures themselves: PICTURES"),
    ("sdedit", "--init-image", "give the image itself: IMAGE"),
    ("sdedit", "--alpha_mask", "here it is --alpha-mask"),
    ("inpaint", "--mask-image", "here it is --mask"),
    ("dreambooth", "--learning-rate", "here it is --rate"),
    ("generate", "--zzz", "no option --zzz (--help"),
]


@pytest.mark.parametrize(("verb", "option", "hint"), OPTIONS)
def test_unknown_options_say_what_is_meant(app: Any, verb: str, option: str, hint: str) -> None:
    line = said(app, 2, verb, option, "7")
    assert f"there is no option {option}" in line
    assert hint in line


@pytest.mark.parametrize(
    ("word", "hint"),
    [("img2img", "sdedit"), ("txt2img", "generate"), ("upscal", "upscale"), ("list", "models")],
)
def test_unknown_verbs_say_what_is_meant(app: Any, word: str, hint: str) -> None:
    assert f"there is no verb {word!r}; here it is {hint}" in said(app, 2, word, "x")
    assert "there is no verb 'qqq'" in said(app, 2, "qqq")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["sdedit"], "missing argument 'IMAGE'"),
        (["sdedit", "a.png", "--t0", "7"], "7 is not in the range"),
        (["sdedit", "a.png", "--t0"], "--t0"),
        (["generate", "--steps", "many"], "many"),
        (["generate", "--steps", "2", "--steps", "many"], "many"),
        (["generate", "--steps=2", "--steps=many"], "many"),
        (["generate", "--seed", "1.5"], "'1.5' is no whole number, nor random"),
        (["sweep", "generate"], "missing option '--over'"),
        (["sdedit", "a.png", "b.png"], "b.png"),
        (["sdedit", "a.png", "red"], "a prompt is given by -p"),
        (["--nope"], "no such option: --nope"),
        (["models", "--nope"], "no such option: --nope"),
        (["models", "download", "a/b"], "here it is pull"),
        (["help"], "put --help after a verb"),
        (["a red apple"], "a prompt comes after a verb"),
        (["/"], "a verb comes first, such as sdedit /"),
    ],
)
def test_command_lines_that_cannot_be_read(app: Any, words: list[str], line: str) -> None:
    assert line in said(app, 2, *words)


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        (["--steps", "5"], "--steps"),
        (["--solver", "heun"], "--solver"),
        (["--spacing", "karras"], "--spacing"),
        (["--size", "64"], "--size"),
        (["--negative", "blur"], "--negative"),
        (["--stages", "3"], "--stages"),
        (["--cfg", "4"], "cfg"),
        (["--with", "threshold.mode=dynamic"], "threshold"),
    ],
)
def test_what_acts_in_the_base_is_refused_beside_upscale(
    app: Any, words: list[str], idle: str
) -> None:
    Image.new("RGB", (32, 32), "red").save("a.png")
    line = f"upscale: leaves the base out, where {idle} acts; leave that out too"
    assert line in said(app, 1, "upscale", "a.png", *words)
    swept = ["sweep", "upscale", "a.png", "--over", "steps=1,2", "-o", "out"]
    assert line in said(app, 1, *swept, *words)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--packages", "nowhere"], "--packages nowhere: no such folder"),
        (["--packages", ""], "--packages: is empty"),
    ],
)
def test_data_is_not_fetched_where_packages_were_given(
    app: Any, words: list[str], line: str
) -> None:
    assert line in said(app, 1, "data", "build-emoji", *words)


def test_a_working_folder_that_is_gone(
    app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "the working folder does not exist any more" in said(app, 1, "generate", "rose")


@pytest.mark.parametrize("over", ["steps=1,2", "cfg.scale=1,2"])
def test_what_acts_in_the_base_is_not_swept_beside_upscale(app: Any, over: str) -> None:
    Image.new("RGB", (32, 32), "red").save("a.png")
    swept = said(app, 1, "sweep", "upscale", "a.png", "--over", over, "-o", "out")
    assert f"where --over {over.partition('.')[0].partition('=')[0]} acts" in swept


FIELDS = [
    (sf.SDEdit, "strength", "t0"),
    (sf.SDEdit, "init_image", "image"),
    (sf.SDEdit, "mask_image", "mask"),
    (sf.CFG, "guidance_scale", "scale"),
    (sf.CFG, "scal", "scale"),
    (sf.ILVR, "down_n", "factor"),
]


@pytest.mark.parametrize(("cls", "field", "hint"), FIELDS)
def test_unknown_fields_say_what_is_meant(cls: Any, field: str, hint: str) -> None:
    with pytest.raises(SfumatoError, match=f"no field '{field}' \\(here it is {hint}\\)"):
        cls(**{field: 1})


def test_a_word_is_never_guessed_without_a_likeness() -> None:
    assert meant("zzz", ["t0", "steps", "seed"]) is None
    assert meant("", ["t0", "steps"]) is None
    assert meant("strength", ["steps"]) is None
    assert meant("STRENGTH", ["t0"]) == "t0"


# prompts and seeds --------------------------------------------------------------------------------


def planned(app: Any, *words: str) -> dict[str, Any]:
    done = call(app, *words, "--plan", "--json", "--quiet")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_prompt_needs_no_option(app: Any) -> None:
    for words in (["red apple"], ["red", "apple"], ["-p", "red apple"]):
        assert planned(app, "generate", *words, *FAST)["prompt"] == "red apple, 3d render"
    assert "-p gives a prompt too" in said(app, 1, "generate", "red apple", "-p", "rose")
    assert f"sfumato sdedit {ROSE}" in said(app, 1, "generate", ROSE)


def test_random_seeds(app: Any) -> None:
    for word in ("random", "-1"):
        found = {planned(app, "generate", *FAST, "--seed", word)["recipe"]["seed"] for _ in "ab"}
        assert len(found) == 2
        assert all(0 <= seed < 1 << 31 for seed in found)
    done = call(app, "generate", *FAST, "--seed", "random", "-o", "a-{seed}.png")
    assert done.exit_code == 0, done.output
    seed = next(line for line in done.stderr.splitlines() if line.startswith("seed "))
    assert Path(f"a-{seed.removeprefix('seed ')}.png").exists()
    assert planned(app, "generate", *FAST, "--seed", "7")["recipe"]["seed"] == 7


# help ---------------------------------------------------------------------------------------------


def pages(app: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in ("generate", "sdedit", "inpaint", "ilvr", "diffstyler", "upscale", "run", "info",
                 "train", "dreambooth", "eval", "data", "doctor"):  # fmt: skip
        found[name] = [call(app, name, option).stdout for option in ("--help", "--help-all")]
    return found


def test_help_has_two_levels_and_two_examples(app: Any) -> None:
    for name, (short, long) in pages(app).items():
        assert short.count(f"\n  sfumato {name}") >= 2, name
        assert "--help-all" in short or short == long
        assert len(short.splitlines()) <= 45, name
        body = short[: short.rindex("\n\n")] if short != long else short
        assert set(body.split()) <= set(long.split()), name
        assert all(len(line) <= 100 for line in short.splitlines())
    short, long = pages(app)["sdedit"]
    assert short.index("--t0") < short.index("--prompt")
    for option in ("--ratio", "--composite", "--no-store", "--dtype", "--clip-guidance"):
        assert option not in short
        assert option in long
    assert "default 1" in long
    assert "0<=x<=1" in short
    for words in ([], ["sweep"], ["batch"], ["models"]):
        page = call(app, *words, "--help").stdout
        assert "Examples:" in page
    assert call(app, "sweep", "sdedit", "--help").stdout.count("--over") >= 3


def test_every_example_of_the_help_can_be_read(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the command line goes: the verbs themselves do nothing here."""
    import shlex

    run: list[Any] = []
    monkeypatch.setattr(main, "guarded", lambda body, values, debug: run.append(values))
    lines = []
    for words in ([], ["sweep"], ["batch"], ["models"], *([name] for name in pages(app))):
        page = call(app, *words, "--help").stdout
        lines += page[page.index("Examples:") :].splitlines()[1:]
    for name in ("sdedit", "generate", "inpaint", "upscale", "ilvr", "diffstyler"):
        for group in ("sweep", "batch"):
            page = call(app, group, name, "--help").stdout
            lines += page[page.index("Examples:") :].splitlines()[1:]
    tried = 0
    for line in lines:
        if line.startswith("  "):
            done = call(app, *shlex.split(line)[1:])
            assert done.exit_code == 0, (line, done.output)
            tried += 1
    assert tried == len(run) > 40


def test_python_m(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sfumato"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == sf.__version__
    done = subprocess.run([*command, "sdedit", "--strength"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "here it is --t0" in done.stderr


# plans --------------------------------------------------------------------------------------------


def mask(share: int) -> str:
    made = Image.new("L", (256, 256))
    made.paste(1, (0, 0, 256, share))
    made.save("mask.png")
    return "mask.png"


def test_a_plan_is_told_in_sentences(app: Any) -> None:
    words = ["sdedit", ROSE, "-p", "rose", "--t0", "0.6", "--mask", mask(64), "--steps", "7"]
    done = call(app, *words, "--cfg", "2", "-n", "2", "--seed", "5", "--plan")
    assert done.exit_code == 0, done.output
    text, side = done.stdout, bundled().card.native[0]
    larger, first = side * bundled().card.factor(2), upsampling(bundled())[0]
    for part in (
        "Pictures of “rose, 3d render” by model emoji, seeds 5 to 6.",
        "sdedit (image rose.png, t0 0.6, mask mask.png)",
        "cfg (scale 2)",
        f"7 steps of dpmpp-2m-sde from t = 0.6 to 0 at {side}x{side}: 7 network calls.",
        f"Then upsampler 1 to {larger}x{larger}: {first} calls.",
        "25.0% of the picture's pixels may change",
        "2 pictures of 256x256 pixels",
        "That takes about ",
        "Nothing was made or written",
    ):
        assert part in text, text
    assert "{" not in text
    assert sorted(file.name for file in Path().iterdir()) == ["mask.png"]
    plan = planned(app, *words)
    assert plan["edited"] == 0.25
    assert plan["seconds"] > 0
    assert plan["calls"] == [7, *upsampling(bundled())]
    assert planned(app, "generate", "a")["edited"] is None


def test_a_plan_calls_no_network(
    app: Any, emoji: sf.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = set()
    forward = torch.nn.Conv2d.forward

    def watched(self: Any, x: Any) -> Any:
        kinds.add(x.device.type)
        return forward(self, x)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", watched)
    call(app, "generate", "a", "--plan")
    assert kinds <= {"meta"}


def test_seconds_follow_the_work(emoji: sf.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "throughput", lambda choice: 1e11)

    def seconds(**given: Any) -> float:
        return cost.seconds(emoji.process("a", **given), emoji.choice) or 0

    one = seconds(steps=10, stages=1)
    assert seconds(steps=20, stages=1) == pytest.approx(2 * one)
    assert seconds(steps=10, stages=1, n=8) > 3 * one
    all_stages = 1 + len(emoji.card.upsamplers)
    growing = [seconds(steps=10, stages=k + 1) for k in range(all_stages)]
    assert growing == [one, *sorted(set(growing[1:]))]
    assert growing[1] > one
    assert growing[-1] == seconds(steps=10)
    untouched = emoji.process("a") | sf.SDEdit(ROSE, t0=0)
    assert cost.seconds(untouched, emoji.choice) == 0
    shares = cost.shares(emoji.process("a"))
    assert len(shares) == all_stages
    assert max(shares) == 1


def test_plans_of_latent_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(cost, "throughput", lambda choice: 1e9)
    pipelines.stable(tmp_path, "sd1-inpaint")
    model = sf.load(str(tmp_path / "pipeline"))
    assert len(repr(model)) < 600
    process = model.process("red cat", steps=5)
    picture, edit = Image.open(ROSE), Image.linear_gradient("L")
    for made in (process, process | sf.SDEdit(ROSE), process | sf.Inpaint(picture, mask=edit)):
        seconds = cost.seconds(made, model.choice)
        assert seconds is not None
        assert seconds > 0.01
        text = Composed(made, 0).plan(as_json=False)
        assert "5 steps of dpmpp-2m" in text
        assert "Upsampler" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "a second"), (4.44, "4.4 s"), (44, "40 s"), (200, "3 minutes"), (9000, "2.5 hours")],
)
def test_times_in_words(seconds: float, text: str) -> None:
    assert planning.lasting(seconds).startswith(text)


# what else is shown -------------------------------------------------------------------------------


def test_sheets_begin_with_the_guide(app: Any) -> None:
    rose = Image.new("RGB", (32, 32), (1, 200, 3))
    rose.save("green.png")
    done = call(
        app, "sdedit", "green.png", "-n", "2", "--t0", "0.1", *FAST, "--sheet", "-o", "a.png"
    )
    assert done.exit_code == 0, done.output
    page = np.asarray(Image.open("a-1-sheet.png").convert("RGB"))
    first = page[page.shape[0] // 2, : page.shape[1] // 3]
    assert ((first == (1, 200, 3)).all(1)).sum() > 100
    assert done.stdout.split()[-1] == "a-1-sheet.png"


def scene() -> Image.Image:
    """As a camera sees: shades everywhere, and noise on them."""
    noise = np.random.default_rng(0).normal(0, 8, (120, 160, 3))
    shades = np.mgrid[0:120, 0:160].transpose(1, 2, 0) @ [[1.2, 0.9, 0.3], [0.4, 0.7, 1.1]]
    return Image.fromarray((shades + noise).clip(0, 255).astype(np.uint8))


def test_a_photo_on_the_bundled_model_is_told_what_it_knows(app: Any) -> None:
    scene().save("photo.png")
    words = ["sdedit", "photo.png", "-p", "rose", *FAST, "--plan"]
    done = call(app, *words)
    (line,) = [line for line in done.stderr.splitlines() if "looks like a photo" in line]
    assert "photo.png: looks like a photo; model emoji knows Emoji drawings from words" in line
    assert "looks like a photo" not in call(app, *words, "--quiet").stderr
    assert "looks like a photo" not in call(app, "sdedit", ROSE, *FAST, "--plan").stderr


@pytest.mark.parametrize(("prompt", "strange"), [
    ("portrait of my grandmother", "“portrait”"), ("cyberpunk kitchen", "“cyberpunk”"),
    ("(Zaphod:1.3), Beeblebrox", "“zaphod”, “beeblebrox”"), ("red apple", ""), ("", ""),
    ("two cats, ink drawing", ""), ("고양이 얼굴", ""), ("a photo of a city at night", ""),
])  # fmt: skip
def test_a_prompt_of_strange_words_is_told_what_the_model_knows(
    app: Any, prompt: str, strange: str
) -> None:
    lines = call(app, "generate", prompt, *FAST, "--plan").stderr.splitlines()
    told = [line for line in lines if "no caption that model emoji learned from has" in line]
    assert [strange in line for line in told] == ([True] if strange else [])


def test_drawings_are_no_photos() -> None:
    drawings = [*(ROOT / "examples" / "strokes").glob("*.png")]
    drawings += (ROOT / "examples" / "pictures").glob("*.png")
    assert len(drawings) > 5
    assert not any(photographic(sf.open_image(file)) for file in drawings)
    clear = scene().convert("RGBA")
    assert photographic(sf.open_image(clear))
    clear.putalpha(0)
    assert not photographic(sf.open_image(clear))


def test_one_bar_for_all_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    with show.progress([10, 6, 3], False, [0.5, 1.0, 0.25]) as update:
        bars = []
        monkeypatch.setattr(
            "rich.progress.Progress.update", lambda self, task, **what: bars.append(what)
        )
        for stage, calls in ((0, 10), (1, 3), (2, 3)):
            update(SimpleNamespace(stage=stage, calls=calls))
    assert [bar["completed"] for bar in bars] == [5, 8, 11.75]
    assert bars[1]["description"] == "upsampler 1 3/6"
    with show.progress([1], True) as update:
        assert update is None


def test_lists(app: Any) -> None:
    listed = call(app, "models").stdout
    for part in ("Here, with the program:", "emoji", "sfumato models pull ", "--model NAME",
                 "guided-diffusion", "glide-text2im"):  # fmt: skip
        assert part in listed
    assert all(len(line) <= 100 for line in listed.splitlines())
    entries = json.loads(call(app, "models", "--json").stdout)
    assert {"name", "where", "title", "source"} == set(entries[0])


def test_doctor_lists_what_is_there_and_what_is_missing(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(doctor.OPTIONAL, "no-such-package-here", "for nothing")
    found = json.loads(call(app, "doctor", "--json").stdout)
    assert found["no-such-package-here"].startswith("missing, pip install no-such-package-here")
    for name in ("diffusers", "transformers", "torch"):
        assert found[name][0].isdigit()


def test_models_and_processes_print_in_a_few_lines(emoji: sf.Model) -> None:
    process = emoji.process("red apple") | sf.SDEdit(ROSE, t0=0.4) | sf.CFG(4)
    for value in (emoji, process, process.base, emoji.denoiser, emoji.process("a", stages=1)):
        assert len(repr(value)) < 600
        assert len(repr(value).splitlines()) < 8
        assert str(value) == repr(value)
    assert "sdedit (image rose.png, t0 0.4)" in repr(process)
    networks = {id(one.network): one.network for one in (emoji.denoiser, *emoji.upsamplers)}
    count = sum(p.numel() for net in networks.values() for p in net.parameters())
    assert f"{count / 1e6:.1f} M" in repr(emoji)


def test_bitsandbytes_kernels_are_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    import sfumato.models.files.pipeline  # noqa: F401

    log = logging.getLogger("bitsandbytes.backends.cpu.ops")
    log.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s", "none")
    assert caplog.text == ""
    log.warning("something else")
    assert "something else" in caplog.text


def test_the_demo_ends_with_what_to_call(monkeypatch: pytest.MonkeyPatch) -> None:
    import runpy

    demo = runpy.run_path(str(ROOT / "examples" / "demo.py"))
    program = Path(sys.executable).with_name("sfumato")
    monkeypatch.setenv("PATH", os.devnull)
    assert demo["called"]() in (str(program), f"{sys.executable} -m sfumato")
    monkeypatch.setenv("PATH", str(program.parent))
    if program.exists():
        assert demo["called"]() == "sfumato"


def test_grids_of_training_have_labels() -> None:
    rows = [torch.zeros(3, 3, 16, 16), torch.ones(2, 3, 16, 16)]
    plain, labelled = tiled(rows), tiled(rows, labels=["yours", "a red cat\na dog"])
    assert labelled.height == plain.height
    beside = np.asarray(labelled)[:, plain.width :]
    for half in np.split(beside, 2):
        assert half.min() < 100, "a text in every row"
    assert np.array_equal(np.asarray(labelled)[:, : plain.width], plain)


def test_a_prompt_of_many_bytes_is_no_path() -> None:
    """Systems count a name's bytes: 90 letters of three bytes each are more than they take."""
    for words in ("가" * 90, "a" * 256, "가" * 5000, "\ud800" * 90, "a\0b"):
        assert prompted({"words": [words], "prompt": None})["prompt"] == words
