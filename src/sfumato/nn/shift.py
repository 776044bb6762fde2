"""Shifts of a network's bottleneck (Asyrp, arXiv 2210.10960): learned from it, or fixed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sfumato.core.errors import SfumatoError
from sfumato.nn.blocks import timestep_embedding
from sfumato.nn.group_norm import GROUPS

CODE = 128
"""Width of the time's code."""
TABLE = 1000  # what t is counted in


class Shift(nn.Module):
    """f(h, t): 1x1 convolution, the time added, group norm, SiLU, 1x1 convolution; 0 at first.

    width: a multiple of 32; at 32 itself each channel is a group, whose norm takes the time out.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.channels = channels
        self.enter = nn.Conv2d(channels, width, 1)
        self.time = nn.Linear(CODE, width)
        self.norm = nn.GroupNorm(GROUPS, width)
        self.leave = nn.Conv2d(width, channels, 1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, h: Tensor, t: float) -> Tensor:
        """h (B, C, h, w) at time t -> the same shape."""
        code = timestep_embedding(torch.tensor([t * TABLE], device=h.device), CODE)
        x = self.enter(h.float()) + self.time(code)[:, :, None, None]
        out: Tensor = self.leave(nn.functional.silu(self.norm(x)))
        return out


class Fixed(nn.Module):
    """One shift (C, h, w) for all times, or one for each of evenly spaced ones (T, C, h, w), from
    t = 0 to 1; h and w may be 1."""

    shift: Tensor

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        self.channels = shift.shape[-3]
        self.register_buffer("shift", shift.float())

    def forward(self, h: Tensor, t: float) -> Tensor:
        if self.shift.ndim == 3:
            return self.shift[None]
        return self.shift[round(t * (len(self.shift) - 1))][None]


def shift_of(tensors: Mapping[str, Tensor], where: str) -> Shift | Fixed:
    """Of a file: "shift" alone, or the weights of f. where: what an error calls the file."""
    fixed, enter = tensors.get("shift"), tensors.get("enter.weight")
    if fixed is not None and fixed.ndim in (3, 4) and fixed.is_floating_point():
        return Fixed(fixed)
    if enter is None or enter.ndim != 4 or len(enter) % GROUPS:
        raise SfumatoError(
            f"{where}: holds no shift of a bottleneck; one is made by tuner asyrp, or is a tensor "
            "called shift, (channels, height, width)"
        )
    network = Shift(enter.shape[1], len(enter))
    try:
        network.load_state_dict({name: value.float() for name, value in tensors.items()})
    except RuntimeError as error:
        raise SfumatoError(f"{where}: is damaged ({' '.join(str(error).split())[:160]})") from None
    return network.eval().requires_grad_(False)
