"""Loader of the diffusers family: a pipeline's folder becomes a Model.

Stable Diffusion 1.x, 2.x, XL and their inpainting variants, unconditional DDPM and latent
diffusion. Scheduler files are read for what they say of the training (noise table, what the network
predicts); solvers and times are ours. Nothing is downloaded, no code of a repository is run.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from sfumato.core.denoiser import Denoiser, Kind
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import Table, linear, scaled_linear, squared_cosine
from sfumato.core.spaces import IDENTITY, Space
from sfumato.models.card import Card, Defaults, StageCard
from sfumato.models.devices import Choice
from sfumato.models.encoders import Encoder, Encoders
from sfumato.models.latents import Conditional, Latents, Traits, Unconditional
from sfumato.models.model import Model
from sfumato.models.parts import autoencoder, config_of, encoder, network, tokenizer

log = logging.getLogger("sfumato")

KINDS: dict[str, Kind] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
ZERO = 2.0**-24  # alpha_bar of a table that ends in pure noise, where a division needs one


def is_pipeline(folder: Path) -> bool:
    """Whether the folder is a diffusers pipeline."""
    return (folder / "model_index.json").is_file()


def load(name: str, folder: Path, choice: Choice) -> Model:
    """The model of a pipeline's folder."""
    parts = config_of(folder / "model_index.json")
    unet = _class(parts, "unet")
    if unet not in ("UNet2DConditionModel", "UNet2DModel"):
        what = _class(parts, "transformer") or unet or "no unet"
        raise SfumatoError(
            f"{folder}: {parts.get('_class_name')} ({what}) is not supported; Stable Diffusion "
            "1.x, 2.x, XL, their inpainting variants, DDPM and unconditional LDM are"
        )
    digest = sha256()
    space: Space = IDENTITY
    vae = next((part for part in ("vae", "vqvae") if _class(parts, part)), None)
    if vae is not None:
        space = Latents.of(autoencoder(folder / vae, _class(parts, vae), choice, digest))
    net = network(folder / "unet", unet, choice, digest)
    text = None if unet == "UNet2DModel" else _encoders(folder, parts, choice, digest)
    return assembled(
        name, net, config_of(folder / "scheduler" / "scheduler_config.json"), space, text, choice,
        digest.hexdigest(), folder=folder,
    )  # fmt: skip


def assembled(
    name: str,
    net: Any,
    scheduler: Mapping[str, Any],
    space: Space,
    text: Encoders | None,
    choice: Choice,
    digest: str,
    *,
    folder: Path | None = None,
    title: str = "",
) -> Model:
    """A Model of loaded parts; scheduler: the entries of a scheduler_config.json."""
    traits = _traits(net, space, text)
    stride, schedule = space.stride, table(scheduler)
    kind = KINDS.get(str(scheduler.get("prediction_type", "epsilon")))
    if kind is None:
        raise SfumatoError(
            f"{name}: prediction_type {scheduler['prediction_type']!r} is not supported; "
            f"{', '.join(KINDS)} are"
        )
    wrapped: Any
    wrapped = Unconditional(net, traits) if text is None else Conditional(net, traits, space)
    side = net.config.sample_size or 64
    width, height = (side, side) if isinstance(side, int) else (side[1], side[0])
    card = Card(
        name=name,
        title=title or _title(net, text, traits, kind),
        base=StageCard(
            {key: value for key, value in net.config.items() if not key.startswith("_")},
            (),
            str(scheduler.get("beta_schedule", "linear")),
            kind,
            schedule.steps,
        ),
        native=(width * stride, height * stride),
        multiple=stride if text is not None else stride * 2 ** (_depth(net) - 1),
        maximum=4 * max(width, height) * stride,
        defaults=_defaults(text, space, scheduler),
    )
    denoiser = Denoiser(wrapped, schedule, kind)
    return Model(name, card, denoiser, (), text, choice, digest, space, folder)


