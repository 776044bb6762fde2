"""ControlNet for networks of our own (arXiv 2302.05543): a copy of the way down reads a hint.

y = F(x; W) + Z(F'(x + E(c); W')), where Z is a convolution of zeros, so that a fresh copy changes
nothing. In the paper E ends in zeros too; here it does not, or hints would be heard only after both
have opened, which on small budgets is most of the training. Text is read as the base has prepared
it: the copy's attentions have queries and outputs of their own, the keys and values are the base's,
so that whatever acts on the text (another null text, words of an adapter) reaches the copy too.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sfumato.core.errors import SfumatoError
from sfumato.nn.assembly import UNetConfig, run_entry
from sfumato.nn.bands import FACTOR
from sfumato.nn.blocks import Attention, Conv2d
from sfumato.nn.unet import UNet

WIDTHS = (16, 32, 64)
"""Channels of the hint's convolutions."""
NOT_COPIED = (
    *("out", "output_blocks", "token_embedding", "positional_embedding", "padding_embedding"),
    *("transformer", "final_ln", "transformer_proj"),
)
"""The way up, and the text transformer."""


class Control(nn.Module):
    """The copy of a UNet: (state, time, prepared condition, `encode(hint)`) -> what every skip and,
    last, the middle gets.

    channels: of the hint.
    """

    def __init__(self, config: UNetConfig, channels: int = 1) -> None:
        super().__init__()
        self.channels = channels
        self.net = UNet(config)
        for name in NOT_COPIED:
            if hasattr(self.net, name):
                delattr(self.net, name)
        for module in self.net.modules():
            if isinstance(module, Attention) and config.xf_width:
                del module.encoder_kv
        small, middle, wide = WIDTHS
        self.hint = nn.Sequential(
            Conv2d(channels, small, 3),
            nn.SiLU(),
            Conv2d(small, middle, 3, stride=FACTOR if config.bands else 1),
            nn.SiLU(),
            Conv2d(middle, wide, 3),
            nn.SiLU(),
            Conv2d(wide, config.widths[0], 3),
        )
        self.zeros = nn.ModuleList(_zero(width) for width in _widths(config))

    @classmethod
    def copy_of(cls, net: UNet, channels: int = 1) -> Control:
        """A fresh one, which changes nothing."""
        control = cls(net.config, channels)
        weights = net.state_dict()
        own = control.net.state_dict()
        control.net.load_state_dict({name: weights[name].float() for name in own})
        return control

    def cast(self, dtype: torch.dtype) -> Control:
        """Convert convolutions; everything else stays float32, as in the base."""
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d):
                module.to(dtype)
        return self

    def encode(self, hint: Tensor) -> Tensor:
        """What the stem's map gets: hints (B, channels, H, W) -> (B, width, h, w)."""
        x = hint.to(self.net.dtype, memory_format=torch.channels_last)
        out: Tensor = self.hint(x)
        return out

    def forward(
        self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], encoded: Tensor
    ) -> list[Tensor]:
        """encoded: of B rows or of one for all."""
        h, emb, text = self.net.enter(x, time, cond)
        added = []
        for k, entry in enumerate(self.net.input_blocks):
            h = run_entry(entry, h, emb, text)
            if k == 0:
                h = _joined(h, encoded)
            added.append(self.zeros[k](h))
        h = run_entry(self.net.middle_block, h, emb, text)
        return [*added, self.zeros[-1](h)]


def _joined(h: Tensor, encoded: Tensor) -> Tensor:
    if encoded.shape[-2:] != h.shape[-2:]:
        raise SfumatoError(
            f"hint: its map is {encoded.shape[-1]}x{encoded.shape[-2]}, the state's "
            f"{h.shape[-1]}x{h.shape[-2]}; give a hint of the state's size"
        )
    return h + encoded


def _zero(width: int) -> Conv2d:
    conv = Conv2d(width, width, 1)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


def _widths(config: UNetConfig) -> list[int]:
    """Channels of every skip, and of the middle."""
    widths = [config.widths[0]]
    for level, width in enumerate(config.widths):
        last = level == len(config.widths) - 1
        widths += [width] * (config.num_res_blocks + (0 if last else 1))
    return [*widths, widths[-1]]
