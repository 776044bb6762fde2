"""VGG19's convolutions (arXiv 1409.1556) as features of pictures; keys as torchvision has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

BLOCKS = (2, 2, 4, 4, 4)
WIDTHS = (64, 64, 128, 128, *[256] * 4, *[512] * 8)
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
"""Indices of the sixteen convolutions; each is followed by its ReLU, each block by a pool."""

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's channels, in [0, 1]
STD = (0.229, 0.224, 0.225)


class VGG19(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> (name, map) after each ReLU, relu1_1 to relu5_4, as asked for.

    Whoever takes no further map computes none. widths: channels of each convolution.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, rest = 3, iter(widths)
        for count in BLOCKS:
            for _ in range(count):
                width = next(rest)
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Iterator[tuple[str, Tensor]]:
        h = ((pixels + 1) / 2 - self.mean) / self.std
        layers = iter(self.features)
        for block, count in enumerate(BLOCKS, 1):
            for k in range(1, count + 1):
                h = next(layers)(h)
                h = next(layers)(h)
                yield f"relu{block}_{k}", h
            h = next(layers)(h)
