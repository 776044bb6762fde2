"""What a UNet of diffusers reads and gives, and how its families are sampled."""

from __future__ import annotations

from typing import Any

from sfumato.core.denoiser import Kind, Traits
from sfumato.core.errors import SfumatoError
from sfumato.core.spaces import Space
from sfumato.models.card import Defaults
from sfumato.models.encoders import Encoders
from sfumato.models.files.schedulers import CONSISTENCY, Scheduler
from sfumato.models.shown import Noising

KINDS: dict[str, Kind] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
"""How diffusers calls what a network predicts."""


def network_traits(
    net: Any, space: Space, text: Encoders | None, noising: Noising | None = None
) -> Traits:
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
    if noising is not None:
        width = 2 * noising.mean.shape[1]
        inputs = config.projection_class_embeddings_input_dim
        if getattr(config, "class_embed_type", None) != "projection" or inputs != width:
            raise SfumatoError(
                f"unet: reads {inputs or 'no'} numbers of a picture, image_normalizer has {width}; "
                "they belong to another model"
            )
    scored = False
    added = getattr(config, "addition_embed_type", None)
    if added not in (None, "text_time"):
        raise SfumatoError(f"unet: addition_embed_type {added!r} is not supported, text_time is")
    if added and text is not None:
        pooled = int(text.encoders[-1].network.config.projection_dim)
        inputs = config.projection_class_embeddings_input_dim
        if inputs not in (pooled + k * config.addition_time_embed_dim for k in (5, 6)):
            raise SfumatoError(
                f"unet: projection_class_embeddings_input_dim {inputs} is not that of a pooled "
                f"text of {pooled} and six sizes, nor of the refiner's four and a score"
            )
        scored = inputs == pooled + 5 * config.addition_time_embed_dim
    return Traits(
        num_classes=getattr(config, "num_class_embeds", None),
        inpaint=config.in_channels != latent,
        stride=space.stride if added else None,
        distilled=getattr(config, "time_cond_proj_dim", None) is not None,
        scored=scored,
        shown=noising is not None,
    )


def learns_range(
    outputs: int, space: Space, scheduler: Scheduler | None, part: str = "unet"
) -> bool:
    """Whether the network also gives the range of its variance; refuses other outputs."""
    channels = space.channels
    if outputs == channels:
        return False
    if scheduler is None:
        raise SfumatoError(f"{part}: {outputs} output channels; {channels} are supported")
    if outputs == 2 * channels and scheduler.variance_type in (None, "learned_range"):
        return True
    raise SfumatoError(
        f"{part}: {outputs} output channels; {channels} are supported, or {2 * channels} with "
        f"variance_type learned_range (the scheduler says {scheduler.variance_type})"
    )


def title_of(net: Any, text: Encoders | None, traits: Traits, kind: str) -> str:
    if text is None:
        return "unconditional diffusion"
    family = {768: "1.x", 1024: "2.x"}.get(net.config.cross_attention_dim, "")
    family = "XL" if traits.stride is not None else family
    names = {"inpainting": traits.inpaint, "refiner": traits.scored, "unCLIP": traits.shown}
    tuned = next((name for name, there in names.items() if there), "")
    words = ["Stable Diffusion", family, f"({kind})", tuned]
    return " ".join(word for word in words if word)


TURBO = ("EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler")


def _few_steps(text: Encoders | None, scheduler: Scheduler) -> Defaults | None:
    """Of models distilled to a few steps: consistency models by their scheduler, the turbos by
    Euler's with times that begin at the very end; None of others."""
    if text is None:
        return None
    if scheduler.kind == CONSISTENCY:
        methods = ({"method": "distilled_guidance", "scale": 8.5},) if text.distilled else ()
        solver = {"solver": "lcm", "scaling": scheduler.timestep_scaling}
        return Defaults(4, solver, "model", methods)
    published = scheduler.timestep_spacing, scheduler.prediction_type
    if scheduler.kind in TURBO and published == ("trailing", "epsilon"):
        return Defaults(4, "euler-a" if scheduler.kind == TURBO[0] else "ddim", "trailing")
    return None


def defaults_of(text: Encoders | None, space: Space, scheduler: Scheduler) -> Defaults:
    """Guidance that users of the family take; the scheduler's clamp of pixels."""
    if few := _few_steps(text, scheduler):
        return few
    if text is not None:
        scale = 5.0 if len(text.encoders) > 1 else 7.5
        told = ({"method": "refine"},) if text.scored else ()
        return Defaults(25, "dpmpp-2m", methods=({"method": "cfg", "scale": scale}, *told))
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
