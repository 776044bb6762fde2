"""Checkpoints in one file: Stable Diffusion 1.x, 2.x and XL as their authors publish them, and the
DDPM networks of SDEdit's authors.

Their networks are those of diffusers, built from what the shapes tell; names are in key_names.py.
What no shape tells (heads, noise table) is that of the family.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.core.spaces import IDENTITY
from sfumato.documents import parse_data
from sfumato.models.devices import DTYPES, Choice
from sfumato.models.files import edm_schedulers, pipeline
from sfumato.models.files.edm_schedulers import EdmScheduler
from sfumato.models.files.hashes import file_digest
from sfumato.models.files.schedulers import Scheduler
from sfumato.models.latents import Latents
from sfumato.models.loaders import diffusers
from sfumato.models.loaders.networks import Part, autoencoder, ddpm_unet, unet, weights_under
from sfumato.models.loaders.noise_tables import own_table
from sfumato.models.loaders.text_encoders import (
    CLIP_1,
    OPEN_CLIP_2,
    REFINER,
    XL_1,
    XL_2,
    is_refiner,
    load_encoders,
)
from sfumato.models.model import Model

log = logging.getLogger("sfumato")

UNET, VAE = "model.diffusion_model.", "first_stage_model."
SIGMA_MAX, SIGMA_MIN = "edm_vpred.sigma_max", "edm_vpred.sigma_min"
"""Numbers by which CosXL's file is marked."""
MEAN, STD = "edm_mean", "edm_std"
"""Of Playground 2.5's latents, four numbers each."""
EXTRA_KEYS = re.compile(
    r"model_ema\.|edm_|(?:v_pred|ztsnr|global_step|logvar)$"
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
    net = ddpm_unet(plain).to(choice.home, DTYPES[choice.dtype])
    scheduler = Scheduler(kind="DDPMScheduler", clip_sample=True)
    table = own_table(path, weights, scheduler)
    return diffusers.assemble(
        str(path), net, scheduler, IDENTITY, None, choice, digest,
        title="DDPM (SDEdit)", own_table=table,
    )  # fmt: skip


def _load_stable(path: Path, weights: Mapping[str, Tensor], choice: Choice) -> Model:
    digest = file_digest(path)
    refines = is_refiner(weights)
    xl = refines or f"{XL_2}token_embedding.weight" in weights
    sd2 = f"{OPEN_CLIP_2}token_embedding.weight" in weights
    kind = _prediction(path, weights, sd2)
    plain = Scheduler(
        kind="DDIMScheduler",
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type=kind,
        rescale_betas_zero_snr="ztsnr" in weights,
    )
    of_edm = _edm_scheduler(path, weights, xl)
    table = own_table(path, weights, plain) if of_edm is None else None
    text = load_encoders(path, weights, xl, sd2, choice)
    pooled = int(text.encoders[-1].network.config.projection_dim) if xl else 0
    if xl and f"{UNET}label_emb.0.0.weight" not in weights:
        raise SfumatoError(
            f"{path.name}: has XL's text encoders, but its network reads no sizes "
            "(label_emb is missing); the file is incomplete"
        )
    told = 5 if refines else 6
    net = unet(weights_under(weights, UNET), None if xl or sd2 else 8, pooled, told)
    side = 128 if xl else 96 if kind == "v_prediction" else 64
    net.register_to_config(sample_size=side)
    vae = autoencoder(weights_under(weights, VAE), 0.13025 if xl else 0.18215)
    if MEAN in weights:
        numbers = {MEAN: "latents_mean", STD: "latents_std"}
        constants = {name: _numbers(path, weights, key) for key, name in numbers.items()}
        vae.register_to_config(scaling_factor=0.5, **constants)
    space = Latents.of(vae.to(choice.home))
    with pipeline.quiet():
        net = net.to(choice.home, DTYPES[choice.dtype])
    of_text = (XL_1, XL_2) if xl else (OPEN_CLIP_2,) if sd2 else (CLIP_1,)
    prefixes = (UNET, VAE, *((REFINER,) if refines else of_text))
    if idle := [k for k in weights if not k.startswith(prefixes) and not EXTRA_KEYS.match(k)]:
        log.warning("%s: %d weights of no part, not used: %s", path.name, len(idle), idle[0])
    return diffusers.assemble(
        str(path), net, of_edm or plain, space, text, choice, digest, own_table=table
    )


def _edm_scheduler(path: Path, weights: Mapping[str, Tensor], xl: bool) -> EdmScheduler | None:
    """What a file that is marked as CosXL's or Playground's says of its noise; of others none."""
    marks = [name for name in (SIGMA_MAX, SIGMA_MIN, MEAN, STD) if name in weights]
    if not marks:
        return None
    if not xl or marks not in ([SIGMA_MAX], [SIGMA_MAX, SIGMA_MIN], [MEAN, STD]):
        raise SfumatoError(
            f"{path.name}: is marked {marks[0]}, and is neither CosXL nor Playground 2.5 whole"
        )
    if marks[0] == MEAN:
        return EdmScheduler(kind=edm_schedulers.CLASSES[0])
    told = {
        "sigma_max": _numbers(path, weights, SIGMA_MAX, 1)[0],
        "sigma_min": _numbers(path, weights, SIGMA_MIN, 1)[0] if len(marks) == 2 else 0.002,
        "sigma_data": 1.0, "sigma_schedule": "exponential", "prediction_type": "v_prediction",
    }  # fmt: skip
    return parse_data(EdmScheduler, {"_class_name": edm_schedulers.CLASSES[1], **told}, path.name)


def _numbers(path: Path, weights: Mapping[str, Tensor], name: str, count: int = 4) -> list[float]:
    """So many numbers that stand beside the weights."""
    values: list[float] = weights[name].flatten().tolist()
    spread = name == STD
    if len(values) != count or not all(math.isfinite(v) and (v > 0 or not spread) for v in values):
        raise SfumatoError(f"{path.name}: {name} is {values!r:.60}; it has {count} numbers")
    return values


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
