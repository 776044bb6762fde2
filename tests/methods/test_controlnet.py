"""ControlNet and T2I adapters: exact no-ops, the pictures that diffusers makes, what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import sfumato as sf
from helpers import pipelines
from helpers.adapters import NOISE, fresh
from helpers.families import bundled, family, last, pipeline
from helpers.pictures import photo, pixels_of, times_of
from helpers.taps import moment
from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.core.taps import Site
from sfumato.methods.controlnet import Added, ControlNet
from sfumato.nn import hints
from sfumato.nn.control import Control
from sfumato.nn.unet import UNet

KINDS = ("sd1", "sd2-v", "sdxl")
SMALL = {"conditioning_embedding_out_channels": (16, 32, 64)}  # the tiny latents are 1/4
PROMPT = "red cat"


def own(file: Path, seed: int | None = None) -> Path:
    """A control of the bundled base: fresh, or with random weights that are nowhere zero."""
    network = bundled().denoiser.network
    assert isinstance(network, UNet)
    control = Control.copy_of(network)
    if seed is not None:
        pipelines.scrambled(control.hint, seed)
        pipelines.scrambled(control.zeros, seed)
    save_file({k: v.contiguous() for k, v in control.state_dict().items()}, file)
    return file


def guest(folder: Path, target: Path, scrambled: bool = True, **given: Any) -> Path:
    """A ControlNet of a pipeline's network, as diffusers writes it."""
    from diffusers import ControlNetModel

    control = ControlNetModel.from_unet(fresh(folder).unet, **SMALL)
    if given:
        control.register_to_config(**given)
    if scrambled:
        for part in (control.controlnet_cond_embedding, control.controlnet_down_blocks,
                     control.controlnet_mid_block):  # fmt: skip
            pipelines.scrambled(part, 9)
    control.save_pretrained(target)
    return target


def adapter(target: Path, channels: int = 3) -> Path:
    from diffusers import T2IAdapter

    made = T2IAdapter(channels, [16, 32], num_res_blocks=1, downscale_factor=4)
    pipelines.scrambled(made, 5).save_pretrained(target)
    return target


def drawn(model: sf.Model, *methods: Any, n: int = 2) -> Tensor:
    process: Any = model.process(PROMPT, steps=3, stages=1, n=n, size=32)
    for one in methods:
        process = process | one
    return last(process)


@pytest.mark.parametrize("kind", ["emoji", *KINDS])
def test_a_fresh_copy_changes_no_bit(kind: str, tmp_path: Path) -> None:
    if kind == "emoji":
        model, file = bundled(), own(tmp_path / "control.safetensors")
    else:
        model = family(kind)
        file = guest(pipeline(kind), tmp_path / "control", scrambled=False)
    assert torch.equal(drawn(model, ControlNet(photo(), file)), drawn(model))


@pytest.mark.parametrize("kind", ["emoji", *KINDS])
def test_strength_0_and_times_outside_its_window_change_no_bit(kind: str, tmp_path: Path) -> None:
    if kind == "emoji":
        model, file = bundled(), own(tmp_path / "control.safetensors", 1)
    else:
        model, file = family(kind), guest(pipeline(kind), tmp_path / "control")
    plain = drawn(model)
    assert torch.equal(drawn(model, ControlNet(photo(), file, scale=0)), plain)
    assert torch.equal(drawn(model, ControlNet(photo(), file, window=(0, 0))), plain)
    full = drawn(model, ControlNet(photo(), file))
    assert not torch.allclose(full, plain, atol=1e-2)
    assert not torch.allclose(drawn(model, ControlNet(photo(), file, guess=True)), full, atol=1e-3)


PIPELINES = {
    "control": ("StableDiffusionControlNetPipeline", "StableDiffusionXLControlNetPipeline"),
    "adapter": ("StableDiffusionAdapterPipeline", "StableDiffusionXLAdapterPipeline"),
}
CASES = [
    *(("control", kind, {}) for kind in KINDS),
    ("control", "sd1", {"guess": True}),
    ("control", "sd1", {"scale": 0.6}),
    ("control", "sd1", {"pooled": True}),
    *(("adapter", kind, {}) for kind in KINDS),
    ("adapter", "sd1", {"scale": 0.6, "channels": 1}),
]


