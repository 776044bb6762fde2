"""Autoencoders as spaces, and latent UNets as networks: thin adapters of the diffusers classes.

Which files they come from is the loaders' matter; nothing here reads a file.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.context import Run
from sfumato.core.errors import SfumatoError
from sfumato.core.spaces import Space
from sfumato.core.taps import Site, Taps
from sfumato.models import deep, hooks
from sfumato.models.guest import Guest, Reusing
from sfumato.models.tiles import in_tiles, needed_tile

LEAN = ("AutoencoderKL", "AutoencoderKLFlux2")
"""Autoencoders that are convolutions and group norms, which bfloat16 leaves at 50 dB and more."""


@dataclass(frozen=True, eq=False)
class Latents:
    """state = (latent - mean) / std * scale, of an AutoencoderKL, DC, Tiny or VQModel, or of
    a video's autoencoder, to which a picture is one frame. patch: a state's cell is patch x patch
    of the autoencoder's, side by side in its channels. rounded: whether a VQModel's states
    are brought to its codes when they are decoded. tile: cells of the side of tiles in which a
    larger state is decoded, None where it fits whole.

    Encoding takes the mode of the posterior, so the same picture has always the same latent. It is
    done in float32 whatever the network's type, and so is decoding through which a gradient goes;
    other decoding multiplies in `decoding`, float32 or bfloat16 (`lean`). Never in float16: there
    that of SDXL overflows, which is where black pictures come from. Pictures are coded one by one,
    so that their bits do not depend on the batch.
    """

    autoencoder: Any
    scale: float = 1.0
    shift: float = 0.0
    mean: Tensor | None = None
    std: Tensor | None = None
    patch: int = 1
    rounded: bool = True
    decoding: torch.dtype = torch.float32
    tile: int | None = None

    @classmethod
    def of(cls, autoencoder: Any) -> Latents:
        """With the constants of its configuration."""
        config = autoencoder.config
        norm = getattr(autoencoder, "bn", None)
        if norm is not None:  # of Flux.2: statistics of 2x2 cells
            numbers = norm.running_mean, norm.running_var
            mean, variance = (one.clone().view(1, -1, 1, 1) for one in numbers)
            std = (variance + config.batch_norm_eps).sqrt()
            return cls(autoencoder, mean=mean, std=std, patch=config.patch_size[0])

        def column(name: str) -> Tensor | None:
            values = getattr(config, name, None)
            if values is None:
                return None
            return torch.tensor(values).view(1, -1, 1, 1).to(autoencoder.device)

        return cls(
            autoencoder,
            float(getattr(config, "scaling_factor", None) or 1.0),
            float(getattr(config, "shift_factor", None) or 0.0),
            column("latents_mean"),
            column("latents_std"),
        )

    @property
    def of_video(self) -> bool:
        """Whether pictures and latents have an axis of frames."""
        return hasattr(self.autoencoder.config, "temperal_downsample")

    @property
    def stride(self) -> int:
        config = self.autoencoder.config
        if self.of_video:
            return int(2 ** len(config.temperal_downsample))
        blocks = getattr(config, "block_out_channels", None) or config.encoder_block_out_channels
        return int(2 ** (len(blocks) - 1)) * self.patch

    @property
    def channels(self) -> int:
        config = self.autoencoder.config
        return int(config.z_dim if self.of_video else config.latent_channels) * self.patch**2

    def encode(self, pixels: Tensor) -> Tensor:
        return torch.cat([self._encode(row) for row in torch.split(pixels.float(), 1)])

    def decode(self, state: Tensor) -> Tensor:
        with self._multiplying(state):
            rows = [self._decode_row(row) for row in torch.split(state.float(), 1)]
        return torch.cat(rows).float()

    def bind_space(self, run: Run) -> Latents:
        """The space of one run: in tiles where the machine could not decode its picture whole."""
        if self.tile is not None:
            return self
        tile = needed_tile(run.shape, self.stride, self.decoding.itemsize, str(run.device))
        return self if tile is None else replace(self, tile=tile)

    def _decode_row(self, state: Tensor) -> Tensor:
        if self.tile is None:
            return self._decode(state)
        return in_tiles(state, self.tile, self.stride, self._decode)

    def lean(self, dtype: torch.dtype) -> Latents:
        """The same, decoding in this type where that is known to leave 45 dB and more."""
        if type(self.autoencoder).__name__ not in LEAN:
            dtype = torch.float32
        return self if dtype == self.decoding else replace(self, decoding=dtype)

    def _multiplying(self, state: Tensor) -> AbstractContextManager[Any]:
        """Convolutions and matrix products in `decoding`, the weights as they are."""
        differentiated = torch.is_grad_enabled() and state.requires_grad
        if self.decoding == torch.float32 or differentiated:
            return nullcontext()
        return torch.autocast(state.device.type, self.decoding)

    def _encode(self, pixels: Tensor) -> Tensor:
        encoded = self.autoencoder.encode(pixels[:, :, None] if self.of_video else pixels)
        latent: Tensor
        if hasattr(encoded, "latent_dist"):
            latent = encoded.latent_dist.mode()
        else:  # AutoencoderDC has one for a picture
            latent = encoded.latent if hasattr(encoded, "latent") else encoded.latents
        if self.of_video:
            latent = latent[:, :, 0]
        latent = F.pixel_unshuffle(latent, self.patch) - self.shift
        if self.mean is not None and self.std is not None:
            latent = (latent - self.mean.to(latent)) / self.std.to(latent)
        return latent * self.scale

    def plain(self, state: Tensor) -> Tensor:
        """The autoencoder's own latents of a state."""
        latent = state / self.scale
        if self.mean is not None and self.std is not None:
            latent = latent * self.std.to(latent) + self.mean.to(latent)
        return F.pixel_shuffle(latent + self.shift, self.patch)

    def _decode(self, state: Tensor) -> Tensor:
        latent = self.plain(state)
        if torch.is_autocast_enabled(latent.device.type):  # quicker with channels last
            latent = latent.contiguous(memory_format=torch.channels_last)
        if self.of_video:
            frames: Tensor = self.autoencoder.decode(latent[:, :, None]).sample
            return frames[:, :, 0]
        told = {} if self.rounded else {"force_not_quantize": True}
        pixels: Tensor = self.autoencoder.decode(latent, **told).sample
        return pixels


