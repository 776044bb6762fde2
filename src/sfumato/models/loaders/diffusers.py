"""Loader of the diffusers family: a pipeline's folder becomes a Model.

Stable Diffusion 1.x, 2.x, XL and their inpainting variants, unconditional DDPM and latent
diffusion; flows.py has those of transformers. Scheduler files are read for what they say of the
training (noise table, what the network predicts); solvers and times are ours. Nothing is
downloaded, no code of a repository is run.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from sfumato.core.denoiser import Denoiser, Kind, Traits
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import Table, linear, scaled_linear, squared_cosine
from sfumato.core.spaces import IDENTITY, Space
from sfumato.models.card import Card, Defaults, StageCard
from sfumato.models.devices import Choice
from sfumato.models.encoders import Encoder, Encoders
from sfumato.models.files import configs, pipeline, schedulers
from sfumato.models.files.schedulers import Scheduler
from sfumato.models.latents import Conditional, Latents, Unconditional
from sfumato.models.loaders import flows, pixart
from sfumato.models.model import Model

log = logging.getLogger("sfumato")

KINDS: dict[str, Kind] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
MIN_ALPHA_BAR = 2.0**-24  # alpha_bar of a table that ends in pure noise, where a division needs one


def is_pipeline(folder: Path) -> bool:
    """Whether the folder is a diffusers pipeline."""
    return (folder / "model_index.json").is_file()


def load(name: str, folder: Path, choice: Choice) -> Model:
    """The model of a pipeline's folder."""
    import diffusers

    classes = configs.pipeline_classes(folder / "model_index.json")
    if (kind := classes["_class_name"]) not in dir(diffusers):
        log.warning(
            "%s: pipeline %.60r is not known; its parts are taken as they are", folder, kind
        )
    if classes.get("transformer") == pixart.CLASS:
        return _load_pixart(name, folder, classes, choice)
    if "transformer" in classes:
        return flows.load(name, folder, classes, choice)
    unet = classes.get("unet", "no unet")
    if unet not in ("UNet2DConditionModel", "UNet2DModel"):
        raise SfumatoError(
            f"{folder}: {classes['_class_name']} ({unet}) is not supported; {configs.SUPPORTED} are"
        )
    scheduler = schedulers.scheduler(folder / "scheduler" / "scheduler_config.json")
    digest = sha256()
    space: Space = IDENTITY
    vae = next((part for part in ("vae", "vqvae") if part in classes), None)
    if vae is not None:
        space = Latents.of(pipeline.autoencoder(folder / vae, classes[vae], choice, digest))
    net = pipeline.network(folder / "unet", unet, choice, digest)
    encoders = None if unet == "UNet2DModel" else _load_encoders(folder, classes, choice, digest)
    return assemble(
        name, net, scheduler, space, encoders, choice, digest.hexdigest(), folder=folder
    )


def _load_pixart(name: str, folder: Path, classes: Mapping[str, str], choice: Choice) -> Model:
    published = schedulers.scheduler(folder / "scheduler" / "scheduler_config.json")
    digest = sha256()
    if "vae" not in classes:
        raise SfumatoError(f"{folder}: the pipeline has no vae")
    space = Latents.of(pipeline.autoencoder(folder / "vae", classes["vae"], choice, digest))
    network, text = pixart.load(folder, classes, choice, digest)
    config = network.net.config
    learned = _learns_range(network.net, space, published)
    kind, schedule = KINDS[published.prediction_type], noise_table(published)
    side = config.sample_size * space.stride
    card = Card(
        name=name,
        title="PixArt-Sigma (eps)",
        base=StageCard(
            configs.own(config), (), published.beta_schedule, kind, schedule.steps, learned
        ),
        native=(side, side),
        multiple=config.patch_size * space.stride,
        maximum=4 * side,
        defaults=Defaults(20, "dpmpp-2m", methods=({"method": "cfg", "scale": 4.5},)),
    )
    denoiser = Denoiser(network, schedule, kind, learned)
    return Model(
        name, card, denoiser, (), text, choice, digest.hexdigest(), space, folder,
        scheduler=published,
    )  # fmt: skip


def assemble(
    name: str,
    net: Any,
    scheduler: Scheduler,
    space: Space,
    text: Encoders | None,
    choice: Choice,
    digest: str,
    *,
    folder: Path | None = None,
    title: str = "",
    own_table: Table | None = None,
) -> Model:
    """A Model of loaded parts. own_table: noise table in place of the scheduler's."""
    traits = _traits(net, space, text)
    stride, schedule = space.stride, own_table or noise_table(scheduler)
    kind = KINDS[scheduler.prediction_type]
    learned = _learns_range(net, space, scheduler)
    wrapped: Any
    wrapped = Unconditional(net, traits) if text is None else Conditional(net, traits, space)
    side = net.config.sample_size or 64
    width, height = (side, side) if isinstance(side, int) else (side[1], side[0])
    card = Card(
        name=name,
        title=title or _title(net, text, traits, kind),
        base=StageCard(
            configs.own(net.config),
            (),
            "own" if own_table else scheduler.beta_schedule,
            kind,
            schedule.steps,
            learned,
        ),
        native=(width * stride, height * stride),
        multiple=stride if text is not None else stride * 2 ** (_level_count(net) - 1),
        maximum=4 * max(width, height) * stride,
        defaults=_defaults(text, space, scheduler),
    )
    denoiser = Denoiser(wrapped, schedule, kind, learned)
    published = None if folder is None else scheduler  # a single file holds no scheduler's
    return Model(name, card, denoiser, (), text, choice, digest, space, folder, scheduler=published)


