"""The bundled model end to end: sizes, calls, exactness outside the mask, recipes that replay."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

import sfumato as sf
from helpers.families import upsampling
from sfumato.core.errors import SfumatoError
from sfumato.core.solvers import solver
from sfumato.models import notebook
from sfumato.models.card import Card
from sfumato.models.cascade import quantise
from sfumato.models.loaders import library, openai

SIZE = (61, 47)


@pytest.fixture(scope="module")
def model() -> sf.Model:
    return sf.load("emoji", dtype="float32")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def seen(model: sf.Model) -> Any:
    """Shapes of every call of the base and of the upsampler, which may serve several stages."""
    shapes: dict[str, list[tuple[int, ...]]] = {"base": [], "up": [], "low": []}

    def hook(name: str) -> Any:
        def watch(module: Any, args: Any) -> None:
            shapes[name].append(tuple(args[0].shape))
            if name == "up":
                shapes["low"].append(args[2]["low_res"])

        return watch

    nets: Any = (model.denoiser.network, model.upsamplers[0].network)
    handles = [
        net.register_forward_pre_hook(hook(n)) for net, n in zip(nets, ("base", "up"), strict=True)
    ]
    yield shapes
    for handle in handles:
        handle.remove()


def picture(size: tuple[int, int] = SIZE, mode: str = "RGB") -> PIL.Image.Image:
    """A smooth colourful picture with some noise in every pixel."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[1], : size[0]]
    bands = [x * 255 // size[0], y * 255 // size[1], (x + y) % 256]
    pixels = np.stack(bands, -1) + rng.integers(-9, 9, (size[1], size[0], 3))
    return PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8), "RGB").convert(mode)


def spot(size: tuple[int, int] = SIZE) -> PIL.Image.Image:
    """An edit mask with a soft edge: a disc left of the middle."""
    y, x = np.mgrid[: size[1], : size[0]]
    far = np.hypot(x - size[0] * 0.4, y - size[1] * 0.5) - min(size) * 0.25
    return PIL.Image.fromarray((255 * (1 - far / 3).clip(0, 1)).astype(np.uint8), "L")


