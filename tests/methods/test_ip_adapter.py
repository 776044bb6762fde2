"""IP-Adapter: exact no-ops, the pictures that diffusers makes, what its tokens do, refusals."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import sfumato as sf
from helpers import pipelines
from helpers.adapters import NOISE, fresh
from helpers.families import bundled
from helpers.pictures import photo, pixels_of, times_of
from helpers.taps import moment
from sfumato import images
from sfumato.core.errors import SfumatoError
from sfumato.core.source import Origin
from sfumato.core.taps import Site
from sfumato.methods.ip_adapter import IPAdapter, Prompted
from sfumato.models.image_prompts import Encoder, Prompter, own_spots
from sfumato.nn.image_prompt import Full, ImagePrompt, KeysValues, Projection, Resampler, Tokens
from sfumato.nn.unet import UNet

KINDS = ("sd1", "sd2-v", "sdxl")
CONTEXT = {"sd1": 32, "sd2-v": 32, "sdxl": 80}
PROMPT, EYE = "red cat", 24  # EYE: width of the tiny encoder's vector
PATCH = 16  # of what its layers say


def network() -> UNet:
    net = bundled().denoiser.network
    assert isinstance(net, UNet)
    return net


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """kind -> folder of its tiny pipeline, with an image encoder beside it."""
    folders: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in folders:
            folder = tmp_path_factory.mktemp(kind)
            pipelines.stable(folder, kind)
            eye().save_pretrained(folder / "pipeline" / "image_encoder")
            folders[kind] = folder / "pipeline"
        return folders[kind]

    return get


@cache
def eye() -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=PATCH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=32, patch_size=8, projection_dim=EYE,
    )  # fmt: skip
    return pipelines.scrambled(CLIPVisionModelWithProjection(config), 7)


@cache
def loaded(folder: Path) -> sf.Model:
    return sf.load(str(folder), dtype="float32")


def own(file: Path, seed: int | None = None) -> Path:
    """An adapter of the bundled base, as the tuner begins, or with random weights."""
    width = bundled().clip().text(["a"]).shape[-1]  # type: ignore[union-attr]
    prompt: nn.Module = ImagePrompt.beside(network(), width)
    if seed is not None:
        prompt = pipelines.scrambled(prompt, seed)
    save_file({k: v.contiguous() for k, v in prompt.state_dict().items()}, file)
    return file


def projections(width: int) -> dict[str, Tokens]:
    return {
        "linear": Projection(EYE, width),
        "plus": Resampler(PATCH, width, 3, 40, 64, 4, 4),
        "full": Full(PATCH, width),
    }


def released(folder: Path, what: str, width: int) -> dict[str, dict[str, Tensor]]:
    """An adapter's file for a pipeline's network, as published: image_proj and ip_adapter."""
    net = fresh(folder).unet
    tokens = pipelines.scrambled(projections(width)[what], 3)
    layers: dict[str, Tensor] = {}
    named = [name for name in net.attn_processors if name.endswith("attn2.processor")]
    for k, name in enumerate(named):
        channels = net.get_submodule(name.removesuffix(".processor")).inner_dim
        part = pipelines.scrambled(KeysValues(width, channels, channels), k)
        layers |= {f"{2 * k + 1}.{key}": value for key, value in part.state_dict().items()}
    return {"image_proj": dict(tokens.state_dict()), "ip_adapter": layers}


def saved(state: dict[str, dict[str, Tensor]], file: Path) -> Path:
    if file.suffix == ".bin":
        torch.save(state, file)
    else:
        flat = {
            f"{part}.{key}": v.contiguous() for part, ws in state.items() for key, v in ws.items()
        }
        save_file(flat, file)
    return file


def drawn(model: sf.Model, *methods: Any, n: int = 2) -> Tensor:
    process: Any = model.process(PROMPT, steps=3, stages=1, n=n, size=32)
    for one in methods:
        process = process | one
    with torch.no_grad():
        *_, step = process.steps(seed=5)
    x: Tensor = step.x
    return x


@pytest.mark.parametrize("kind", ["emoji", *KINDS])
def test_strength_0_and_times_outside_its_window_change_no_bit(
    kind: str, tmp_path: Path, pipeline: Callable[[str], Path]
) -> None:
    file = tmp_path / "adapter.safetensors"
    if kind == "emoji":
        model = bundled()
        own(file, 1)
    else:
        model = loaded(pipeline(kind))
        saved(released(pipeline(kind), "linear", CONTEXT[kind]), file)
    plain = drawn(model)
    assert torch.equal(drawn(model, IPAdapter(photo(), file, scale=0)), plain)
    assert torch.equal(drawn(model, IPAdapter(photo(), file, window=(0, 0))), plain)
    full = drawn(model, IPAdapter(photo(), file))
    assert not torch.allclose(full, plain, atol=1e-2)
    other = photo().transpose(Image.Transpose.ROTATE_90)
    assert not torch.allclose(drawn(model, IPAdapter(other, file)), full, atol=1e-4)


CASES = [
    *(("linear", kind, 1.0) for kind in KINDS),
    ("linear", "sd1", 0.4),
    ("plus", "sd1", 1.0),
    ("plus", "sdxl", 0.7),
    ("full", "sd1", 1.0),
]


@pytest.mark.parametrize(("what", "kind", "scale"), CASES)
def test_released_files_draw_the_pipelines_own_picture(
    what: str, kind: str, scale: float, tmp_path: Path, pipeline: Callable[[str], Path]
) -> None:
    from transformers import CLIPImageProcessor

    folder = pipeline(kind)
    state = released(folder, what, CONTEXT[kind])
    file = saved(state, tmp_path / ("adapter.bin" if what == "plus" else "adapter.safetensors"))
    pipe = fresh(folder)
    pipe.register_modules(
        image_encoder=eye(), feature_extractor=CLIPImageProcessor(size=32, crop_size=32)
    )
    pipe.load_ip_adapter(
        {part: {k: v.clone() for k, v in ws.items()} for part, ws in state.items()},
        subfolder="", weight_name="", image_encoder_folder=None,
    )  # fmt: skip
    pipe.set_ip_adapter_scale(scale)
    theirs = pipe(
        PROMPT, negative_prompt="a dog", ip_adapter_image=photo(), latents=NOISE, height=32,
        width=32, guidance_scale=3.0, num_inference_steps=4, output_type="pt",
    ).images  # fmt: skip
    pipe.scheduler.set_timesteps(4)
    process: Any = loaded(folder).process(
        PROMPT, negative="a dog", spacing=times_of(pipe.scheduler, "ddim"), solver="ddim"
    )
    ours = pixels_of(process | sf.CFG(3.0) | IPAdapter(photo(), file, scale=scale), NOISE)
    assert float((ours - theirs).abs().max()) < 1e-4
    plain = pixels_of(process | sf.CFG(3.0), NOISE)
    assert float((plain - theirs).abs().max()) > 1e-2, "without it there must be another picture"


def test_the_encoder_is_the_models_own_or_named_by_its_folder_or_its_pipelines(
    tmp_path: Path, pipeline: Callable[[str], Path]
) -> None:
    folder = pipeline("sd1")
    model = loaded(folder)
    file = saved(released(folder, "linear", CONTEXT["sd1"]), tmp_path / "adapter.safetensors")
    own = drawn(model, IPAdapter(photo(), file))
    for named in (folder, folder / "image_encoder"):
        assert torch.equal(drawn(model, IPAdapter(photo(), file, encoder=str(named))), own)
    with pytest.raises(SfumatoError, match=r"tokenizer.*config\.json"):
        drawn(model, IPAdapter(photo(), file, encoder=str(folder / "tokenizer")))


@pytest.mark.parametrize("size", [(32, 32), (50, 40), (33, 97), (20, 31)])
def test_the_middle_square_is_looked_at_as_clips_programs_do(size: tuple[int, int]) -> None:
    from transformers import CLIPImageProcessor

    process = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size=32, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    theirs = process(photo(*size), return_tensors="pt").pixel_values[0]
    ours = images.to_square(sf.Picture.of(photo(*size)), 32)
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 0.03


class Words(nn.Module):
    """Gives a text's own sequence as the tokens."""

    patches = False

    def __init__(self, sequence: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.sequence = sequence

    def forward(self, vectors: Tensor) -> Tensor:
        return self.sequence


def test_copies_of_the_texts_weights_give_the_texts_keys_and_values() -> None:
    from sfumato.nn.text import encode

    net, model = network(), bundled()
    cond = model.encode([PROMPT])
    with torch.no_grad():
        _, sequence = encode(net, cond["tokens"], cond.get("mask"))
        prepared = net.prepare(cond)
        prompt = ImagePrompt.beside(net, 8)
        prompt.image_proj = Words(sequence)  # type: ignore[assignment]
        nothing = Encoder(lambda x: x, lambda: sequence, 32, None)
        whole = Prompter(prompt, nothing, own_spots(net), Origin("a", "b"))
        for k, spot in enumerate(whole.order):
            heads = prepared[f"text_k.{k}"].shape[1]
            keys, values = whole.keys_values(spot, whole.tokens(sequence), heads)
            assert torch.allclose(keys, prepared[f"text_k.{k}"], atol=1e-5)
            assert torch.allclose(values, prepared[f"text_v.{k}"], atol=1e-5)


class Given:
    """An adapter of one attention."""

    spots = frozenset({("cross", 0)})

    def keys_values(self, spot: Any, tokens: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        kept = tokens.unflatten(-1, (heads, -1)).transpose(1, 2)
        return kept, 2 * kept


def test_the_second_attention_is_added_and_each_picture_has_its_own_tokens() -> None:
    generator = torch.Generator().manual_seed(1)
    o, q = (torch.randn(3, 2, 5, 4, generator=generator) for _ in range(2))
    tokens = torch.randn(3, 6, 8, generator=generator)
    tap = Prompted(tokens, Given(), 0.3)  # type: ignore[arg-type]
    site = Site("cross", 0, "here", (1, 5), 7)
    k = tokens.unflatten(-1, (2, 4)).transpose(1, 2)
    expected = o + 0.3 * (q @ k.mT / 2).softmax(-1) @ (2 * k)
    assert torch.allclose(tap.attended(o, q, site, moment()), expected, atol=1e-6)
    part = tap.attended(o[1:2], q[1:2], site, _of(1, 2))
    assert torch.allclose(part, expected[1:2], atol=1e-6)
    assert tap.at(site)
    assert not tap.at(Site("cross", 1, "there"))
    with pytest.raises(SfumatoError, match="it is for another network"):
        tap.attended(o, torch.randn(3, 2, 5, 8), site, moment())


def _of(start: int, stop: int) -> Any:
    from dataclasses import replace

    return replace(moment(), pictures=slice(start, stop))


def test_several_add_up_in_any_order_and_threads_and_batches_change_no_bit(tmp_path: Path) -> None:
    model = bundled()
    first = IPAdapter(photo(), own(tmp_path / "one.safetensors", 1), scale=0.5)
    second = IPAdapter(photo(40, 32), own(tmp_path / "two.safetensors", 2), scale=0.5)
    both = drawn(model, first, second)
    assert torch.equal(drawn(model, second, first), both)
    assert torch.allclose(drawn(model, first, second, n=1)[0], both[0], atol=1e-4)
    with ThreadPoolExecutor(3) as pool:
        threads = list(pool.map(lambda _: drawn(model, first, second), range(3)))
    assert all(torch.equal(one, both) for one in threads)
    edit = drawn(model, sf.SDEdit(photo(), t0=0.6), first)
    assert torch.equal(drawn(model, first, sf.SDEdit(photo(), t0=0.6)), edit)
    assert not torch.allclose(edit, drawn(model, sf.SDEdit(photo(), t0=0.6)), atol=1e-3)


def test_a_recipe_makes_it_again(tmp_path: Path) -> None:
    process: Any = bundled().process(PROMPT, steps=2, stages=1) | IPAdapter(
        photo(), own(tmp_path / "adapter.safetensors", 1)
    )
    result = process.sample(seed=3)
    file = tmp_path / "made.png"
    result.images[0].save(file)
    assert sf.run(file).images[0].tobytes() == result.images[0].tobytes()
    recorded = result.recipe.run["weights"]
    assert recorded["ip_adapter.file"]["name"] == "adapter.safetensors"
    assert len(recorded["ip_adapter.encoder"]["sha256"]) == 64
    assert str(tmp_path) not in result.recipe.to_json()


def test_what_does_not_fit_is_refused(tmp_path: Path, pipeline: Callable[[str], Path]) -> None:
    model, file = bundled(), own(tmp_path / "own.safetensors", 1)
    sd1 = loaded(pipeline("sd1"))
    state = released(pipeline("sd1"), "linear", 32)
    good = saved(state, tmp_path / "good.safetensors")
    xl = saved(released(pipeline("sdxl"), "linear", 80), tmp_path / "xl.safetensors")
    less = {**state, "ip_adapter": {k: v for k, v in state["ip_adapter"].items() if k[0] != "1"}}
    few = saved(less, tmp_path / "few.safetensors")
    strange = {**state, "image_proj": {"id.weight": torch.zeros(2, 2)}}
    other = saved({"a": {"b": torch.zeros(2)}}, tmp_path / "other.safetensors")
    face = saved(strange, tmp_path / "face.safetensors")
    cases: list[tuple[sf.Model, IPAdapter, str]] = [
        (model, IPAdapter(photo(), tmp_path / "none"), "no such file"),
        (model, IPAdapter(photo(), other), "holds no adapter that reads pictures"),
        (model, IPAdapter(photo(), good), "is for Stable Diffusion's networks, not for emoji"),
        (model, IPAdapter(photo(), file, encoder="x"), "looks by its own CLIP; leave it out"),
        (sd1, IPAdapter(photo(), file), "speaks to 0 attentions"),
        (sd1, IPAdapter(photo(), few), "speaks to 3 attentions, .* has 4"),
        (sd1, IPAdapter(photo(), xl), "its layer 1 does not fit down_blocks.0.*another family"),
        (sd1, IPAdapter(photo(), face), "its image projection is of no known kind"),
        (sd1, IPAdapter(photo(), good, encoder="x"), "encoder x: no such folder"),
        (sd1, IPAdapter(torch.zeros(3, 8, 8), good), "holds a tensor; a picture is needed"),
    ]
    for chosen, method, said in cases:
        with pytest.raises(SfumatoError, match=said):
            drawn(chosen, method)
