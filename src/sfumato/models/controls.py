"""Second networks that read a hint: ControlNets of our own and of diffusers, and T2I adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from sfumato.core.denoiser import Cond, Traits, traits
from sfumato.core.errors import SfumatoError
from sfumato.core.source import Origin, Spot
from sfumato.core.spaces import IDENTITY
from sfumato.documents import expanded, is_file, is_folder
from sfumato.models import hooks
from sfumato.models.devices import DTYPES
from sfumato.models.files import hub, pipeline
from sfumato.models.files.checkpoint import fit_weights, read_state_dict
from sfumato.models.files.control_configs import ControlNet, T2IAdapter, control_config
from sfumato.models.files.hashes import file_digest, files_digest
from sfumato.models.latents import Conditional, part_contexts
from sfumato.nn.control import Control
from sfumato.nn.packed import pack
from sfumato.nn.unet import UNet
from sfumato.recipe.places import called

if TYPE_CHECKING:
    from sfumato.models.model import Model

Added = Mapping[Spot, Tensor]
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in a grey picture


@dataclass(frozen=True, eq=False)
class OwnControl:
    """A copy of a network of our own."""

    network: Control
    origin: Origin
    pooled: ClassVar[bool] = False

    def read(self, pixels: Tensor) -> Tensor:
        return self.network.encode(_channels(pixels, self.network.channels))

    def __call__(self, x: Tensor, time: Tensor, cond: Cond, hint: Tensor) -> Added:
        return by_spot(self.network(x, time, cond, hint))


@dataclass(frozen=True, eq=False)
class GuestControl:
    """A ControlNetModel of diffusers, told what the first network is told."""

    network: Conditional
    origin: Origin
    config: ControlNet

    @property
    def pooled(self) -> bool:
        return self.config.global_pool_conditions

    def read(self, pixels: Tensor) -> Tensor:
        return _channels(pixels, self.config.conditioning_channels).to(self.network.dtype)

    def __call__(self, x: Tensor, time: Tensor, cond: Cond, hint: Tensor) -> Added:
        if cond["context"].ndim == 4:
            part_contexts(self.network.net)
        down, middle = self.network.net(
            x.to(self.network.dtype),
            time,
            controlnet_cond=hint.expand(len(x), *hint.shape[1:]),
            return_dict=False,
            **self.network.told(x, cond),
        )
        return by_spot([*down, middle])


@dataclass(frozen=True, eq=False)
class GuestAdapter:
    """A T2IAdapter of diffusers, which reads the hint alone; spots: where its maps are added."""

    network: Any
    origin: Origin
    channels: int
    spots: tuple[Spot, ...]
    pooled: ClassVar[bool] = False

    def read(self, pixels: Tensor) -> Added:
        maps = self.network(_channels(pixels, self.channels).to(self.network.dtype))
        return dict(zip(self.spots, maps, strict=False))

    def __call__(self, x: Tensor, time: Tensor, cond: Cond, hint: Added) -> Added:
        return hint


def by_spot(added: list[Tensor]) -> dict[Spot, Tensor]:
    """What every skip and, last, the middle gets."""
    *skips, middle = added
    return {**{("skip", k): value for k, value in enumerate(skips)}, ("middle", 0): middle}


def _channels(pixels: Tensor, count: int) -> Tensor:
    """Hints (B, 3, H, W) in [-1, 1] as so many channels in [0, 1]."""
    zero_to_one = (pixels + 1) / 2
    if count == 3:
        return zero_to_one
    return (zero_to_one * pixels.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)


def control_of(model: Model, name: str) -> OwnControl | GuestControl | GuestAdapter:
    """By a file of our own, or a folder or org/name as diffusers writes it."""
    path = expanded(name)
    if is_file(path):
        return own_control(model, path)
    folder = path if is_folder(path) else hub.find(name)
    if folder is None:
        hint = f"; `sfumato models pull {name}` fetches it" if hub.is_name(name) else ""
        raise SfumatoError(f"control {name}: no such file or folder{hint}")
    network: Any = model.denoiser.network
    if not isinstance(network, Conditional):
        raise SfumatoError(
            f"control {name}: is for Stable Diffusion's networks, not for {model.name}; train one "
            'for it (tuner "controlnet")'
        )
    config = control_config(folder / "config.json")
    origin = Origin(called(name), files_digest(pipeline.weight_files(folder)))
    if isinstance(config, T2IAdapter):
        return _guest_adapter(model, network, folder, config, origin)
    return _guest_control(model, network, folder, config, origin)


def own_control(model: Model, file: Path) -> OwnControl:
    """A file of the tuner's, for the network that it is a copy of."""
    base = model.denoiser.network
    weights = {name: value.float() for name, value in read_state_dict(file).items()}
    first = weights.get("hint.0.weight")
    if first is None or first.ndim != 4:
        raise SfumatoError(
            f"{file.name}: is no control of our own; one of diffusers is a folder with config.json"
        )
    if not isinstance(base, UNet):
        raise SfumatoError(f"{file.name}: is for a network of our own, not for {model.name}'s")
    if first.shape[1] not in (1, 3):
        raise SfumatoError(
            f"{file.name}: reads hints of {first.shape[1]} channels; give one of 1 or of 3"
        )
    network = Control(base.config, first.shape[1])
    fit_weights(network, weights, file.name, f"the network of {model.name}")
    network.cast(base.dtype).to(model.choice.device)
    return OwnControl(network, Origin(called(str(file)), file_digest(file)))


