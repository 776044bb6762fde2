"""Decoders of unCLIP's kind against diffusers' own: what a picture shows is the condition."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sfumato as sf
from helpers import pipelines
from helpers.pictures import close, latents, photo
from sfumato.core.errors import SfumatoError
from sfumato.core.noise import Tape

PROMPT, NEGATIVE = "red cat", "a dog"
WIDTH = 16


@cache
def vision() -> Any:
    """A CLIP image encoder of pictures of 32 px."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)  # of its one vector that is random from the beginning
    config = CLIPVisionConfig(
        hidden_size=24, intermediate_size=32, projection_dim=WIDTH, num_hidden_layers=2,
        num_attention_heads=2, image_size=32, patch_size=8,
    )  # fmt: skip
    return pipelines.scrambled(CLIPVisionModelWithProjection(config), 11)


def processor() -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


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
    import diffusers
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
        StableUnCLIPImageNormalizer,
    )

    folder = tmp_path_factory.mktemp("unclip")
    base = pipelines.stable(folder, "sd2-v")
    normaliser = StableUnCLIPImageNormalizer(WIDTH)
    with torch.no_grad():
        normaliser.mean.copy_(torch.linspace(-0.3, 0.4, WIDTH)[None])
        normaliser.std.copy_(torch.linspace(0.5, 1.5, WIDTH)[None])
    pipe = diffusers.StableUnCLIPImg2ImgPipeline(
        feature_extractor=processor(), image_encoder=vision(), image_normalizer=normaliser,
        image_noising_scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=base.tokenizer, text_encoder=base.text_encoder, vae=base.vae,
        unet=pipelines.unet(
            32, class_embed_type="projection", projection_class_embeddings_input_dim=2 * WIDTH,
            use_linear_projection=True,
        ),
        scheduler=diffusers.DDIMScheduler.from_config(
            base.scheduler.config, clip_sample=False, prediction_type="v_prediction"
        ),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder / "unclip")
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
    import diffusers

    folder = tmp_path_factory.mktemp("kandinsky")
    movq = pipelines.scrambled(diffusers.VQModel(
        block_out_channels=(32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=4, vq_embed_dim=4,
        num_vq_embeddings=16, norm_type="spatial", norm_num_groups=4, layers_per_block=1,
    ), 1)  # fmt: skip
    with torch.no_grad():  # else most of its pictures are beyond white and black
        movq.decoder.conv_out.weight.mul_(0.2)
    pipe = diffusers.KandinskyV22Pipeline(
        unet=kandinsky_unet(), movq=movq,
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False,
            steps_offset=1,
        ),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder / "decoder")
    vision().save_pretrained(folder / "prior" / "image_encoder")
    return pipe, sf.load(str(folder / "decoder"), dtype="float32"), folder / "prior"


def kandinsky_unet() -> Any:
    from diffusers import UNet2DConditionModel

    return pipelines.scrambled(UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=8, block_out_channels=(16, 32),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", layers_per_block=1, attention_head_dim=8,
        encoder_hid_dim=WIDTH, encoder_hid_dim_type="image_proj", cross_attention_dim=16,
        addition_embed_type="image", resnet_time_scale_shift="scale_shift", norm_num_groups=8,
    ), 3)  # fmt: skip


def embeds() -> dict[str, torch.Tensor]:
    """What their prior would give for the photo, and for nothing."""
    encoder = vision()
    seen = processor()(images=photo(), return_tensors="pt").pixel_values
    with torch.no_grad():
        return {
            "image_embeds": encoder(seen).image_embeds,
            "negative_image_embeds": encoder(torch.zeros_like(seen)).image_embeds,
        }


def test_kandinskys_decoder_reads_a_picture_as_in_the_pipeline(kandinsky: Any) -> None:
    pipe, model, prior = kandinsky
    first = latents(torch.Generator().manual_seed(5))
    pipe.movq_scale_factor = 4  # of this tiny one; theirs counts on cells in blocks of as many
    theirs = pipe(
        **embeds(), latents=first, height=32, width=32, num_inference_steps=5, guidance_scale=3.0,
        output_type="latent",
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
        **embeds(), image=photo(), height=32, width=32, strength=0.5, num_inference_steps=8,
        guidance_scale=3.0, generator=torch.Generator().manual_seed(3), output_type="pt",
    ).images  # fmt: skip
    process = model.process(steps=8, solver="ddim", spacing="model") | sf.CFG(3.0)
    process = process | sf.SDEdit(photo(), t0=0.5) | sf.Variation(photo(), encoder=str(prior))
    noise = latents(torch.Generator().manual_seed(3))
    close(pixels(process, noise), theirs)


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
        ({"in_channels": 9}, "reads 9 channels"),
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
