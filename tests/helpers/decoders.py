"""Tiny pipelines whose networks read what a picture shows, and one of consistency."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from helpers import pipelines

WIDTH = 16  # of a picture's vector


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


def unclip(folder: Path) -> Any:
    """Stable unCLIP's pipeline of pictures, saved to the folder."""
    import diffusers
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
        StableUnCLIPImageNormalizer,
    )

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
    return pipe


def kandinsky(folder: Path, tuned: bool = False) -> Any:
    """Kandinsky 2.2's decoder, saved to the folder with its prior's image encoder; tuned: for
    inpainting."""
    import diffusers

    movq = pipelines.scrambled(diffusers.VQModel(
        block_out_channels=(32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=4, vq_embed_dim=4,
        num_vq_embeddings=16, norm_type="spatial", norm_num_groups=4, layers_per_block=1,
    ), 1)  # fmt: skip
    with torch.no_grad():  # else most of its pictures are beyond white and black, and show rounding
        movq.decoder.conv_out.weight.mul_(0.02)
    kind = diffusers.KandinskyV22InpaintPipeline if tuned else diffusers.KandinskyV22Pipeline
    pipe = kind(
        unet=kandinsky_unet(9 if tuned else 4), movq=movq,
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False,
            steps_offset=1,
        ),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder / "decoder")
    pipe.movq_scale_factor = 4  # of this tiny one; theirs counts on cells in blocks of as many
    vision().save_pretrained(folder / "prior" / "image_encoder")
    return pipe


def kandinsky_unet(channels: int) -> Any:
    from diffusers import UNet2DConditionModel

    return pipelines.scrambled(UNet2DConditionModel(
        sample_size=8, in_channels=channels, out_channels=8, block_out_channels=(16, 32),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", layers_per_block=1, attention_head_dim=8,
        encoder_hid_dim=WIDTH, encoder_hid_dim_type="image_proj", cross_attention_dim=16,
        addition_embed_type="image", resnet_time_scale_shift="scale_shift", norm_num_groups=8,
    ), 3)  # fmt: skip


def embeds(picture: Any) -> dict[str, torch.Tensor]:
    """What their prior would give for a picture, and for nothing."""
    encoder = vision()
    seen = processor()(images=picture, return_tensors="pt").pixel_values
    with torch.no_grad():
        return {
            "image_embeds": encoder(seen).image_embeds,
            "negative_image_embeds": encoder(torch.zeros_like(seen)).image_embeds,
        }


def lcm(folder: Path) -> Any:
    """A latent consistency model's pipeline, saved to the folder."""
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler

    base = pipelines.stable(folder, "sd1")
    parts = dict(base.components) | {
        "unet": pipelines.unet(32, time_cond_proj_dim=33),
        "scheduler": LCMScheduler(original_inference_steps=50),
    }
    parts.pop("image_encoder", None)
    pipe = LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder / "lcm")
    return pipe
