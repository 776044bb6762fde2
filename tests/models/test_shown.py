"""Decoders of unCLIP's kind against diffusers' own: what a picture shows is the condition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import sfumato as sf
from helpers import decoders
from helpers.decoders import WIDTH, embeds
from helpers.pictures import close, latents, mask_of, photo
from sfumato.core.errors import SfumatoError
from sfumato.core.noise import Tape

PROMPT, NEGATIVE = "red cat", "a dog"


def pixels(process: Any, first: torch.Tensor, vector: torch.Tensor | None = None) -> torch.Tensor:
    tape = {("prior", 0): first, ("start", 0): first}
    if vector is not None:
        tape["variation", 0] = vector
    with torch.no_grad():
        loop = process.begin(noise=Tape(tape))
        *_, last = loop.steps()
        return (loop.run.decode(last.x) / 2 + 0.5).clamp(0, 1)


@pytest.fixture(scope="module")
def unclip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, sf.Model]:
    """Stable unCLIP's pipeline, and our model of its folder."""
    folder = tmp_path_factory.mktemp("unclip")
    pipe = decoders.unclip(folder)
    return pipe, sf.load(str(folder / "unclip"), dtype="float32")


@pytest.mark.parametrize("level", [0, 600])
def test_stable_unclip_reads_a_picture_as_in_the_pipeline(unclip: Any, level: int) -> None:
    pipe, model = unclip
    first = latents(torch.Generator().manual_seed(5))
    theirs = pipe(
        photo(), PROMPT, negative_prompt=NEGATIVE, latents=first, height=32, width=32,
        num_inference_steps=5, guidance_scale=3.0, noise_level=level,
        generator=torch.Generator().manual_seed(3), output_type="pt",
    ).images  # fmt: skip
    noise = latents(torch.Generator().manual_seed(3), 1, WIDTH)
    process = model.process(
        PROMPT, negative=NEGATIVE, size=32, steps=5, solver="ddim", spacing="model"
    ) | sf.CFG(3.0)
    shown = process | sf.Variation(photo(), noise=level / 999)
    close(pixels(shown, first, noise), theirs)
    assert float((pixels(process, first) - theirs).abs().max()) > 0.02, "a picture nothing reads"


def test_pictures_of_a_batch_have_noise_of_their_own(unclip: Any) -> None:
    _, model = unclip
    process = model.process(PROMPT, size=32, steps=1, n=2) | sf.Variation(photo(), noise=0.5)
    result = process.sample(seed=1)
    assert result.recipe.run["weights"]["variation.encoder"]["name"]
    alone = process.based(n=1).sample(seed=2)
    second, same = (np.asarray(image, dtype=int) for image in (result.images[1], alone.images[0]))
    assert abs(second - same).max() <= 1, "but for a batch's rounding"


@pytest.fixture(scope="module")
def kandinsky(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, sf.Model, Path]:
    """Kandinsky 2.2's decoder, our model of its folder, and its prior's image encoder."""
    folder = tmp_path_factory.mktemp("kandinsky")
    pipe = decoders.kandinsky(folder)
    return pipe, sf.load(str(folder / "decoder"), dtype="float32"), folder / "prior"


def test_kandinskys_decoder_reads_a_picture_as_in_the_pipeline(kandinsky: Any) -> None:
    pipe, model, prior = kandinsky
    first = latents(torch.Generator().manual_seed(5))
    theirs = pipe(
        **embeds(photo()), latents=first, height=32, width=32, num_inference_steps=5,
        guidance_scale=3.0, output_type="latent",
    ).images  # fmt: skip
    with torch.no_grad():
        theirs = pipe.movq.decode(theirs, force_not_quantize=True).sample
    process = model.process(size=32, steps=5, solver="ddim", spacing="model") | sf.CFG(3.0)
    process = process | sf.Variation(photo(), encoder=str(prior))
    close(pixels(process, first), (theirs / 2 + 0.5).clamp(0, 1))


def test_kandinskys_image_to_image_is_the_pipelines(kandinsky: Any) -> None:
    from diffusers import KandinskyV22Img2ImgPipeline

    pipe, model, prior = kandinsky
    other = KandinskyV22Img2ImgPipeline(**{**pipe.components, "scheduler": pipe.scheduler})
    other.set_progress_bar_config(disable=True)
    other.movq_scale_factor = 4
    theirs = other(
        **embeds(photo()), image=photo(), height=32, width=32, strength=0.5, num_inference_steps=8,
        guidance_scale=3.0, generator=torch.Generator().manual_seed(3), output_type="pt",
    ).images  # fmt: skip
    process = model.process(steps=8, solver="ddim", spacing="model") | sf.CFG(3.0)
    process = process | sf.SDEdit(photo(), t0=0.5) | sf.Variation(photo(), encoder=str(prior))
    noise = latents(torch.Generator().manual_seed(3))
    close(pixels(process, noise), theirs)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, sf.Model, Path]:
    """Kandinsky 2.2's decoder for inpainting."""
    folder = tmp_path_factory.mktemp("tuned")
    pipe = decoders.kandinsky(folder, tuned=True)
    return pipe, sf.load(str(folder / "decoder"), dtype="float32"), folder / "prior"