@pytest.mark.parametrize(("what", "kind", "given"), CASES)
def test_released_formats_draw_the_pipelines_own_picture(
    what: str, kind: str, given: Any, tmp_path: Path
) -> None:
    import diffusers

    folder, scale = pipeline(kind), given.get("scale", 1.0)
    pipe = fresh(folder)
    other = getattr(diffusers, PIPELINES[what][kind == "sdxl"])
    hint = photo()
    options: dict[str, Any] = {
        "height": 32, "width": 32, "guidance_scale": 3.0, "num_inference_steps": 4,
        "negative_prompt": "a dog", "latents": NOISE, "output_type": "pt",
    }  # fmt: skip
    if what == "control":
        pooled = {"global_pool_conditions": True} if given.get("pooled") else {}
        file = guest(folder, tmp_path / "control", **pooled)
        second = diffusers.ControlNetModel.from_pretrained(file, local_files_only=True)
        options |= {"controlnet_conditioning_scale": scale, "guess_mode": "guess" in given}
        parts = {"controlnet": second}
    else:
        file = adapter(tmp_path / "adapter", given.get("channels", 3))
        second = diffusers.T2IAdapter.from_pretrained(file, local_files_only=True)
        options["adapter_conditioning_scale"] = scale
        parts = {"adapter": second}
    if given.get("channels") == 1:
        hint = hint.convert("L")
    extra = {} if kind == "sdxl" else {"requires_safety_checker": False}
    if kind == "sdxl" and what == "control":
        extra["add_watermarker"] = False
    components = dict(pipe.components)
    if what == "adapter" and kind != "sdxl":
        components.pop("image_encoder")
    whole = other(**components, **parts, **extra)
    whole.scheduler = pipe.scheduler
    whole.set_progress_bar_config(disable=True)
    theirs = whole(PROMPT, image=hint, **options).images
    if not isinstance(theirs, Tensor):  # of one pipeline an array whose channels are last
        theirs = torch.from_numpy(theirs).permute(0, 3, 1, 2)
    pipe.scheduler.set_timesteps(4)
    process: Any = family(kind).process(
        PROMPT, negative="a dog", spacing=times_of(pipe.scheduler, "ddim"), solver="ddim"
    )
    method = ControlNet(hint, file, scale=scale, guess="guess" in given)
    ours = pixels_of(process | method | sf.CFG(3.0), NOISE)
    assert float((ours - theirs).abs().max()) < 1e-4
    plain = pixels_of(process | sf.CFG(3.0), NOISE)
    assert float((plain - theirs).abs().max()) > 1e-2, "without it there must be another picture"


def test_several_add_up_in_any_order_and_a_batch_changes_no_bit(tmp_path: Path) -> None:
    model = bundled()
    first = ControlNet(photo(), own(tmp_path / "one.safetensors", 1), scale=0.5)
    second = ControlNet(photo(), own(tmp_path / "two.safetensors", 2), scale=0.5, make="edges")
    both = drawn(model, first, second)
    assert torch.equal(drawn(model, second, first), both)
    assert not torch.allclose(both, drawn(model, first), atol=1e-3)
    split = drawn(model, first, second, n=1)
    assert torch.allclose(split[0], both[0], atol=1e-4)
    with ThreadPoolExecutor(3) as pool:
        threads = list(pool.map(lambda _: drawn(model, first, second), range(3)))
    assert all(torch.equal(one, both) for one in threads)
    process: Any = model.process(PROMPT, steps=2, stages=1) | first | second
    recorded = process.sample(seed=1).recipe.run["weights"]
    assert {key: entry["name"] for key, entry in recorded.items()} == {
        "controlnet.file": "one.safetensors", "controlnet.file 2": "two.safetensors"
    }  # fmt: skip


def test_with_other_methods(tmp_path: Path) -> None:
    """It acts on a picture's own way, behind masks, and beside what holds the low frequencies."""
    model, file = bundled(), own(tmp_path / "control.safetensors", 1)
    edit = sf.SDEdit(photo(), t0=0.6, mask=mask())
    control = ControlNet(photo(), file, scale=0.5)
    for others in ((edit,), (sf.ILVR(photo()),), (edit, sf.ILVR(photo())), (sf.CFG(2.0),)):
        assert not torch.allclose(drawn(model, *others, control), drawn(model, *others), atol=1e-3)
        assert torch.equal(drawn(model, control, *others), drawn(model, *others, control))


def mask() -> Image.Image:
    picture = Image.new("L", (32, 32))
    picture.paste(255, (8, 8, 24, 24))
    return picture


def test_a_recipe_makes_it_again(tmp_path: Path) -> None:
    process: Any = bundled().process(PROMPT, steps=2, stages=1) | ControlNet(
        photo(), own(tmp_path / "control.safetensors", 1), make="edges"
    )
    result = process.sample(seed=3)
    file = tmp_path / "made.png"
    result.images[0].save(file)
    again = sf.run(file)
    assert again.images[0].tobytes() == result.images[0].tobytes()
    assert "control.safetensors" in result.recipe.to_json()
    assert str(tmp_path) not in result.recipe.to_json()