def cross_attentions(net: Any) -> list[Any]:
    """The cross-attention layers in the order in which they run: downwards, middle, upwards.

    The network lists its middle block last; a ControlNet has no way up.
    """
    blocks = (*net.down_blocks, net.mid_block, *getattr(net, "up_blocks", ()))
    pairs = [entry for block in blocks if block is not None for entry in block.named_modules()]
    return [module for name, module in pairs if name.endswith("attn2")]


@dataclass(frozen=True)
class LayerContext:
    """A cross-attention layer's hook: of a context (B, N, L, D) it takes its own (B, L, D).

    A context that all layers share passes through, so networks may keep the hook.
    """

    layer: int

    def __call__(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        context = kwargs["encoder_hidden_states"]
        if context.ndim == 3:
            return None
        return args, {**kwargs, "encoder_hidden_states": context[:, self.layer]}


def part_contexts(net: Any) -> int:
    """Let every cross-attention layer read a context of its own; how many there are."""
    layers = cross_attentions(net)
    for k, layer in enumerate(layers):
        if not any(isinstance(hook, LayerContext) for hook in layer._forward_pre_hooks.values()):
            layer.register_forward_pre_hook(LayerContext(k), with_kwargs=True)
    return len(layers)


def canvas(
    x: Tensor, cond: Mapping[str, Tensor], space: Space, blanks: dict[tuple[int, int], Tensor]
) -> tuple[Tensor, Tensor]:
    """Mask (1 = to be drawn) and what is known of the picture, as states; without a canvas grey.

    blanks: where the grey pictures of a space are kept by their sizes.
    """
    if "inpaint_mask" in cond:
        return 1 - cond["inpaint_mask"].to(x), cond["inpaint_image"].to(x)
    height, width = x.shape[-2:]
    if (height, width) not in blanks:
        sides = height * space.stride, width * space.stride
        blanks[height, width] = space.encode(x.new_zeros(1, 3, *sides))
    blank = blanks[height, width].to(x)
    return torch.ones_like(x[:, :1]), blank.expand(len(x), *blank.shape[1:])


@dataclass(frozen=True, eq=False)
class GuestUNet(Guest, ABC):
    """A UNet, inside which taps act."""

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Every place where taps act."""
        return hooks.sites(self.net)

    def __call__(
        self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], taps: Taps | None = None, /
    ) -> Tensor:
        state, told = self.read(x, cond)
        with nullcontext() if taps is None else hooks.acting(self.net, taps, x):
            output: Tensor = self.net(state.to(self.dtype), time, **told).sample
        return output

    @abstractmethod
    def read(self, x: Tensor, cond: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Any]]:
        """The state as the network reads it, and what it is called with besides."""

    @cached_property
    def reusing(self) -> Reusing | None:
        """The network with the deep map of an earlier call; None of one that has a single block."""
        if not deep.has_deep(self.net):
            return None
        whole, shallow = deep.noting(self.net), deep.shallow(self.net)

        def output(
            x: Tensor, time: Tensor, cond: Mapping[str, Tensor], given: Tensor | None
        ) -> tuple[Tensor, Tensor]:
            state, told = self.read(x, cond)
            network = whole if given is None else shallow
            with deep.deep_map(given) as here:
                said: Tensor = network(state.to(self.dtype), time, **told).sample
            assert here.map is not None
            return said, here.map

        return output


@dataclass(frozen=True, eq=False)
class Conditional(GuestUNet):
    """A UNet2DConditionModel. Conditions: "context" (B, L, D), or (B, N, L, D) where each of its N
    cross-attention layers has one of its own (P+, arXiv 2303.09522); for SDXL "pooled" (B, P), for
    latent consistency models "guidance" (B,), the scale that they were distilled at.

    With mask channels it reads [x, mask, masked picture] as its training did; a run without a
    canvas shows it a picture of which nothing is known: grey, encoded by `space` once for a size.
    """

    space: Space
    blanks: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False)

    def read(self, x: Tensor, cond: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Any]]:
        if self.config.inpaint:
            x = torch.cat([x, *self.canvas(x, cond)], dim=1)
        context = cond["context"]
        if context.ndim == 4 and context.shape[1] != self.layer_count:
            raise SfumatoError(
                f"condition: contexts for {context.shape[1]} cross-attention layers, the network "
                f"has {self.layer_count}"
            )
        return x, self.told(x, cond)

    def told(self, x: Tensor, cond: Mapping[str, Tensor]) -> dict[str, Any]:
        """What the network is called with besides state and time, by the arguments' names."""
        added = None
        if self.config.stride is not None:
            added = {"text_embeds": cond["pooled"].to(self.dtype), "time_ids": self.sizes(x, cond)}
        return {
            "encoder_hidden_states": cond["context"].to(self.dtype),
            "class_labels": self.shown(x, cond) if self.config.shown else cond.get("label"),
            "timestep_cond": self.scale(x, cond),
            "added_cond_kwargs": added,
        }

    @cached_property
    def layer_count(self) -> int:
        """How many cross-attention layers there are; from then on each can read its own context."""
        return part_contexts(self.net)

    def canvas(self, x: Tensor, cond: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mask (1 = to be drawn) and what is known of the picture, as states."""
        return canvas(x, cond, self.space, self.blanks)

    def shown(self, x: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """What a decoder of unCLIP's kind reads of a picture: zeros of none."""
        width = int(self.net.config.projection_class_embeddings_input_dim)
        vectors = cond["shown"] if "shown" in cond else x.new_zeros(1, width)
        return vectors.to(x.device, self.dtype).expand(len(x), width)

    def scale(self, x: Tensor, cond: Mapping[str, Tensor]) -> Tensor | None:
        """What a distilled network reads of its guidance: waves of 1000 (scale - 1)."""
        if not self.config.distilled:
            return None
        if "guidance" not in cond:
            raise SfumatoError(
                'condition: this network reads "guidance", the scale it was distilled at; compose '
                "distilled_guidance"
            )
        width = int(self.net.config.time_cond_proj_dim)
        half = width // 2
        powers = torch.arange(half, device=x.device) / (half - 1)
        told = cond["guidance"].to(x.device, torch.float32).expand(len(x))
        angles = (1000 * (told - 1))[:, None] * torch.exp(-math.log(1e4) * powers)
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)
        return F.pad(waves, (0, width % 2)).to(self.dtype)

    def sizes(self, x: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """SDXL's (height, width, top, left, height, width): of the picture that is made, uncut; its
        refiner's (height, width, top, left, score)."""
        assert self.config.stride is not None
        height, width = (side * self.config.stride for side in x.shape[-2:])
        if self.config.scored:
            size = torch.tensor([[height, width, 0, 0]], device=x.device).expand(len(x), 4)
            score = cond["score"].to(x.device).expand(len(x))
            return torch.cat([size, score[:, None]], dim=1).to(self.dtype)
        row = torch.tensor([[height, width, 0, 0, height, width]], device=x.device)
        return row.expand(len(x), 6).to(self.dtype)


@dataclass(frozen=True, eq=False)
class Unconditional(GuestUNet):
    """A UNet2DModel, maybe with class labels; of pixels or of latents."""

    def read(self, x: Tensor, cond: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Any]]:
        return x, {"class_labels": cond.get("label")}
