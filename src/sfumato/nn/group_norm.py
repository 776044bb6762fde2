"""Group normalisation, exact where the mean is far from 0, and fast where torch's is not.

y = (x - m) r w + b, with mean m and reciprocal deviation r of each picture's group of channels
(arXiv 1803.08494). Three of the CPU's kernels for channels_last pictures need help: float32 loses
digits where the mean is many deviations from 0, half precision is many times slower on small
pictures, and its gradient is so on large ones.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

GROUPS = 32
FAR = 1.0
"""Deviations that a group's mean may lie from 0 before float32 loses what the sum of squares hides:
its error grows with their square (2e-4 of 1 at 10), while a shift costs a pass over the picture."""
SMALL = 1024
"""Pixels below which the kernel of half-precision channels_last pictures is slow."""
CHUNK = 1 << 20
"""Values of a picture that the gradient takes at once, so that they stay in the cache."""


def group_norm(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """F.group_norm of (B, C, ...), exact where the mean is many deviations from 0.

    The CPU's channels_last kernel takes E[x^2] - E[x]^2 in float32; there such pictures are shifted
    first, by the mean that it found.
    """
    exact = not x.is_cpu or x.dtype != torch.float32 or x.is_contiguous()
    if exact or torch.compiler.is_compiling():
        return F.group_norm(x, groups, weight, bias, eps)
    n, channels, *sides = x.shape
    pixels = math.prod(sides)
    y, mean, rstd = torch.native_group_norm(x, weight, bias, n, channels, pixels, groups, eps)
    if float((mean * rstd).detach().abs().max()) <= FAR:
        return y
    shift = mean.detach()[..., None].expand(n, groups, channels // groups)
    x = x - shift.reshape(n, channels, *[1] * len(sides))
    return F.group_norm(x, groups, weight, bias, eps)


class ExactGroupNorm(nn.GroupNorm):
    """Any number of groups, in the dtype of x."""

    def forward(self, x: Tensor) -> Tensor:
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class GroupNorm(nn.GroupNorm):
    """Group normalisation with float32 statistics and parameters, eps 1e-5, maybe SiLU after it."""

    def __init__(self, channels: int, silu: bool = False) -> None:
        super().__init__(GROUPS, channels)
        self.silu = silu

    def forward(self, x: Tensor) -> Tensor:
        y = self._normed(x).to(x.dtype, memory_format=torch.channels_last)
        return F.silu(y) if self.silu else y

    def _normed(self, x: Tensor) -> Tensor:
        options = (self.num_groups, self.weight, self.bias, self.eps)
        if not x.is_cpu:  # only the CPU kernel takes float32 parameters with half precision
            return group_norm(x.float(), *options)
        if x.dtype == torch.float32 or torch.compiler.is_compiling():
            return group_norm(x, *options)
        if x.shape[2:].numel() < SMALL:
            return group_norm(x.contiguous(), *options)
        if self.training and x.requires_grad and x.ndim == 4:
            # torch left Function.apply untyped
            normed: Tensor = _Trained.apply(x, *options)  # type: ignore[no-untyped-call]
            return normed
        return group_norm(x, *options)


class _Trained(torch.autograd.Function):
    """group_norm of channels_last pictures in half precision, for training.

    With g the gradient of y, the sums over a group of S = C / groups * H W values being written
    <.>: dx = r (w g - (<w g> + r (x - m) <w g r (x - m)>) / S); dw = sum r (x - m) g, db = sum g.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float
    ) -> Tensor:
        n, channels, height, width = x.shape
        y, mean, rstd = torch.native_group_norm(
            x, weight, bias, n, channels, height * width, groups, eps
        )
        ctx.save_for_backward(x, weight, mean.float(), rstd.float())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        n, channels, height, width = x.shape
        groups, pixels = mean.shape[1], height * width
        each = channels // groups
        size = pixels * each
        rows, slopes = (v.permute(0, 2, 3, 1).reshape(n, pixels, channels) for v in (x, grad))
        out = torch.empty_like(rows)
        to_weight, to_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        step = max(1, CHUNK // (pixels * channels))
        for k in range(0, n, step):
            part = slice(k, k + step)
            v, g, m, r = rows[part], slopes[part], mean[part], rstd[part]
            sums = g.sum(1, dtype=torch.float32)  # (n, C): of g and of x g
            products = (g * v).sum(1, dtype=torch.float32)
            wide_m, wide_r = m.repeat_interleave(each, 1), r.repeat_interleave(each, 1)
            by_group = (-1, groups, each)
            product = (products * weight).view(by_group).sum(2)
            total = (sums * weight).view(by_group).sum(2)
            slope = (total * m - product) * r**3 / size  # dx = r w g + slope x + level
            level = -slope * m - total * r / size
            at_g, at_x, at_1 = (
                w.to(x.dtype)[:, None]
                for w in (
                    wide_r * weight,
                    slope.repeat_interleave(each, 1),
                    level.repeat_interleave(each, 1),
                )
            )
            torch.addcmul(at_1, g, at_g, out=out[part]).addcmul_(v, at_x)
            to_weight += ((products - sums * wide_m) * wide_r).sum(0)
            to_bias += sums.sum(0)
        to_x = out.view(n, height, width, channels).permute(0, 3, 1, 2)
        return to_x, None, to_weight, to_bias, None