def _guest_control(
    model: Model, base: Conditional, folder: Path, config: ControlNet, origin: Origin
) -> GuestControl:
    import diffusers

    dtype = DTYPES[model.choice.dtype]
    net = pipeline.load_part(diffusers.ControlNetModel, folder, dtype, model.choice.device)
    for key in ("block_out_channels", "layers_per_block", "cross_attention_dim"):
        own, other = getattr(net.config, key), getattr(base.net.config, key)
        if own != other:
            raise SfumatoError(
                f"control {origin.name}: {key} is {own}, that of {model.name} is {other}; it is "
                "for another family of models"
            )
    shrinks = 2 ** (len(config.conditioning_embedding_out_channels) - 1)
    _check_stride(origin.name, shrinks, model)
    told = Traits(stride=traits(base).stride)
    pack(net)
    return GuestControl(Conditional(net, told, IDENTITY), origin, config)


def _guest_adapter(
    model: Model, base: Conditional, folder: Path, config: T2IAdapter, origin: Origin
) -> GuestAdapter:
    import diffusers

    dtype = DTYPES[model.choice.dtype]
    net = pipeline.load_part(diffusers.T2IAdapter, folder, dtype, model.choice.device)
    shrinks = config.downscale_factor // (2 if config.adapter_type == "full_adapter_xl" else 1)
    _check_stride(origin.name, shrinks, model)
    spots = tuple(_ends(base.net))
    return GuestAdapter(net, origin, config.in_channels, spots)


def _check_stride(name: str, shrinks: int, model: Model) -> None:
    if shrinks != model.space.stride:
        raise SfumatoError(
            f"control {name}: reads its hint at 1/{shrinks} of its size, the latents of "
            f"{model.name} are 1/{model.space.stride}; it is for another family of models"
        )


def _ends(net: Any) -> list[Spot]:
    """Where adapters speak: what each block of the way down gives before it shrinks its map, or
    (of one without attention) after it; then the middle."""
    spots: list[Spot] = []
    for k, block in enumerate(net.down_blocks):
        named = [site for site, _ in hooks.maps(net) if site.name.startswith(f"down_blocks.{k}.")]
        if getattr(block, "attentions", None):
            named = [site for site in named if ".attentions." in site.name]
        spots.append(("down", named[-1].index))
    return [*spots, ("middle", 0)]
