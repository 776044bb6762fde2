"""The blocks of the OpenAI UNet: convolution, resampling, residual block, attention.

Sources: GLIDE, arXiv 2112.10741; ADM, arXiv 2105.05233. Slots of the released checkpoints that
hold no parameters stay as an Identity. How blocks make a network is in unet.py.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.errors import SfumatoError
from sfumato.core.taps import Site, Taps
from sfumato.nn.group_norm import GroupNorm
from sfumato.nn.text import attend, merge_heads, split_heads

TextKV = tuple[Tensor, Tensor]


def timestep_embedding(time: Tensor, dim: int) -> Tensor:
    """[cos(t f) | sin(t f)], f_i = 10000^(-i / half), half = dim // 2; (B,) -> (B, dim) float32."""
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=time.device)
    angles = time.float()[:, None] * torch.exp(-math.log(10000) * steps / half)
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, dim % 2))


@cache
def onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN convolves this dtype on this processor."""
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


class Conv2d(nn.Conv2d):
    """A same-size convolution that keeps its frozen weight in oneDNN's layout too, on the CPU.

    oneDNN otherwise rearranges the weight at every call, which on small pictures takes longer than
    the convolution. The copy is renewed when the weight or the size of the picture changes; a
    change made through `weight.data` is not seen, so edit frozen weights under no_grad.
    """

    _packed: tuple[Tensor, tuple[object, ...], Tensor] | None = None

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, out_channels, kernel, stride, padding=kernel // 2)
        self.weight.data = self.weight.contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or not self._packs(x):
            return super().forward(x)
        weight, args = self.weight, (self.padding, self.stride, self.dilation, self.groups)
        key = (x.shape[2:], weight.data_ptr(), weight._version)
        held = self._packed
        if held is None or held[0] is not weight or held[1] != key:
            pack = torch.ops.mkldnn._reorder_convolution_weight
            held = self._packed = (weight, key, pack(weight, *args, x.shape))
        conv = torch.ops.mkldnn._convolution_pointwise
        out: Tensor = conv(x, held[2], self.bias, *args, "none", [], "")
        return out

    def _packs(self, x: Tensor) -> bool:
        """Frozen, no gradient through it, and a dtype that oneDNN takes."""
        gradient = x.requires_grad and torch.is_grad_enabled()
        gradient |= self.weight.requires_grad or (self.bias is not None and self.bias.requires_grad)
        return x.is_cpu and not gradient and x.dtype == self.weight.dtype and onednn(x.dtype)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}


def zero_conv(channels: int, out_channels: int) -> Conv2d:
    """A 3x3 convolution that starts at zero, as fine-tuning from scratch relies on."""
    conv = Conv2d(channels, out_channels, 3)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


class Downsample(nn.Module):
    """Halve the size by a strided convolution or by averaging 2x2."""

    def __init__(self, channels: int, conv: bool) -> None:
        super().__init__()
        self.op = Conv2d(channels, channels, 3, stride=2) if conv else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.op(x)
        return out


class Upsample(nn.Module):
    """Double the size by repeating pixels, maybe with a convolution after it."""

    def __init__(self, channels: int, conv: bool) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3) if conv else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(_double(x))
        return out


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def _halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)


class ResBlock(nn.Module):
    """Residual block that reads the embedding, after its SiLU, as a scale and shift or an addend.

    resample: "down" or "up" changes the size of both paths after the first norm and SiLU.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        emb_channels: int,
        dropout: float = 0.0,
        scale_shift: bool = False,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = {"down": _halve, "up": _double, None: None}[resample]
        self.in_layers = nn.Sequential(
            GroupNorm(channels, silu=True),
            nn.Identity(),
            Conv2d(channels, out_channels, 3),
        )
        self.emb_layers = nn.Sequential(
            nn.Identity(),  # the SiLU, applied once for all blocks
            nn.Linear(emb_channels, 2 * out_channels if scale_shift else out_channels),
        )
        self.out_layers = nn.Sequential(
            GroupNorm(out_channels, silu=not scale_shift),
            nn.Identity(),
            nn.Dropout(dropout),
            zero_conv(out_channels, out_channels),
        )
        self.skip_connection = (
            nn.Identity() if channels == out_channels else Conv2d(channels, out_channels, 1)
        )

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x (B, C, H, W), emb (B, E) = SiLU(embedding), float32 -> (B, C', H', W')."""
        norm, _, conv = self.in_layers
        h = norm(x)
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = conv(h)
        emb = self.emb_layers(emb).to(h.dtype)[:, :, None, None]
        norm, _, dropout, conv = self.out_layers
        if self.scale_shift:
            scale, shift = emb.chunk(2, dim=1)
            h = F.silu(torch.addcmul(shift, norm(h), 1 + scale))
        else:
            h = norm(h + emb)
        out: Tensor = self.skip_connection(x) + conv(dropout(h))
        return out


class Attention(nn.Module):
    """x + proj_out(attention over pixels and text); rows of qkv grouped by head, or all q first."""

    site: Site | None = None  # the network says which of its attentions it is

    def __init__(self, channels: int, heads: int, new_order: bool = False, text: int = 0) -> None:
        super().__init__()
        if channels % heads:
            raise SfumatoError(f"{channels} channels cannot be split into {heads} attention heads")
        self.heads = heads
        self.new_order = new_order
        self.norm = GroupNorm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        if text:
            self.encoder_kv = nn.Conv1d(text, 2 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)
        for parameter in self.proj_out.parameters():
            nn.init.zeros_(parameter)

    def text_kv(self, sequence: Tensor) -> TextKV:
        """Text (B, ctx, W) -> its keys and values, each (B, heads, ctx, d)."""
        k, v = split_heads(_pointwise(self.encoder_kv, sequence), self.heads, parts=2)
        return k.contiguous(), v.contiguous()

    def forward(self, x: Tensor, text: TextKV | None = None, taps: Taps | None = None) -> Tensor:
        """x (B, C, H, W), keys and values of the text -> (B, C, H, W)."""
        # in channels_last memory the pixels are rows: a 1x1 convolution is a matrix product
        pixels = self.norm(x).permute(0, 2, 3, 1)
        q, k, v = self._split(_pointwise(self.qkv, pixels.flatten(1, 2)))
        if text is not None:
            k, v = torch.cat([text[0], k], dim=2), torch.cat([text[1], v], dim=2)
        if taps is None or self.site is None:
            h = attend(q, k, v)
        else:
            site = self.site.here(x.shape, 0 if text is None else text[0].shape[2])
            h = taps.attend(q, k, v, site, attend)
        h = _pointwise(self.proj_out, merge_heads(h))
        return x + h.view(pixels.shape).permute(0, 3, 1, 2)

    def _split(self, qkv: Tensor) -> tuple[Tensor, ...]:
        if not self.new_order:
            return split_heads(qkv, self.heads)
        return tuple(split_heads(part, self.heads, parts=1)[0] for part in qkv.chunk(3, dim=-1))


def _pointwise(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution of width 1 on rows (B, T, C)."""
    return F.linear(x, conv.weight.squeeze(-1), conv.bias)
