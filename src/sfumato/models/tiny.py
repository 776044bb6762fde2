"""The tiny autoencoders of a latent model: quick looks, and losses that need no full decoder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sfumato.core.denoiser import traits
from sfumato.models.files import hub, pipeline
from sfumato.models.latents import Latents

if TYPE_CHECKING:
    from sfumato.models.model import Model

TINY = {False: "madebyollin/taesd", True: "madebyollin/taesdxl"}
"""The tiny autoencoders of Stable Diffusion's latents; true for XL."""


def tiny_of(model: Model) -> Latents | None:
    """The tiny autoencoder in the model's folder (vae_tiny) or pulled, None without one."""
    if model.space.stride == 1:
        return None
    local = None if model.folder is None else model.folder / "vae_tiny"
    folder = local if local is not None and local.is_dir() else None
    if folder is None and model.space.channels == 4 and model.text is not None:
        folder = hub.find(TINY[traits(model.denoiser.network).stride is not None])
    if folder is None:
        return None
    choice = replace(model.choice, offload="none")
    space = Latents.of(pipeline.autoencoder(folder, "AutoencoderTiny", choice))
    same = (space.stride, space.channels) == (model.space.stride, model.space.channels)
    return space if same else None
