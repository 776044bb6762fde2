"""Configuration files of second networks as typed values: ControlNets and T2I adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range
from sfumato.documents import parse_data
from sfumato.models.files.configs import check_unet, read_config
from sfumato.models.files.network_fields import Channels, Foreign, Layers, Levels, UNet, Width


class ControlNet(UNet):
    """The sizes of a ControlNet of diffusers: its UNet's, and those of its hint."""

    conditioning_channels: Channels = 3
    conditioning_embedding_out_channels: Annotated[list[Width], Levels] = Field(
        default_factory=lambda: [16, 32, 96, 256]
    )
    controlnet_conditioning_channel_order: Literal["rgb", "bgr"] = "rgb"
    global_pool_conditions: bool = False


class T2IAdapter(Foreign):
    """The sizes of a T2I adapter of diffusers."""

    in_channels: Literal[1, 3] = 3
    channels: Annotated[list[Width], Levels] = Field(default_factory=lambda: [320, 640, 1280, 1280])
    num_res_blocks: Layers = 2
    downscale_factor: Annotated[int, Range(1, 64)] = 8
    adapter_type: Literal["full_adapter", "full_adapter_xl", "light_adapter"] = "full_adapter"


def control_config(path: Path) -> ControlNet | T2IAdapter:
    """What a second network's file says of it, by its class."""
    data = read_config(path)
    kind = data.get("_class_name")
    if kind == "T2IAdapter":
        return parse_data(T2IAdapter, data, str(path))
    if kind == "ControlNetModel":
        check_unet(path, kind)
        return parse_data(ControlNet, data, str(path))
    raise SfumatoError(f"{path}: {kind!s:.60} is not supported; ControlNetModel and T2IAdapter are")
