"""Layers whose weights are kept in 8 or 4 bits, and multiplied in the type of what they read.

8 bits: a row of outputs has one scale, its largest value over 127. 4 bits: 64 values have one, and
each is the nearest of the 16 quantiles of NF4 (QLoRA, arXiv 2305.14314). The weight is put together
again at every call, so this saves memory and no time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUP = 64
SMALLEST = 4096
"""Layers with fewer weights stay as they are."""
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip


class Quantised(nn.Module):
    """In the place of a linear layer or a convolution. codes: int8, or pairs of 4 bits in uint8."""

    codes: Tensor
    scales: Tensor

    def __init__(self, layer: Any, bits: int) -> None:
        super().__init__()
        weight = layer.weight.detach()
        self.bits, self.shape, self.dtype = bits, weight.shape, weight.dtype
        self.convolves: dict[str, Any] | None = None
        if isinstance(layer, nn.Conv2d):
            names = ("stride", "padding", "dilation", "groups")
            self.convolves = {name: getattr(layer, name) for name in names}
        codes, scales = _coded8(weight.float()) if bits == 8 else _coded4(weight.float())
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)
        self.bias = layer.bias

    @property
    def weight(self) -> Tensor:
        """Put together again, in the layer's type."""
        if self.bits == 8:
            values = self.codes.float() * self.scales[:, None]
        else:
            table = torch.tensor(NF4, device=self.codes.device)
            pairs = torch.stack([self.codes >> 4, self.codes & 15], dim=-1).flatten().int()
            values = table[pairs].view(-1, GROUP) * self.scales[:, None]
        size = self.shape.numel()
        return values.flatten()[:size].view(self.shape).to(self.dtype)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.convolves is None:
            return F.linear(x, self.weight, self.bias)
        return F.conv2d(x, self.weight, self.bias, **self.convolves)


def quantise(net: nn.Module, bits: int) -> None:
    """Keep the weights of inner layers in so many bits; those that read or write the state, which
    are the network's own children, stay."""
    inner: list[tuple[nn.Module, str, Any]] = [
        (module, name, child)
        for module in net.modules()
        for name, child in module.named_children()
        if module is not net and type(child) in (nn.Linear, nn.Conv2d)
    ]
    for module, name, child in inner:
        if child.weight.numel() >= SMALLEST:
            setattr(module, name, Quantised(child, bits))


def _coded8(weight: Tensor) -> tuple[Tensor, Tensor]:
    rows = weight.flatten(1)
    scales = rows.abs().amax(1).clamp_min(1e-12) / 127
    return (rows / scales[:, None]).round().to(torch.int8), scales


def _coded4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes of two values a byte, the first in the upper half; the last group is filled up."""
    flat = weight.flatten()
    groups = F.pad(flat, (0, -len(flat) % GROUP)).view(-1, GROUP)
    scales = groups.abs().amax(1).clamp_min(1e-12)
    table = torch.tensor(NF4, device=weight.device)
    middles = (table[1:] + table[:-1]) / 2
    codes = torch.bucketize(groups / scales[:, None], middles).to(torch.uint8).view(-1, 2)
    return (codes[:, 0] << 4) | codes[:, 1], scales