def test_large_jpeg_takes_exactly_its_steps(model: sf.Model, seen: Any, tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    picture((3000, 2000)).save(path)
    side = model.card.native[0]
    work, above = (side * 5 // 4, side), upsampling(model)
    for stages, calls in ((1, [5]), (1 + len(above), [5, *above])):
        seen["base"].clear()
        result = (
            model.process("castle", steps=5, stages=stages) | sf.SDEdit(path, t0=0.4)
        ).sample()
        assert result.images[0].size == (3000, 2000)
        assert list(result.calls) == calls
        assert result.recipe.run["work_size"] == [*work]  # about native area, padded
        assert seen["base"] == [(2, 3, work[1], work[0])] * 5
    sizes = [model.card.factor(k + 2) for k in range(len(above))]
    shapes = [(1, 3, work[1] * size, work[0] * size) for size in sizes]
    assert seen["up"] == [one for one, n in zip(shapes, above, strict=True) for _ in range(n)]
    for low in (seen["low"][0], seen["low"][-1]):
        assert torch.equal(low, quantise(low)), "the upsampler reads an 8-bit picture"


def test_sizes_of_results(model: sf.Model) -> None:
    def size(process: Any) -> tuple[int, int]:
        found: tuple[int, int] = process.sample().images[0].size
        return found

    assert size(model.process("red apple", steps=1)) == (256, 256)
    for stages in range(1, 1 + len(model.card.upsamplers)):
        side = model.card.native[0] * model.card.factor(stages)
        assert size(model.process("red apple", steps=1, stages=stages)) == (side, side)
    assert size(model.process("red apple", steps=1, size=(200, 100))) == (200, 100)
    edit = sf.SDEdit(picture(), t0=0.3)
    assert size(model.process(steps=1) | edit) == SIZE
    assert size(model.process(steps=1, size="native") | edit)[0] > 2 * SIZE[0] - 10
    assert size(model.process(steps=1, size="input", stages=1) | edit) == SIZE
    with pytest.raises(SfumatoError, match="3000"):
        (model.process(steps=1, size="input") | sf.SDEdit(picture((3000, 2000)))).sample()


def test_no_stage_is_run_whose_result_would_be_made_smaller(model: sf.Model) -> None:
    """In a cascade whose one upsampler serves two stages."""
    first = replace(model.card.upsamplers[0], factor=4)
    second = replace(first, factor=2, defaults=replace(first.defaults, steps=3))
    card = replace(model.card, native=(32, 32), upsamplers=(first, second))
    twice = replace(model, card=card, upsamplers=(model.upsamplers[0],) * 2)
    for sides, calls in (((30, 24), [1, 0, 0]), (SIZE, [1, 6, 0]), ((160, 120), [1, 6, 3])):
        cascade = twice.process(steps=1) | sf.SDEdit(picture(sides), t0=0.3)
        assert cascade.calls == calls
    edit = sf.SDEdit(picture(), t0=0.3)
    assert list((twice.process(steps=1) | edit).sample().calls) == [1, 6, 0]


def exif(image: PIL.Image.Image, orientation: int, path: Path) -> Path:
    tags = PIL.Image.Exif()
    tags[0x0112] = orientation
    image.save(path, exif=tags)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_bit_for_bit_outside_the_mask_in_every_orientation(
    model: sf.Model, orientation: int, tmp_path: Path
) -> None:
    path = exif(picture(), orientation, tmp_path / "photo.png")
    original = sf.open_image(path)
    upright = SIZE if orientation < 5 else SIZE[::-1]
    assert original.size == upright
    bit_for_bit(model, path, spot(upright))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_bit_for_bit_outside_the_mask_in_every_mode(
    model: sf.Model, mode: str, tmp_path: Path
) -> None:
    path = tmp_path / ("photo.tif" if mode == "CMYK" else "photo.png")
    if mode == "I;16":
        grey = np.asarray(picture(mode="L")).astype(np.uint16) * 257 + 99
        PIL.Image.fromarray(grey).save(path)
    else:
        image = picture(mode=mode)
        if mode in ("LA", "RGBA"):
            image.putalpha(spot().point([255 - v // 3 for v in range(256)]))
        image.save(path)
    bit_for_bit(model, path, spot())


def bit_for_bit(model: sf.Model, path: Path, mask: PIL.Image.Image) -> None:
    process = model.process("blue heart", steps=1, stages=1) | sf.SDEdit(path, t0=0.7, mask=mask)
    made = process.sample().images[0]
    original = sf.open_image(path)
    assert made.size == original.size
    kept = np.asarray(mask) == 0
    before, after = np.asarray(original), np.asarray(made.convert("RGB"))
    assert (before[kept] == after[kept]).all()
    assert (before[~kept] != after[~kept]).any()
    if original.alpha is not None:
        assert made.mode == "RGBA"
        assert (np.asarray(made.getchannel("A")) == np.asarray(original.alpha)).all()


def test_small_mask_works_on_its_surroundings_only(model: sf.Model, seen: Any) -> None:
    big = picture((640, 480))
    mask = PIL.Image.new("L", big.size)
    mask.paste(255, (500, 300, 540, 340))
    edit = sf.SDEdit(big, t0=0.7, mask=mask)
    result = (model.process("blue heart", steps=2) | edit).sample()
    made = np.asarray(result.images[0])
    changed = np.argwhere((made != np.asarray(big)).any(-1))
    assert changed.min(0).tolist() >= [300, 500]
    assert changed.max(0).tolist() <= [339, 539]
    assert len(changed) > 1000
    assert "640x480" in result.images[0].recipe.to_json() or result.recipe.run["size"] == [640, 480]


def test_stroke_edit_changes_what_was_painted(model: sf.Model) -> None:
    photo = picture((96, 96))
    painted = photo.copy()
    painted.paste((200, 20, 20), (30, 30, 60, 60))
    edit = sf.SDEdit.preset("stroke-edit", image=photo, strokes=painted)
    made = np.asarray((model.process("red apple", steps=2) | edit).sample().images[0])
    changed = (made != np.asarray(photo)).any(-1)
    assert changed[30:60, 30:60].mean() > 0.9
    changed[30:60, 30:60] = False
    assert not changed.any()


def test_transparent_parts_as_the_mask(model: sf.Model) -> None:
    image = picture(mode="RGBA")
    alpha = spot().point([0 if v else 255 for v in range(256)])
    image.putalpha(alpha)
    made = (model.process("x", steps=1, stages=1) | sf.SDEdit(image, alpha_mask=True)).sample()
    assert made.images[0].getextrema()[3] == (255, 255), "what was transparent is painted now"
    kept = np.asarray(alpha) == 255
    assert (np.asarray(made.images[0].convert("RGB"))[kept] == np.asarray(picture())[kept]).all()


@pytest.mark.parametrize("stages", [1, 2])
def test_t0_zero_is_the_input(model: sf.Model, seen: Any, stages: int) -> None:
    process = model.process("castle", n=2, steps=4, stages=stages) | sf.SDEdit(picture(), t0=0)
    assert list(process.steps()) == []
    result = process.sample()
    assert list(result.calls) == [0] * stages
    assert seen["base"] == seen["up"] == []
    assert (np.asarray(result.images[1]) == np.asarray(picture())).all()


def test_pictures_agree_between_batch_sizes(model: sf.Model) -> None:
    whole = model.process("tiger face", n=3, steps=6, stages=1).sample(seed=4).images
    for j in range(3):
        alone = model.process("tiger face", steps=6, stages=1).sample(seed=4 + j).images[0]
        gap = np.asarray(whole[j]).astype(int) - np.asarray(alone).astype(int)
        assert abs(gap).max() <= 1


class Tint(sf.Guide):
    """A user's guide: less green."""

    through = "prediction"
    name = "tint"

    def logp(self, x: Tensor, pred: sf.Prediction, call: sf.Call) -> Tensor:
        return -5 * x[:, 1].mean((1, 2))


def test_composition_is_canonical_on_the_bundled_model(model: sf.Model) -> None:
    methods = [sf.SDEdit(picture(), t0=0.6, mask=spot()), sf.CFG(2.5), Tint()]
    results = []
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        process = model.process("red apple", steps=2, stages=1)
        for k in order:
            process = process | methods[k]
        results.append(np.asarray(process.sample(seed=3).images[0]))
    assert all((results[0] == other).all() for other in results[1:])
    plain = model.process("red apple", steps=2, stages=1) | methods[0] | methods[1]
    assert (results[0] != np.asarray(plain.sample(seed=3).images[0])).any(), "the guide acts"


def test_card_fills_empty_slots_and_methods_switch_off(model: sf.Model) -> None:
    recipe = model.process("red apple", stages=1, steps=1).sample().recipe
    assert [m["method"] for m in recipe.methods] == ["cfg", "threshold"]
    assert recipe.methods[0]["scale"] == 3
    assert recipe.prompt == "red apple, 3d render"
    assert recipe.solver == {"solver": "dpmpp-2m-sde", "eta": 1.0}
    assert recipe.spacing == "uniform"
    process = model.process("rose, flat", stages=1, steps=1) | sf.CFG(1) | sf.Threshold("none")
    recipe = process.sample().recipe
    assert recipe.prompt == "rose, flat"
    assert recipe.methods[0]["scale"] == 1
    assert recipe.methods[1]["mode"] == "none"
    assert model.process(spacing="27", stages=1).times[0] == 1.0


def test_run_replays_any_picture_of_a_batch(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = sf.load("emoji")
    source = tmp_path / "in" / "stroke.png"
    source.parent.mkdir()
    picture().save(source)
    mask = source.with_name("mask.png")
    spot().save(mask)
    process = model.process("red apple", n=3, steps=3, solver={"solver": "ddim", "eta": 1.0})
    result = (process | sf.SDEdit(source, t0=0.6, mask=mask, repeats=2)).sample(seed=11)
    paths = result.save(tmp_path / "edit.png")
    assert [p.name for p in paths] == ["edit-1.png", "edit-2.png", "edit-3.png"]
    text = result.recipe.to_json()
    assert str(tmp_path) not in text, "a full path leaks the user's folders"
    source.unlink()
    mask.unlink()
    same(sf.run(paths[1]), paths[1], 1)  # from the store
    shutil.rmtree(home)
    with pytest.raises(SfumatoError, match=r"input stroke\.png .*put it there"):
        sf.run(paths[2])
    monkeypatch.chdir(tmp_path)
    picture().save(source.name)  # beside the picture, and in the working folder
    spot().save(mask.name)
    same(sf.run(paths[2]), paths[2], 2)


def same(again: sf.Result, path: Path, index: int) -> None:
    """The replayed picture has the saved one's pixels and recipe."""
    (made,) = again.images
    saved = PIL.Image.open(path)
    assert (np.asarray(made) == np.asarray(saved)).all()
    assert again.recipe.run["index"] == index
    assert json.loads(made.recipe.to_json()) == json.loads(saved.info["sfumato"])


def test_steps_and_results_show_themselves(model: sf.Model) -> None:
    process = model.process("red apple", steps=2)
    steps = list(process.steps())
    calls, side = [2, *upsampling(model)], model.card.native[0]
    sides = [side * model.card.factor(stage + 1) for stage in range(len(calls))]
    stages = [stage for stage, n in enumerate(calls) for _ in range(n + 1)]
    assert [step.preview().size for step in steps] == [(sides[k], sides[k]) for k in stages]
    assert [step.stage for step in steps] == stages
    assert process.calls == calls
    assert "data:image/png" in notebook.html(steps[0])
    result = process.sample()
    assert result._repr_html_().count("data:image/png") == 1
    assert [row["calls"] for row in result.trace] == [1, 2]


def test_a_notebook_shows_steps_once_a_model_is_loaded() -> None:
    from IPython.testing.globalipapp import start_ipython

    shell = start_ipython()
    shell.run_cell("import sfumato as sf; model = sf.load('emoji')")
    shell.run_cell("step = next(iter(model.process('red apple', steps=1, stages=1).steps()))")
    step = shell.user_ns["step"]
    assert "data:image/png" in shell.display_formatter.formatters["text/html"].lookup(step)(step)


def test_scores_of_guides_are_in_the_result(model: sf.Model) -> None:
    result = (model.process("red apple", n=2, steps=2, stages=1) | Tint()).sample()
    assert len(result.scores["tint"]) == 2
    assert len(result.trace) == 2


def test_methods_of_all_stages_reach_the_upsampler(model: sf.Model) -> None:
    class Everywhere(Tint):
        stages = "all"

    process = model.process("red apple", steps=1)
    assert len((process | Tint()).upsamplers[0].guides) + 1 == len(  # type: ignore[union-attr]
        (process | Everywhere()).upsamplers[0].guides  # type: ignore[union-attr]
    )
    assert [type(m).__name__ for m in (process | sf.CFG(2) | Tint()).without("cfg").methods] == [
        "Tint"
    ]


def test_saving_never_overwrites(model: sf.Model, tmp_path: Path) -> None:
    result = model.process("red apple!", steps=1, stages=1).sample(seed=5)
    names = [result.save(tmp_path / "a.png")[0].name for _ in range(3)]
    assert names == ["a.png", "a-2.png", "a-3.png"]
    assert result.save(tmp_path)[0].name == "red-apple-3d-render-5.png"
    with pytest.raises(SfumatoError, match="does not exist"):
        result.save(tmp_path / "no" / "a.png")
    saved = sf.open_image(tmp_path / "a.png")
    assert (np.asarray(saved) == np.asarray(result.images[0])).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda m: m.process("word " * 500), "shorten it by"),
        (lambda m: m.process(n=0), "n = 0"),
        (lambda m: m.process(stages=4), "stages = 4"),
        (lambda m: m.process(label=3), "not class-conditional"),
        (lambda m: m.process(solver="dpm"), "dpmpp-2m"),
        (lambda m: m.process(size="big"), "size"),
        (lambda m: m.process() | sf.SDEdit(picture(), mask=spot((10, 10))), "10x10"),
        (lambda m: m.process() | sf.SDEdit(picture(), mask=PIL.Image.new("L", SIZE)), "mask"),
        (lambda m: m.process() | sf.SDEdit("missing.png"), "no such file"),
        (lambda m: m.process() | sf.SDEdit(picture(), t0=-0.1), "t0 = -0.1"),
        (lambda m: m.process() | sf.SDEdit(picture(), strokes=picture((5, 5))), "5x5"),
        (lambda m: m.process() | sf.SDEdit(picture(), alpha_mask=True), "transparent"),
        (lambda m: m.process() | sf.CFG(float("nan")), "finite"),
    ],
)
def test_bad_input_is_one_clear_line(model: sf.Model, make: Any, words: str) -> None:
    with pytest.raises(SfumatoError) as error:
        make(model).sample()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_that_diverges_is_not_a_black_picture(model: sf.Model) -> None:
    class Broken(sf.Guide):
        def arrive(self, x: Tensor, t: float, call: sf.Call) -> Tensor:
            return x * float("nan")

    with pytest.raises(SfumatoError, match="diverged"):
        (model.process(steps=1, stages=1) | Broken()).sample()


def test_models_by_name_and_those_that_cannot_be_loaded(tmp_path: Path, home: Path) -> None:
    with pytest.raises(SfumatoError, match="emoji"):
        sf.load("nothing-like-this")
    with pytest.raises(SfumatoError, match=r"card\.json"):
        sf.load(str(tmp_path))
    odd = tmp_path / "weights.pt"
    odd.write_bytes(b"x")
    with pytest.raises(SfumatoError, match="damaged, incomplete or no checkpoint"):
        sf.load(str(odd))
    torch.save({"some.weight": torch.zeros(2, 2)}, odd)
    with pytest.raises(SfumatoError, match="rename it to one of"):
        sf.load(str(odd))
    folder = tmp_path / "emoji"
    folder.mkdir()
    for file in library.BUNDLED["emoji"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    assert sf.load(str(folder)).weights == sf.load("emoji").weights
    kept = home / "models" / "mine"
    kept.parent.mkdir(parents=True)
    shutil.copytree(folder, kept)
    assert [e.where for e in library.entries() if e.name == "mine"] == ["cached"]
    assert sf.load("mine").name == "mine"
    shard = folder / "base-2-of-2.safetensors"
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(SfumatoError, match="base-2-of-2"):
        sf.load(str(folder))
    shard.unlink()
    with pytest.raises(SfumatoError, match="missing"):
        sf.load(str(folder))
    with pytest.raises(SfumatoError, match="must be auto, float32"):
        sf.load("emoji", dtype="float8")
    with pytest.raises(SfumatoError, match="emoji is none; take bfloat16"):
        sf.load("emoji", dtype="int8")
    with pytest.raises(SfumatoError, match="cuda"):
        sf.load("emoji", device="quantum")


def test_released_checkpoint_by_its_file_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = openai.UNetConfig(
        model_channels=32,
        num_res_blocks=1,
        attention_resolutions=(2,),
        channel_mult=(1, 1),
        num_heads=2,
        use_scale_shift_norm=True,
        resblock_updown=True,
        num_classes=5,
    )
    preset = openai.Preset("tiny", config, 16, "linear")
    monkeypatch.setitem(openai.PRESETS, "tiny_diffusion", preset)
    torch.manual_seed(0)
    weights = {k: torch.randn_like(v) * 0.02 for k, v in openai.UNet(config).state_dict().items()}
    path = tmp_path / "tiny_diffusion.pt"
    torch.save(weights, path)
    model = sf.load(str(path), dtype="float32")
    result = model.process(label=3, steps=2).sample()
    assert result.images[0].size == (16, 16)
    assert result.recipe.label == 3
    other = model.process(label=1, steps=2).sample()
    assert (np.asarray(result.images[0]) != np.asarray(other.images[0])).any()
    with pytest.raises(SfumatoError, match="0 to 4"):
        model.process(steps=2).sample()
    with pytest.raises(SfumatoError, match="reads no text"):
        model.process("cat")
    edit = sf.SDEdit(picture(), t0=0.5)
    assert (model.process(label=1, steps=2) | edit).sample().images[0].size == SIZE


def test_card_template() -> None:
    card: Card = sf.load("emoji").card
    assert card.full_prompt("red apple") == "red apple, 3d render"
    assert card.full_prompt("Red apple, Ink Drawing") == "Red apple, Ink Drawing"
    assert card.full_prompt("") == ""


def test_a_cards_solver_that_draws_noise_inverts_without() -> None:
    model = sf.load("emoji", dtype="float32")
    x0 = torch.zeros(1, 3, 64, 64)
    made = model.process("red apple", steps=2, stages=1)
    assert solver(made.resolved().solver).stochastic
    ode = model.process("red apple", steps=2, stages=1, solver="dpmpp-2m")
    for own, other in zip(made.invert(x0), ode.invert(x0), strict=True):
        assert torch.equal(own, other)
    named = model.process("red apple", steps=2, stages=1, solver="dpmpp-2m-sde")
    with pytest.raises(SfumatoError, match="stochastic"):
        named.invert(x0)


def test_the_notice_of_a_template_shows_a_long_prompts_beginning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO", "sfumato"):
        sf.load("emoji").phrase("red apple")
        sf.load("emoji").phrase("red apple " * 400)
    short, long = (record.getMessage() for record in caplog.records)
    assert short == "prompt: 'red apple, 3d render', by the template of emoji"
    assert len(long) < 200
    assert "(4,011 characters)" in long


def test_a_stages_own_defaults_are_not_what_without_and_revised_mean() -> None:
    """The upsampler's card has its own threshold; replay knows the base's methods alone."""
    cascade = sf.load("emoji").process("rose, flat") | sf.Threshold("static") | sf.CFG(2)
    own = [[m.id for m in process.methods] for process in cascade.upsamplers]
    for changed in (cascade.revised("threshold", mode="none"), cascade.without("threshold")):
        assert [[m.id for m in process.methods] for process in changed.upsamplers] == own
        assert changed.upsamplers[0].methods == cascade.upsamplers[0].methods
    mask = PIL.Image.new("L", (256, 256), 255)
    rose = Path(__file__).parents[2] / "examples" / "strokes" / "rose.png"
    edited = cascade | sf.Inpaint(rose, mask=mask)
    for process in edited.revised("inpaint", grow=3).upsamplers:
        assert next(m for m in process.methods if m.id == "inpaint").grow == 3
    assert "inpaint" not in [m.id for m in edited.without("inpaint").upsamplers[0].methods]


def test_another_prompt_gets_the_template_too() -> None:
    process = sf.load("emoji").process("rose, flat")
    assert process.based(prompt="rose").base.prompt == "rose, 3d render"
    assert process.based(prompt="rose, ink drawing").base.prompt == "rose, ink drawing"


class Bare(torch.nn.Module):
    """A network without a configuration: half of the state, whatever the time and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.share = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Any, time: Any, cond: Any) -> Any:
        return x * self.share


def test_a_foreign_network_needs_no_configuration(model: sf.Model) -> None:
    bare = Bare().requires_grad_(False)
    foreign = replace(
        model,
        denoiser=replace(model.denoiser, network=bare, learned_range=False),
        upsamplers=tuple(
            replace(one, network=bare, learned_range=False) for one in model.upsamplers
        ),
    )
    mask = PIL.Image.new("L", (64, 64), 255)
    picture = PIL.Image.new("RGB", (64, 64), (200, 30, 30))
    process = foreign.process("rose", steps=3) | sf.Inpaint(picture, mask=mask)
    assert sum(process.calls) > 0
    assert process.sample(seed=1).images[0].size == (64, 64)


def test_a_run_that_took_times_beside_a_start_level_is_replayed_by_its_times(
    model: sf.Model, caplog: pytest.LogCaptureFixture
) -> None:
    """Versions up to 0.2.0 took both; typed together today they are refused."""
    picture = PIL.Image.new("RGB", (32, 32), (200, 30, 30))
    result = (model.process("rose", spacing=(0.5, 0.2, 0.0), stages=1) | sf.SDEdit(picture)).sample(
        seed=1
    )
    recipe = result.images[0].recipe
    (entry,) = (one for one in recipe.methods if one["method"] == "sdedit")
    both = tuple({**one, "t0": 0.3} if one is entry else one for one in recipe.methods)
    with caplog.at_level("INFO", "sfumato"):
        again = sf.run(replace(recipe, methods=both))
    assert "t0 had no effect" in caplog.text
    assert np.array_equal(np.asarray(again.images[0]), np.asarray(result.images[0]))
    with pytest.raises(SfumatoError, match="leave the level out, or the times"):
        sf.run(replace(recipe, methods=both, run={}))


def test_a_level_of_zero_beside_times_is_replayed_as_a_picture_that_stays(
    model: sf.Model,
) -> None:
    """It was what silenced the times, not they it."""
    picture = PIL.Image.new("RGB", (32, 32), (200, 30, 30))
    result = (model.process("rose", steps=2, stages=1) | sf.SDEdit(picture, t0=0)).sample(seed=1)
    recipe = result.images[0].recipe
    again = sf.run(replace(recipe, steps=None, spacing=(0.5, 0.2, 0.0)))
    assert np.array_equal(np.asarray(again.images[0]), np.asarray(picture))


def test_diffstylers_level_beside_times_is_left_out_of_a_replay(
    model: sf.Model, caplog: pytest.LogCaptureFixture
) -> None:
    picture = PIL.Image.new("RGB", (32, 32), (200, 30, 30))
    styled = sf.DiffStyler(picture, art="none", contrast=0)
    made = model.process("rose", spacing=(0.5, 0.2, 0.0), stages=1) | styled
    result = made.sample(seed=1)
    recipe = result.images[0].recipe
    both = tuple(
        {**one, "t_start": 0.3} if one["method"] == "diffstyler" else one for one in recipe.methods
    )
    with caplog.at_level("INFO", "sfumato"):
        again = sf.run(replace(recipe, methods=both))
    assert "t_start had no effect" in caplog.text
    assert np.array_equal(np.asarray(again.images[0]), np.asarray(result.images[0]))
