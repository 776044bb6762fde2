"""Checkpoints in one file: Stable Diffusion 1.x, 2.x and XL as their authors publish them, and the
DDPM networks of SDEdit's authors.

Their networks are those of diffusers, built from what the shapes tell; names are in key_names.py.
What no shape tells (heads, noise table) is that of the family.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.core.spaces import IDENTITY
from sfumato.models.devices import DTYPES, Choice
from sfumato.models.files import pipeline
from sfumato.models.files.hashes import file_digest
from sfumato.models.files.schedulers import Scheduler
from sfumato.models.latents import Latents
from sfumato.models.loaders import diffusers
from sfumato.models.loaders.networks import Part, autoencoder, ddpm_unet, unet, weights_under
from sfumato.models.loaders.noise_tables import own_table
from sfumato.models.loaders.text_encoders import CLIP_1, OPEN_CLIP_2, XL_1, XL_2, load_encoders
from sfumato.models.model import Model

log = logging.getLogger("sfumato")

UNET, VAE = "model.diffusion_model.", "first_stage_model."
OTHER_NOISE = ("edm_vpred.sigma_max", "edm_vpred.sigma_min", "edm_mean", "edm_std")
"""Keys by which authors mark files of another noise than the family's."""
EXTRA_KEYS = re.compile(
    r"model_ema\.|(?:v_pred|ztsnr|global_step|logvar)$"
    r"|(?:sqrt_|log_one_minus_|posterior_|alphas_cumprod|betas$|denoiser\.)"
)
"""What stands in the originals beside their parts: averages, tables, marks."""


def is_stable(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are a latent-diffusion checkpoint's."""
    return f"{UNET}input_blocks.0.0.weight" in weights


def is_ddpm(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are a DDPM UNet's of the original code."""
    return "temb.dense.0.weight" in weights and "down.0.block.0.conv1.weight" in weights


def load(path: Path, weights: Mapping[str, Tensor], choice: Choice) -> Model:
    """The model in a file of either family."""
    if is_ddpm(weights):
        return _load_ddpm(path, weights, choice)
    return _load_stable(path, weights, choice)


def _load_ddpm(path: Path, weights: Mapping[str, Tensor], choice: Choice) -> Model:
    digest = file_digest(path)
    plain = Part({k: v for k, v in weights.items() if not EXTRA_KEYS.match(k)})
    net = ddpm_unet(plain).to(choice.device, DTYPES[choice.dtype])
    scheduler = Scheduler(kind="DDPMScheduler", clip_sample=True)
    table = own_table(path, weights, scheduler)
    return diffusers.assemble(
        str(path), net, scheduler, IDENTITY, None, choice, digest,
        title="DDPM (SDEdit)", own_table=table,
    )  # fmt: skip


def _load_stable(path: Path, weights: Mapping[str, Tensor], choice: Choice) -> Model:
    digest = file_digest(path)
    xl = f"{XL_2}token_embedding.weight" in weights
    _refuse_other_kinds(path, weights, xl)
    sd2 = f"{OPEN_CLIP_2}token_embedding.weight" in weights
    kind = _prediction(path, weights, sd2)
    scheduler = Scheduler(
        kind="DDIMScheduler",
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type=kind,
        rescale_betas_zero_snr="ztsnr" in weights,
    )
    table = own_table(path, weights, scheduler)
    text = load_encoders(path, weights, xl, sd2, choice)
    pooled = int(text.encoders[-1].network.config.projection_dim) if xl else 0
    if xl and f"{UNET}label_emb.0.0.weight" not in weights:
        raise SfumatoError(
            f"{path.name}: has XL's text encoders, but its network reads no sizes "
            "(label_emb is missing); the file is incomplete"
        )
    net = unet(weights_under(weights, UNET), None if xl or sd2 else 8, pooled)
    side = 128 if xl else 96 if kind == "v_prediction" else 64
    net.register_to_config(sample_size=side)
    vae = autoencoder(weights_under(weights, VAE), 0.13025 if xl else 0.18215)
    space = Latents.of(vae.to(choice.device))
    with pipeline.quiet():
        net = net.to(choice.device, DTYPES[choice.dtype])
    prefixes = (UNET, VAE, *((XL_1, XL_2) if xl else (OPEN_CLIP_2,) if sd2 else (CLIP_1,)))
    if idle := [k for k in weights if not k.startswith(prefixes) and not EXTRA_KEYS.match(k)]:
        log.warning("%s: %d weights of no part, not used: %s", path.name, len(idle), idle[0])
    return diffusers.assemble(
        str(path), net, scheduler, space, text, choice, digest, own_table=table
    )


def _refuse_other_kinds(path: Path, weights: Mapping[str, Tensor], xl: bool) -> None:
    if marks := [name for name in OTHER_NOISE if name in weights]:
        raise SfumatoError(
            f"{path.name}: is marked {marks[0]}, so its noise is no table; models of EDM and flow "
            "matching are not supported"
        )
    if not xl and any(name.startswith("conditioner.embedders.0.model.") for name in weights):
        raise SfumatoError(f"{path.name}: XL's refiner is not supported, its base is")


def _prediction(
    path: Path, weights: Mapping[str, Tensor], sd2: bool
) -> Literal["epsilon", "v_prediction"]:
    """What the network predicts: no shape tells it."""
    if "v_pred" in weights:
        return "v_prediction"
    if not sd2:
        return "epsilon"
    if "768" in path.stem or "512" in path.stem:  # as the released 2.x files are called
        return "v_prediction" if "768" in path.stem else "epsilon"
    raise SfumatoError(
        f"{path.name}: Stable Diffusion 2.x, but nothing tells whether it predicts v (768 px) or "
        "eps (512 px); put 768 or 512 into its name"
    )