def test_gradients_reach_the_copy_alone() -> None:
    network = bundled().denoiser.network
    assert isinstance(network, UNet)
    control = Control.copy_of(network)
    pipelines.scrambled(control.zeros, 1)
    cond = bundled().denoiser.prepare(bundled().encode([PROMPT]))
    x, time = torch.randn(1, 3, 32, 32), torch.tensor([300.0])
    added = control(x, time, cond, control.encode(torch.rand(1, 1, 32, 32)))
    sum(v.square().mean() for v in added).backward()  # type: ignore[union-attr]
    assert all(p.grad is None for p in network.parameters())
    missing = [name for name, p in control.named_parameters() if p.grad is None]
    assert not missing


def test_a_context_of_each_layer_reaches_the_second_network(tmp_path: Path) -> None:
    """P+: alike for all layers it is the plain context; a second network reads its own ones."""
    model = family("sd1")
    control = model.control(str(guest(pipeline("sd1"), tmp_path / "control")))
    x, time = torch.randn(1, 4, 8, 8), torch.tensor([300.0])
    hint = control.read(torch.rand(1, 3, 32, 32))
    context = torch.randn(1, 7, 32)
    own = context[:, None].repeat(1, 4, 1, 1)
    with torch.no_grad():
        plain = control(x, time, Cond({"context": context}), hint)
        alike = control(x, time, Cond({"context": own}), hint)
        own[:, 0] += 1
        other = control(x, time, Cond({"context": own}), hint)
    assert all(torch.allclose(plain[spot], alike[spot], atol=1e-5) for spot in plain)
    assert not torch.allclose(plain["middle", 0], other["middle", 0], atol=1e-3)


def test_hints_made_of_pictures() -> None:
    x = torch.full((1, 3, 16, 16), 1.0)
    x[..., 4:12, 4:12] = -0.5
    shape = hints.mask(x)
    assert torch.equal(shape[0, 0] > 0, x[0, 0] < 0)
    lines = hints.edges(x)
    assert set(lines.unique().tolist()) == {0.0, 1.0}
    assert float(lines[..., 6:10, 6:10].sum() + lines[..., :3, :].sum()) == 0
    for line in (lines[0, 0, 8], lines[0, 0, :, 8]):  # one pixel wide, at both sides
        assert float(line.sum()) == 2
    assert float(hints.edges(torch.zeros(1, 3, 8, 8)).sum()) == 0


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    model, file = bundled(), own(tmp_path / "control.safetensors", 1)
    sd1, xl = family("sd1"), guest(pipeline("sdxl"), tmp_path / "xl")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    wide = tmp_path / "wide"
    from diffusers import ControlNetModel

    ControlNetModel.from_unet(fresh(pipeline("sd1")).unet).save_pretrained(wide)
    cases: list[tuple[sf.Model, ControlNet, str]] = [
        (model, ControlNet(photo(), tmp_path / "none"), "no such file or folder"),
        (model, ControlNet(photo(), "org/none"), "models pull org/none"),
        (model, ControlNet(photo(), tmp_path / "other.safetensors"), "no control of our own"),
        (model, ControlNet(photo(), xl), "for Stable Diffusion's networks, not for emoji"),
        (sd1, ControlNet(photo(), file), "for a network of our own, not for"),
        (sd1, ControlNet(photo(), xl), "cross_attention_dim is 80, that of .* is 32"),
        (sd1, ControlNet(photo(), wide), "1/8 of its size, the latents of .* are 1/4"),
        (sd1, ControlNet(photo(), pipeline("sd1") / "vae"), "AutoencoderKL is not supported"),
    ]
    for chosen, method, said in cases:
        with pytest.raises(SfumatoError, match=said):
            drawn(chosen, method)
    with pytest.raises(SfumatoError, match=r"the hint is 32x32, the picture .* 16x16"):
        drawn(model, sf.SDEdit(photo(16, 16)), ControlNet(photo(), file))
    with pytest.raises(SfumatoError, match="holds a tensor; a picture is needed"):
        drawn(model, ControlNet(torch.zeros(3, 32, 32), file))
    with pytest.raises(SfumatoError, match="needs a model"):
        last(sf.Process(model.denoiser, (3, 32, 32), model.encode([""]), n_steps=2, solver="ddim")
             | ControlNet(photo(), file))  # fmt: skip
    added = Added({("skip", 0): torch.zeros(1, 4, 8, 8)})
    with pytest.raises(SfumatoError, match="it is for another network"):
        added.feature(torch.zeros(1, 8, 8, 8), Site("skip", 0, "input_blocks.0"), moment())
