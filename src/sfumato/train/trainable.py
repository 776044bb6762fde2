"""A model as something to tune: its trained parameters, its conditions with gradients.

Two kinds: networks of our own (the text transformer is inside), and latent models of the diffusers
family (text encoders beside). What is learned is written by exports.py.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import nn

from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.models import encoders
from sfumato.models.model import Model
from sfumato.nn import lora
from sfumato.nn.packed import unpack
from sfumato.nn.unet import UNet
from sfumato.nn.vdiffusion import VDiffusion
from sfumato.train.config import Config
from sfumato.train.objective import check_bound, check_trainable

log = logging.getLogger("sfumato")

TEXT = ("transformer.", "token_embedding", "positional_embedding", "padding_embedding")
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")


def check(model: Model, config: Config) -> None:
    """Refuse what a model cannot be taught so, before anything is made for it."""
    denoiser = model.denoiser
    check_trainable(denoiser)
    check_bound(config.objective, denoiser)
    network: Any = denoiser.network
    if isinstance(network, VDiffusion):
        raise SfumatoError(f"{model.name}: v-diffusion's networks cannot be tuned here")
    own = isinstance(network, UNet)
    for target in _ends(config.adapter.targets, own) if config.adapter.rank else ():
        lora.layers(network if own else network.net, (target,))  # each by itself, by its name


def _ends(targets: Sequence[str], own: bool) -> tuple[str, ...]:
    if own:
        return tuple(targets)
    return tuple("cross" if target == "attention" else target for target in targets)


class Trainable:
    """model: the model that learns; nets: its trained networks by part; texts: what is said in
    training, which all get one length; words: vectors of added words, trained too."""

    def __init__(
        self,
        model: Model,
        config: Config,
        texts: Sequence[str],
        words: Mapping[str, nn.Parameter] | None = None,
    ) -> None:
        self.model, self.config, self.texts = model, config, tuple(texts)
        self.encodes = bool(words) or config.subject.text
        self.own = isinstance(model.denoiser.network, UNet)
        check(model, config)
        network: Any = model.denoiser.network
        self.net: nn.Module = network if self.own else network.net
        self.nets: dict[str, nn.Module] = {"unet": self.net}
        if config.subject.upsampler:
            if not (self.own and model.upsamplers):
                raise SfumatoError(
                    f"subject.upsampler: model {model.name} has no upsampler; leave it out"
                )
            self.nets["upsampler"] = cast(nn.Module, model.upsamplers[0].network)
        if config.subject.text and not self.own:
            assert isinstance(model.text, encoders.Encoders)
            pairs = zip(TEXT_ENCODERS, model.text.encoders, strict=False)
            self.nets |= {name: encoder.network for name, encoder in pairs}
        if config.subject.checkpoint and self.own:
            log.warning("subject.checkpoint: does nothing with model %s; leave it out", model.name)
        elif config.subject.checkpoint:
            network.net.enable_gradient_checkpointing()
        for net in self.nets.values():
            unpack(net)
        self.trained = self._trained() | dict(words or {})
        self._kept: dict[str, Cond] = {}

    @property
    def denoiser(self) -> Denoiser:
        return self.model.denoiser

    def _trained(self) -> dict[str, nn.Parameter]:
        """Adapters on the layers that the recipe names, or the whole networks."""
        rank, alpha = self.config.adapter.rank, self.config.adapter.alpha
        trained: dict[str, nn.Parameter] = {}
        for part, net in self.nets.items():
            if not rank:
                net.requires_grad_(True)
                spared = TEXT if self.own and not self.config.subject.text else ()
                for name, parameter in net.named_parameters():
                    if name.startswith(spared):
                        parameter.requires_grad_(False)
                    else:
                        trained[f"{part}.{name}"] = parameter
                continue
            layers = lora.attach(net, rank, alpha, *self._targets(part))
            trained |= {f"{part}.{name}": parameter for name, parameter in layers.items()}
        return trained

    def _targets(self, part: str) -> tuple[Sequence[str], Sequence[str]]:
        """Ends of the adapted layers' names, and beginnings of those left out."""
        if part in TEXT_ENCODERS:
            return ("text",), ()
        spared = TEXT if self.own and not self.config.subject.text else ()
        return _ends(self.config.adapter.targets, self.own), spared

    def condition(self, texts: Sequence[str]) -> Cond:
        """One row for each text. Vectors of frozen encoders are made once."""
        assert self.model.text is not None
        if self.own or not self.encodes:
            fresh = sorted({text for text in texts if text not in self._kept})
            for text in fresh:
                self._kept[text] = self.model.encode([text], beside=self.texts)
            return Cond.cat([self._kept[text] for text in texts])
        with encoders.with_gradients():
            return self.model.encode(list(texts), beside=self.texts)

    def train(self, mode: bool) -> None:
        for net in self.nets.values():
            net.train(mode)