def test_kandinskys_inpainting_network_reads_the_known_part_as_in_the_pipeline(tuned: Any) -> None:
    """Theirs puts the known state back after every step too, which is left out here; it shows in
    the known cells alone, and by the next call in the others, so that one step is compared."""
    pipe, model, prior = tuned
    first = latents(torch.Generator().manual_seed(5))
    cells = mask_of((8, 8, 24, 24))
    theirs = pipe(
        **embeds(photo()), image=photo(), mask_image=cells, latents=first, height=32, width=32,
        num_inference_steps=1, guidance_scale=3.0, output_type="latent",
    ).images  # fmt: skip
    process = model.process(steps=1, solver="ddim", spacing="model") | sf.CFG(3.0)
    process = process | sf.Variation(photo(), encoder=str(prior))
    with torch.no_grad():
        known = model.space.encode(
            torch.tensor(np.asarray(photo())).permute(2, 0, 1)[None] / 127.5 - 1
        )
    hole = torch.nn.functional.max_pool2d(torch.tensor(np.asarray(cells))[None, None] / 255.0, 4)
    inpaint = sf.Inpaint(known, mask=hole)
    with torch.no_grad():
        *_, last = (process | inpaint).begin(noise=Tape({("prior", 0): first})).steps()
    inner = (slice(None), slice(None), slice(2, 6), slice(2, 6))
    close(last.x[inner], theirs[inner])
    result = (process | sf.Inpaint(photo(), mask=cells)).sample(1).images[0]
    kept = np.asarray(cells) == 0
    assert np.array_equal(np.asarray(result)[kept], np.asarray(photo())[kept])


@pytest.mark.parametrize("names", ["peft", "processors"])
def test_a_lora_file_changes_the_decoder_as_in_diffusers(
    kandinsky: Any, tmp_path: Path, names: str
) -> None:
    """In peft's names, and in those that diffusers' training of this decoder wrote."""
    pipe, model, prior = kandinsky
    first = latents(torch.Generator().manual_seed(5))
    ends = ("to_q", "to_k", "to_v", "add_k_proj", "add_v_proj", "to_out.0")
    tensors, released = {}, {}
    generator = torch.Generator().manual_seed(9)
    for name, module in pipe.unet.named_modules():
        if not name.endswith(ends):
            continue
        rows, columns = module.weight.shape
        stem, _, layer = name.removesuffix(".0").rpartition(".")
        for part, old, shape in (("A", "down", (2, columns)), ("B", "up", (rows, 2))):
            value = torch.randn(shape, generator=generator) * 0.3
            tensors[f"unet.{name}.lora_{part}.weight"] = value
            released[f"{stem}.processor.{layer}_lora.{old}.weight"] = value
    file = tmp_path / "lora.safetensors"
    save_file(tensors if names == "peft" else released, file)
    pipe.unet.load_lora_adapter(tensors, prefix="unet", adapter_name="one")
    try:
        theirs = pipe(
            **embeds(photo()), latents=first, height=32, width=32, num_inference_steps=5,
            guidance_scale=3.0, output_type="pt",
        ).images  # fmt: skip
    finally:
        pipe.unet.unload_lora()
    theirs = (theirs / 2 + 0.5).clamp(0, 1)

    def ours(one: sf.Model) -> torch.Tensor:
        process = one.process(size=32, steps=5, solver="ddim", spacing="model") | sf.CFG(3.0)
        return pixels(process | sf.Variation(photo(), encoder=str(prior)), first)

    close(ours(model.adapt(file)), theirs)
    assert float((ours(model) - theirs).abs().max()) > 0.02, "an adapter that does nothing"


def test_what_lacks_a_picture_or_reads_none_is_refused(kandinsky: Any, unclip: Any) -> None:
    _, model, prior = kandinsky
    with pytest.raises(SfumatoError, match="the vector of a picture; compose variation"):
        model.process(size=32, steps=1).sample(seed=1)
    with pytest.raises(SfumatoError, match="give encoder, the CLIP image encoder"):
        (model.process(size=32) | sf.Variation(photo())).begin()
    noisy = sf.Variation(photo(), noise=0.5, encoder=str(prior))
    with pytest.raises(SfumatoError, match="reads a vector as it is"):
        (model.process(size=32) | noisy).begin()
    with pytest.raises(SfumatoError, match="reads no picture's vector"):
        (sf.load("emoji").process("x", stages=1) | sf.Variation(photo())).begin()


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"addition_embed_type": "image_hint"}, "image_hint.*its decoder is supported"),
        ({"addition_embed_type": None, "encoder_hid_dim_type": None}, "its decoder is supported"),
        ({"in_channels": 8}, "reads 8 channels"),
        ({"out_channels": None}, "says None"),
    ],
)
def test_other_decoders_are_refused_by_one_line(
    kandinsky: Any, tmp_path: Path, change: dict[str, Any], phrase: str
) -> None:
    import shutil

    folder = shutil.copytree(kandinsky[1].folder, tmp_path / "changed")
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(SfumatoError, match=phrase):
        sf.load(str(folder))
