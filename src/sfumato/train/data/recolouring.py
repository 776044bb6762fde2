"""Pictures whose main hue becomes a named one."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.train.data.captions import COLOURS


def recoloured(rgba: Tensor, names: Sequence[str]) -> Tensor:
    """Premultiplied pictures (B, 4, H, W) whose main hue becomes the named one.

    Coloured pictures have all hues turned by one angle, so that parts keep their contrast; pictures
    without colour (ink drawings, grey things) get it: dark ones as ink, light ones as paint.
    """
    alpha = rgba[:, 3:].clamp_min(1e-4)
    rgb = (rgba[:, :3] / alpha).clamp(0, 1)
    top, low = rgb.amax(1), rgb.amin(1)
    chroma = top - low
    hue = _hue(rgb, top, chroma)
    weight = chroma**2 * rgba[:, 3]
    angle = torch.atan2(
        (hue.sin() * weight).sum((1, 2)), (hue.cos() * weight).sum((1, 2))
    )  # the main hue, as a mean on the circle
    specs = [COLOURS[name] for name in names]
    target = rgba.new_tensor([math.radians(spec[1]) for spec in specs])
    gain = rgba.new_tensor([spec[2] for spec in specs])[:, None, None]
    lift = rgba.new_tensor([spec[3] for spec in specs])[:, None, None]
    saturation = (chroma / top.clamp_min(1e-4)) * gain
    value = top + lift * (1 - top) * (chroma > 0.12)
    turned = _rgb(hue + (target - angle)[:, None, None], saturation, value)
    colours = [colorsys.hsv_to_rgb(s[1] / 360, 0.85 * s[2], 0.92) for s in specs]
    colour = rgba.new_tensor(colours)[:, :, None, None]
    grey = rgb.mean(1, keepdim=True)
    mass = rgba[:, 3].sum((1, 2)).clamp_min(1)
    light = ((grey[:, 0] * rgba[:, 3]).sum((1, 2)) / mass > 0.5)[:, None, None, None]
    painted = torch.where(light, grey * colour, 1 - (1 - grey) * (1 - colour))
    dull = (chroma * rgba[:, 3]).sum((1, 2)) / mass < 0.1
    rgb = torch.where(dull[:, None, None, None], painted, turned)
    return torch.cat([rgb * rgba[:, 3:], rgba[:, 3:]], dim=1)


def _hue(rgb: Tensor, top: Tensor, chroma: Tensor) -> Tensor:
    """Hue in radians, (B, H, W)."""
    red, green, blue = rgb.unbind(1)
    safe = chroma.clamp_min(1e-6)
    sector = torch.where(
        top == red,
        (green - blue) / safe,
        torch.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    return sector * (math.pi / 3)


def _rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """HSV (hue in radians) -> (B, 3, H, W)."""
    sextant = hue * (3 / math.pi)
    channels = []
    for n in (5, 3, 1):
        k = (n + sextant) % 6
        channels.append(value * (1 - saturation * torch.minimum(k, 4 - k).clamp(0, 1)))
    return torch.stack(channels, dim=1)
