"""Pictures of other programs: their settings as a recipe, and a line of all that is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from helpers.foreign import A1111, COMFY, FLUX, FOOOCUS, INVOKE, node
from sfumato.core.errors import SfumatoError
from sfumato.models import replay
from sfumato.recipe import foreign
from sfumato.recipe.fields import UNKNOWN
from sfumato.recipe.foreign import samplers


def picture(folder: Path, **texts: Any) -> Path:
    info = PngInfo()
    for key, value in texts.items():
        text = value if isinstance(value, str) else json.dumps(value)
        info.add_itxt(key, text)
    file = folder / "other.png"
    PILImage.new("RGB", (8, 8)).save(file, pnginfo=info)
    return file


def read(key: str, value: Any) -> foreign.Foreign:
    text = value if isinstance(value, str) else json.dumps(value)
    found = foreign.read({key: text}, "x.png")
    assert found is not None
    return found


WEB = Path(__file__).parents[2] / "web"
CASES, NAMES = WEB / "tests" / "samplers.json", WEB / "src" / "png" / "samplers.json"
NOISE = "noise is drawn otherwise here: the same seed gives another picture"


def test_a1111() -> None:
    found = read("parameters", A1111)
    recipe = found.recipe
    assert (found.program, found.needs) == ("A1111", ())
    assert (recipe.prompt, recipe.negative) == ('a "cat", (red:1.2) \nsecond line', "dog,\nblurry")
    assert (recipe.steps, recipe.seed, recipe.size) == (20, 42, (512, 768))
    assert (recipe.model, recipe.solver, recipe.spacing) == ("dreamy", "dpmpp-2m", "karras")
    assert recipe.methods == ({"method": "cfg", "scale": 7.5},)
    assert recipe.adapters == ({"file": "style.safetensors", "sha256": UNKNOWN, "scale": 0.8},)
    assert found.left == ("Clip skip: 2 is not carried over", NOISE)


@pytest.mark.parametrize(
    ("sampler", "solver", "spacing", "said"),
    [
        ("DPM++ 2M Karras", "dpmpp-2m", "karras", None),
        ("Euler a", "euler-a", None, None),
        ("Euler", "ddim", None, None),
        ("DPM++ 2M SDE", "dpmpp-2m-sde", None, None),
        ("DPM++ 2M, Schedule type: Automatic", "dpmpp-2m", "karras", None),
        ("DPM++ 2M, Schedule type: Beta", "dpmpp-2m", None, "schedule Beta is not here"),
        ("DDIM", "ddim", None, None),
        ("PLMS", "plms", None, None),
        ("UniPC", None, None, "sampler UniPC is not here, the nearest is dpmpp-2m"),
        ("DPM++ 3M SDE", None, None, "sampler DPM++ 3M SDE is not here"),
        ("Restart", None, None, "sampler Restart is not here; the model's own"),
        ("dpmpp-2m", "dpmpp-2m", None, None),
        ("LCM", "lcm", None, None),
    ],
)
def test_samplers(sampler: str, solver: str | None, spacing: str | None, said: str | None) -> None:
    found = read("parameters", f"cat\nSteps: 5, Sampler: {sampler}, Seed: 1, Model: m")
    assert (found.recipe.solver, found.recipe.spacing) == (solver, spacing)
    lines = [line for line in found.left if line != NOISE]
    assert len(lines) == (said is not None)
    if said is not None:
        assert said in lines[0]


def test_the_studio_reads_samplers_alike() -> None:
    """What is expected of its reader is what this one says, of every name and schedule known."""
    rows: list[dict[str, Any]] = json.loads(CASES.read_text(encoding="utf-8"))
    for row in rows:
        solver, spacing, lines = samplers.meant(row["sampler"], row["schedule"])
        words = {"sampler": "Sampler", "schedule": "Schedule type"}
        left = [words[line.partition(" ")[0]] for line in lines]
        assert (solver, spacing, left) == (row["solver"], row["spacing"], row["left"]), row
    read = {samplers.letters(row["sampler"]) for row in rows}
    assert set(samplers.SAMPLERS) <= read
    schedules = {samplers.letters(row["schedule"] or "") for row in rows}
    assert set(samplers.SPACINGS) <= schedules
    names = json.loads(NAMES.read_text(encoding="utf-8"))
    assert names["samplers"] == samplers.SAMPLERS
    assert names["spacings"] == samplers.SPACINGS


def test_a1111_s_other_words() -> None:
    hires = "Denoising strength: 0.5, Hires upscale: 2, Hires upscaler: Latent"
    text = (
        f"((cat)), [dog:0.3]\nSteps: 5, Seed: -1, CFG scale: 1, Distilled CFG Scale: 3.5, {hires}"
    )
    found = read("parameters", text)
    assert found.recipe.methods[1] == {"method": "distilled_guidance", "scale": 3.5}
    assert found.recipe.seed == 0
    assert found.needs == ("it names no model; give --recipe and --model",)
    said = " ".join(found.left)
    assert "brackets without a number" in said
    assert "Denoising strength 0.5 is of the enlarged pass" in said
    assert "Hires upscale: 2 is not carried over" in said
    edit = read("parameters", "cat\nSteps: 5, Denoising strength: 0.45, Model: m")
    assert "sfumato sdedit PICTURE --recipe this --t0 0.45" in edit.needs[0]


def test_fooocus_in_both_schemes() -> None:
    found = read("parameters", FOOOCUS)
    recipe = found.recipe
    assert found.program == "Fooocus"
    assert recipe.prompt == "cinematic still a field . film grain, a field, detailed"
    assert recipe.negative == "(worst quality:1.4), ugly"
    assert (recipe.steps, recipe.seed, recipe.size) == (30, 127589946317439009, (896, 1152))
    assert (recipe.solver, recipe.spacing) == ("dpmpp-2m-sde", "karras")
    assert recipe.model == "juggernautXL_v8Rundiffusion"
    assert [a["file"] for a in recipe.adapters] == ["offset_1.0.safetensors"]
    said = " ".join(found.left)
    assert "sharpness: 2 is not carried over" in said
    assert "adm_guidance: (1.5, 0.8, 0.3) is not" in said
    words = (
        "a field, detailed\nNegative prompt: ugly\nSteps: 30, Sampler: DPM++ 2M SDE Karras, Seed: "
        "1, Size: 896x1152, CFG scale: 4, Sharpness: 2, Model: j, Scheduler: karras, "
        'Raw prompt: a field, Lora weights: "offset_1.0: 0.1, b: 1", Version: Fooocus v2.5.5'
    )
    other = read("parameters", words)
    assert other.program == "Fooocus"
    assert [(a["file"], a["scale"]) for a in other.recipe.adapters] == [
        ("offset_1.0.safetensors", 0.1), ("b.safetensors", 1.0),
    ]  # fmt: skip
    combined = {key: value for key, value in FOOOCUS.items() if key != "loras"}
    assert read("parameters", combined).recipe.adapters[0]["scale"] == 0.1


def test_invokeai() -> None:
    found = read("invokeai_metadata", INVOKE)
    recipe = found.recipe
    assert (recipe.model, recipe.steps, recipe.seed, recipe.size) == (
        "juggernaut", 30, 7, (1024, 768),
    )  # fmt: skip
    assert (recipe.solver, recipe.spacing) == ("dpmpp-2m-sde", "karras")
    assert recipe.methods == ({"method": "cfg", "scale": 6.5, "rescale": 0.5},)
    assert [a["file"] for a in recipe.adapters] == ["detail.safetensors", "old.safetensors"]
    said = " ".join(found.left)
    assert "hrf_enabled: True is not carried over" in said
    assert "vae: {'name': 'sdxl-vae'} is not" in said
    assert "clip_skip" not in said
    edit = INVOKE | {"generation_mode": "img2img", "init_image": "a.png", "strength": 0.4}
    assert (
        "from a picture a.png that is not in the file" in read("invokeai_metadata", edit).needs[0]
    )


def test_comfyui() -> None:
    found = read("prompt", COMFY)
    recipe = found.recipe
    assert (recipe.prompt, recipe.negative, recipe.model) == ("a cat", "ugly", "dream.safetensors")
    assert (recipe.steps, recipe.seed, recipe.size) == (25, 5, (512, 640))
    assert (recipe.solver, recipe.spacing) == ("euler-a", None)
    assert [(a["file"], a["scale"]) for a in recipe.adapters] == [
        ("first.safetensors", 0.5), ("second.safetensors", 1.0),
    ]  # fmt: skip
    assert found.left == (
        "strength_clip 0.2 is another than the network's",
        "node ImageScale (13) is not carried over",
        NOISE,
    )
    assert not found.needs


def test_comfyui_s_other_samplers() -> None:
    found = read("prompt", FLUX)
    assert found.recipe.methods == ({"method": "distilled_guidance", "scale": 3.5},)
    assert (found.recipe.seed, found.recipe.steps, found.recipe.prompt) == (9, 20, "a cat")
    assert found.recipe.model == "flux1-dev.safetensors"
    assert found.left == (NOISE,)
    edit = {**COMFY, "5": node("VAEEncode", pixels=["20", 0], vae=["4", 2]),
            "20": node("LoadImage", image="photo.png")}  # fmt: skip
    edit["3"] = node(**{"kind": "KSampler", **COMFY["3"]["inputs"], "denoise": 0.6})
    assert (
        "photo.png that is not in the file; sfumato sdedit PICTURE --recipe this --t0 0.6"
        in (read("prompt", edit).needs[0])
    )


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("parameters", "just words", "x.png: parameters have no settings"),
        ("parameters", "cat\nSteps: many, Model: m", "Steps = 'many': input should be"),
        ("parameters", "cat\nSteps: 0, Model: m", "Steps = 0"),
        ("parameters", "cat\nSteps: 5, CFG scale: 1e999, Model: m", "CFG scale = '1e999'"),
        ("parameters", "cat\nSteps: 5, Size: big, Model: m", "Size = 'big': must be WIDTHxHEIGHT"),
        ("parameters", "cat\nSteps: 5, Size: 0x5, Model: m", "size: width = 0"),
        ("parameters", "cat\nSteps: 5, Model: ..", "model.*is no bare name"),
        ("parameters", f"{'x' * 20_000}\nSteps: 5, Model: m", "prompt"),
        ("parameters", "{broken", "is not JSON"),
        ("parameters", '{"steps": "x"}', "steps = 'x'"),
        ("parameters", '{"seed": "many"}', "seed = 'many': must be a whole number"),
        ("parameters", '{"resolution": "os.exit"}', "must be .WIDTH, HEIGHT."),
        ("parameters", '{"loras": [["a", "b"]]}', "each is a name and a weight"),
        ("parameters", '{"steps": 1, "steps": 2}', "has 'steps' twice"),
        ("invokeai_metadata", '{"steps": -1}', "steps = -1"),
        ("invokeai_metadata", "[]", "invokeai_metadata"),
        ("prompt", '{"1": {"class_type": "KSampler"}, "2": {"class_type": "KSampler"}}',
         r"workflows of one sampler .* has KSampler \(1\), KSampler \(2\)"),
        ("prompt", '{"1": {"inputs": {}}}', "class_type is missing"),
        ("prompt", '{"1": {"class_type": "X"}}', "none that is known"),
        ("sd-metadata", "{}", "settings of InvokeAI 2"),
        ("prompt", "{" + " " * (5 << 20), "longer than 4 MiB"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(key: str, value: str, said: str) -> None:
    with pytest.raises(SfumatoError, match=said) as raised:
        read(key, value)
    assert "\n" not in str(raised.value)


def test_a_graph_that_runs_in_circles_ends() -> None:
    graph = {"1": node("KSampler", model=["2", 0], positive=["1", 0], latent_image=["2", 0]),
             "2": node("LoraLoader", lora_name="a", model=["1", 0])}  # fmt: skip
    assert read("prompt", graph).needs


def test_long_texts_take_no_time() -> None:
    for line in ("a" * 19_000, " " * 19_000, '"' * 19_000, "a:" * 9_000, 'a: "' * 4_500):
        with pytest.raises(SfumatoError):
            read("parameters", f"{'x' * 20_000}\nSteps: 5, {line}")
    with pytest.raises(SfumatoError, match="settings is longer than 20,000"):
        read("parameters", f"Steps: 5, {'a' * 30_000}")
    graph = {str(k): node("X", a=[str(k + 1), 0]) for k in range(20_000)}
    graph["0"] = node("KSampler", model=["1", 0], seed=3)
    assert "and 19,949 more that are not carried over" in read("prompt", graph).left


def test_no_settings_are_none() -> None:
    assert foreign.read({"prompt": "a text of another program"}, "x.png") is None
    assert foreign.read({}, "x.png") is None


def test_a_picture_is_shown_run_and_gone_on_from(
    tmp_path: Path, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "red apple\nSteps: 1, Sampler: Euler, CFG scale: 2, Seed: 3, Size: 32x32, Model: emoji"
    file = picture(tmp_path, parameters=words)
    shown = CliRunner().invoke(app, ["info", str(file)])
    assert json.loads(shown.stdout)["methods"] == [{"method": "cfg", "scale": 2.0}]
    assert "of A1111: noise is drawn otherwise here" in shown.stderr
    made = CliRunner().invoke(app, ["run", str(file), "-o", "again.png"])
    assert made.exit_code == 0, made.output
    recipe = replay.read_recipe(tmp_path / "again.png")
    assert (recipe.steps, recipe.seed, recipe.solver["solver"]) == (1, 3, "ddim")
    edit = picture(tmp_path, parameters=words + ", Denoising strength: 0.5")
    refused = CliRunner().invoke(app, ["run", str(edit)])
    assert refused.exit_code == 1
    assert "of A1111; it began from a picture that is not in the file" in refused.stderr
    asked = ["sdedit", "again.png", "--recipe", str(edit), "--t0", "0.5", "--plan", "--json"]
    planned = CliRunner().invoke(app, asked)
    assert planned.exit_code == 0, planned.output
    assert json.loads(planned.stdout)["times"][0] == 0.5


@pytest.mark.parametrize(
    ("key", "value"), [("invokeai_metadata", INVOKE), ("prompt", COMFY), ("parameters", FOOOCUS)]
)
def test_pictures_of_every_program_are_read(tmp_path: Path, key: str, value: Any) -> None:
    assert replay.read_recipe(picture(tmp_path, **{key: value})) == read(key, value).recipe


def test_a_model_is_found_beside_the_picture_by_its_stem(tmp_path: Path) -> None:
    file = picture(tmp_path, parameters="cat\nSteps: 5, Model: dream")
    assert replay.read_recipe(file).model == "dream"
    (tmp_path / "dream.safetensors").write_bytes(b"x")
    assert replay.read_recipe(file).model == "dream.safetensors"
