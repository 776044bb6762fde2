"""A small convolutional classifier of clean pictures, with features of 64 numbers: the judge.

This project's own network, for measuring; it never guides a picture that it judges.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class JudgeConfig:
    """widths: channels of each level, each at half the size of the one before."""

    classes: int
    widths: tuple[int, ...] = (32, 48, 96, 128)
    features: int = 64
    dropout: float = 0.2


def _layer(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.GroupNorm(8, out), nn.SiLU()
    )


class Judge(nn.Module):
    """Pictures (B, 3, S, S) in [-1, 1] -> logits (B, classes); `features` gives (B, 64)."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        blocks: list[nn.Module] = []
        channels = 3
        for width in config.widths:
            blocks += [_layer(channels, width), _layer(width, width), nn.MaxPool2d(2)]
            channels = width
        self.blocks = nn.Sequential(*blocks[:-1])
        self.neck = nn.Linear(2 * channels, config.features)
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.features, config.classes)

    def features(self, x: Tensor) -> Tensor:
        """What pictures are compared by."""
        h = self.blocks(x)
        pooled = F.adaptive_max_pool2d(h, 1).flatten(1)
        out: Tensor = self.neck(torch.cat([h.mean((2, 3)), pooled], dim=1))
        return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.drop(F.silu(self.features(x))))
        return out