def table(config: Mapping[str, Any]) -> Table:
    """The noise table that a scheduler's configuration describes."""
    steps = int(config.get("num_train_timesteps", 1000))
    shape = str(config.get("beta_schedule", "linear"))
    start, end = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
    if config.get("trained_betas") is not None:
        made = Table.from_betas([float(beta) for beta in config["trained_betas"]])
    elif shape == "linear":
        made = linear(steps, start, end)
    elif shape == "scaled_linear":
        made = scaled_linear(steps, start, end)
    elif shape == "squaredcos_cap_v2":
        made = squared_cosine(steps)
    else:
        raise SfumatoError(
            f"scheduler: beta_schedule {shape!r} ({config.get('_class_name')}) is not supported; "
            "linear, scaled_linear and squaredcos_cap_v2 are"
        )
    return _to_zero(made) if config.get("rescale_betas_zero_snr") else made


def _to_zero(given: Table) -> Table:
    """The table moved and scaled so that it ends in pure noise (arXiv 2305.08891, algorithm 1)."""
    roots = [math.sqrt(a) for a in given.alpha_bar]
    first, last = roots[0], roots[-1]
    moved = [((root - last) * first / (first - last)) ** 2 for root in roots]
    return Table((*moved[:-1], ZERO))


def _class(parts: Mapping[str, Any], part: str) -> str:
    """Class of a pipeline's part, "" where it has none."""
    found = parts.get(part)
    return str(found[1] or "") if isinstance(found, list) else ""


def _traits(net: Any, space: Space, text: Encoders | None) -> Traits:
    """What the network reads; refuses inputs that nothing here can give."""
    config, latent = net.config, space.channels
    known = (latent, 2 * latent + 1) if text is not None else (latent,)
    if config.in_channels not in known:
        raise SfumatoError(
            f"unet: {config.in_channels} input channels; {' or '.join(map(str, known))} are "
            "supported, models of depth, upscaling and instructions are not"
        )
    added = getattr(config, "addition_embed_type", None)
    if added not in (None, "text_time"):
        raise SfumatoError(f"unet: addition_embed_type {added!r} is not supported, text_time is")
    return Traits(
        num_classes=getattr(config, "num_class_embeds", None),
        inpaint=config.in_channels != latent,
        stride=space.stride if added else None,
    )


def _title(net: Any, text: Encoders | None, traits: Traits, kind: str) -> str:
    if text is None:
        return "unconditional diffusion"
    family = {768: "1.x", 1024: "2.x"}.get(net.config.cross_attention_dim, "")
    family = "XL" if traits.stride is not None else family
    words = ["Stable Diffusion", family, f"({kind})", "inpainting" if traits.inpaint else ""]
    return " ".join(word for word in words if word)


def _depth(net: Any) -> int:
    return len(net.config.block_out_channels)


def _defaults(text: Encoders | None, space: Space, scheduler: Mapping[str, Any]) -> Defaults:
    """Guidance that users of the family take; a clamp where the scheduler has one."""
    if text is not None:
        scale = 5.0 if len(text.encoders) > 1 else 7.5
        return Defaults(25, "dpmpp-2m", methods=({"method": "cfg", "scale": scale},))
    bounded = space.stride == 1 and scheduler.get("clip_sample", True)
    methods = ({"method": "threshold", "mode": "static"},) if bounded else ()
    return Defaults(50, "dpmpp-2m", methods=methods)


def _encoders(folder: Path, parts: Mapping[str, Any], choice: Choice, digest: Any) -> Encoders:
    """The text encoders that a pipeline names."""
    if _class(parts, "text_encoder") not in ("CLIPTextModel", "CLIPTextModelWithProjection", ""):
        raise SfumatoError(
            f"{folder}: text encoder {_class(parts, 'text_encoder')} is not supported, CLIP's are"
        )
    names = [n for n in ("text_encoder", "text_encoder_2") if _class(parts, n)]
    if not names:
        raise SfumatoError(f"{folder}: the pipeline has no text encoder")
    xl = _class(parts, "text_encoder_2") != ""
    made = []
    for name in names:
        made.append(
            Encoder(
                tokenizer(folder / name.replace("text_encoder", "tokenizer")),
                encoder(folder / name, _class(parts, name), choice, digest),
                "second" if xl or len(names) > 1 else "last",
            )
        )
    return Encoders(tuple(made), bool(parts.get("force_zeros_for_empty_prompt", xl)))