def noise_table(config: Scheduler) -> Table:
    """The noise table that a scheduler's configuration describes."""
    steps, low, high = config.num_train_timesteps, config.beta_start, config.beta_end
    if config.trained_betas is not None:
        table = Table.from_betas(config.trained_betas)
    elif config.beta_schedule == "linear":
        table = linear(steps, low, high)
    elif config.beta_schedule == "scaled_linear":
        table = scaled_linear(steps, low, high)
    else:
        table = squared_cosine(steps)
    return _zero_terminal_snr(table) if config.rescale_betas_zero_snr else table


def _zero_terminal_snr(table: Table) -> Table:
    """The table moved and scaled so that it ends in pure noise (arXiv 2305.08891, algorithm 1)."""
    roots = [math.sqrt(a) for a in table.alpha_bar]
    first, last = roots[0], roots[-1]
    moved = [((root - last) * first / (first - last)) ** 2 for root in roots]
    return Table((*moved[:-1], min(MIN_ALPHA_BAR, moved[-2] / 2)))


def _traits(net: Any, space: Space, text: Encoders | None) -> Traits:
    """What the network reads; refuses inputs that nothing here can give."""
    config, latent = net.config, space.channels
    supported = (latent, 2 * latent + 1) if text is not None else (latent,)
    if config.in_channels not in supported:
        raise SfumatoError(
            f"unet: {config.in_channels} input channels; {' or '.join(map(str, supported))} are "
            "supported, models of depth, upscaling and instructions are not"
        )
    if text is not None and config.cross_attention_dim != text.width:
        raise SfumatoError(
            f"unet: cross_attention_dim {config.cross_attention_dim}, but the text encoders give "
            f"{text.width}; they belong to another model"
        )
    added = getattr(config, "addition_embed_type", None)
    if added not in (None, "text_time"):
        raise SfumatoError(f"unet: addition_embed_type {added!r} is not supported, text_time is")
    if added and text is not None:
        pooled = int(text.encoders[-1].network.config.projection_dim)
        inputs = config.projection_class_embeddings_input_dim
        if inputs != pooled + 6 * config.addition_time_embed_dim:
            raise SfumatoError(
                f"unet: projection_class_embeddings_input_dim {inputs} is not that of a pooled "
                f"text of {pooled} and six sizes; XL's refiner, which reads others, is not "
                "supported"
            )
    return Traits(
        num_classes=getattr(config, "num_class_embeds", None),
        inpaint=config.in_channels != latent,
        stride=space.stride if added else None,
    )


def _learns_range(net: Any, space: Space, scheduler: Scheduler) -> bool:
    """Whether the network also gives the range of its variance; refuses other outputs."""
    channels, outputs = space.channels, net.config.out_channels
    if outputs == channels:
        return False
    if outputs == 2 * channels and scheduler.variance_type in (None, "learned_range"):
        return True
    raise SfumatoError(
        f"unet: {outputs} output channels; {channels} are supported, or {2 * channels} with "
        f"variance_type learned_range (the scheduler says {scheduler.variance_type})"
    )


def _title(net: Any, text: Encoders | None, traits: Traits, kind: str) -> str:
    if text is None:
        return "unconditional diffusion"
    family = {768: "1.x", 1024: "2.x"}.get(net.config.cross_attention_dim, "")
    family = "XL" if traits.stride is not None else family
    words = ["Stable Diffusion", family, f"({kind})", "inpainting" if traits.inpaint else ""]
    return " ".join(word for word in words if word)


def _level_count(net: Any) -> int:
    return len(net.config.block_out_channels)


def _defaults(text: Encoders | None, space: Space, scheduler: Scheduler) -> Defaults:
    """Guidance that users of the family take; the scheduler's clamp of pixels."""
    if text is not None:
        scale = 5.0 if len(text.encoders) > 1 else 7.5
        return Defaults(25, "dpmpp-2m", methods=({"method": "cfg", "scale": scale},))
    methods: tuple[dict[str, Any], ...] = ()
    if space.stride == 1 and scheduler.thresholding:
        # theirs holds the quantile between 1 and this, whose default is 1: that is a clamp
        _check_range(scheduler.sample_max_value, "sample_max_value")
        methods = ({"method": "threshold", "mode": "static"},)
    elif space.stride == 1 and scheduler.clips:
        _check_range(scheduler.clip_sample_range, "clip_sample_range")
        methods = ({"method": "threshold", "mode": "static"},)
    return Defaults(50, "dpmpp-2m", methods=methods)


def _check_range(value: float, name: str) -> None:
    if value != 1:
        raise SfumatoError(f"scheduler: {name} {value:g} is not supported, 1 is")


def _load_encoders(
    folder: Path, classes: Mapping[str, str], choice: Choice, digest: Any
) -> Encoders:
    """The text encoders that a pipeline names."""
    names = [name for name in ("text_encoder", "text_encoder_2") if name in classes]
    if not names:
        raise SfumatoError(f"{folder}: the pipeline has no text encoder")
    encoders = []
    for name in names:
        if classes[name] not in ("CLIPTextModel", "CLIPTextModelWithProjection"):
            raise SfumatoError(
                f"{folder}: {name} {classes[name]:.60} is not supported, CLIP's text encoders are"
            )
        vocabulary = folder / name.replace("text_encoder", "tokenizer")
        tokenizer = pipeline.tokenizer(vocabulary)
        net = pipeline.encoder(folder / name, classes[name], choice, digest)
        pipeline.check_tokens(tokenizer, int(net.config.vocab_size), vocabulary)
        layer: Any = "second" if "text_encoder_2" in classes else "last"
        encoders.append(Encoder(tokenizer, net, layer))
    zeros = configs.empty_prompt_is_zeros(folder / "model_index.json", "text_encoder_2" in classes)
    return Encoders(tuple(encoders), zeros)
