"""Bands: a picture as its four Haar bands at half the size, each read at its own noise level.

An orthonormal transform leaves white noise white, so x_t = alpha x_0 + sigma n becomes
z_b = alpha X_b + sigma n for b = LL, LH, HL, HH. A network of half the size then costs what it
costs, and sees the whole picture. With s_b the deviation of X_b and
c_b = (alpha^2 s_b^2 + sigma^2)^-1/2 it reads c_b z_b, and its output o_b is read as

    v_b = c_b^2 alpha sigma (1 - s_b^2) z_b + s_b c_b o_b        (alpha^2 + sigma^2 = 1)

which is v-prediction in units of each band. Seen from outside that is a v network on x_t.
LL is twice the picture of half size, hence c z_LL with s_LL = 2 is exactly what a network of half
the size sees at the time t' with sigma(t')/alpha(t') = sigma/(2 alpha): such a network can be taken
over (`widened`), exactly, and t' is the time that the network reads. Networks that only look (CLIP,
classifiers) read the same bands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.schedule import named, ratio

FACTOR = 2
"""How much smaller than the picture its bands are; LL is this many times the smaller picture."""


def haar(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 4 C, H/2, W/2), orthonormal; LL, LH, HL, HH along the channels."""
    a, b = x[..., 0::2, 0::2], x[..., 0::2, 1::2]
    c, d = x[..., 1::2, 0::2], x[..., 1::2, 1::2]
    return torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], dim=1) / 2


def unhaar(bands: Tensor) -> Tensor:
    """The inverse of `haar`: (B, 4 C, h, w) -> (B, C, 2 h, 2 w)."""
    ll, lh, hl, hh = bands.chunk(4, dim=1)
    corners = [ll + lh + hl + hh, ll - lh + hl - hh, ll + lh - hl - hh, ll - lh - hl + hh]
    return F.pixel_shuffle(torch.stack(corners, dim=2).flatten(1, 2) / 2, 2)


@dataclass(frozen=True)
class BandsConfig:
    """low, high: s_b of LL and of the other bands, for pictures in [-1, 1]; schedule, table: of the
    process that the network denoises, whose times it is told as indices."""

    low: float = 2.0
    high: float = 0.25
    schedule: str = "squaredcos_cap_v2"
    table: int = 1000


class Bands(nn.Module):
    """The transform at a network's boundary; it has no weights.

    channels: of the picture.
    """

    log_ratios: Tensor
    spreads: Tensor

    def __init__(self, config: BandsConfig, channels: int) -> None:
        super().__init__()
        schedule, steps = named(config.schedule, config.table), config.table
        logs = [math.log(ratio(schedule, (k + 1) / steps)) for k in range(steps)]
        spreads = [config.low] * channels + [config.high] * (3 * channels)
        self.shift = math.log(FACTOR)
        # named, since a network that waits for its weights is made on the meta device
        tables = torch.tensor(logs, device="cpu"), torch.tensor(spreads, device="cpu")
        self.register_buffer("log_ratios", tables[0], persistent=False)
        self.register_buffer("spreads", tables[1].view(-1, 1, 1), persistent=False)

    def read(self, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W) at indices time (B,) -> c z (B, 4 C, H/2, W/2), indices of t' (B,)."""
        _, _, c = self._levels(time)
        return c * haar(x), self._index(self._log_ratio(time) - self.shift)

    def write(self, out: Tensor, x: Tensor, time: Tensor) -> Tensor:
        """The network's output, o and maybe variances, as v of the picture, and its variances.

        out (B, 4 C or 8 C, H/2, W/2) -> (B, C or 2 C, H, W); of the variances each pixel has its
        own.
        """
        alpha, sigma, c = self._levels(time)
        s, count = self.spreads, len(self.spreads)
        v = c**2 * alpha * sigma * (1 - s**2) * haar(x) + s * c * out[:, :count]
        whole = unhaar(v)
        if out.shape[1] == count:
            return whole
        return torch.cat([whole, F.pixel_shuffle(out[:, count:], FACTOR)], dim=1)

    def known(self, image: Tensor, mask: Tensor) -> list[Tensor]:
        """Known pixels of inpainting, in units of the smaller picture, and the mask's mean."""
        return [haar(image * mask) / FACTOR, F.avg_pool2d(mask, FACTOR)]

    def _levels(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """alpha and sigma (B, 1, 1, 1), c (B, 4 C, 1, 1)."""
        double = 2 * self._log_ratio(time).view(-1, 1, 1, 1)
        alpha, sigma = torch.sigmoid(-double).sqrt(), torch.sigmoid(double).sqrt()
        return alpha, sigma, (alpha**2 * self.spreads**2 + sigma**2).rsqrt()

    def _log_ratio(self, time: Tensor) -> Tensor:
        """ln(sigma/alpha) at a table's index, linear between its entries as the schedule is."""
        last = len(self.log_ratios) - 1
        time = time.float().clamp(0, last)
        below = time.floor().long().clamp(max=last - 1)
        return torch.lerp(self.log_ratios[below], self.log_ratios[below + 1], time - below)

    def _index(self, log_ratio: Tensor) -> Tensor:
        """The index at which ln(sigma/alpha) has this value, or the table's nearest end."""
        logs = self.log_ratios
        above = torch.searchsorted(logs, log_ratio).clamp(1, len(logs) - 1)
        low, high = logs[above - 1], logs[above]
        part = ((log_ratio - low) / (high - low)).clamp(0, 1)
        return above - 1 + part


def widened(stem: Tensor, channels: int, pictures: int = 1) -> Tensor:
    """The first convolution of a network of half the size as that of one that reads bands.

    stem (out, in, k, k), whose first inputs are `pictures` pictures of so many channels; the other
    inputs stay. LL takes what each picture had, the other bands are not read yet.
    """
    count = channels * pictures
    empty = stem.new_zeros(len(stem), (FACTOR**2 - 1) * channels, *stem.shape[2:])
    pairs = [(part, empty) for part in torch.split(stem[:, :count], channels, dim=1)]
    return torch.cat([*(part for pair in pairs for part in pair), stem[:, count:]], dim=1)


def widened_out(rows: Tensor, channels: int) -> Tensor:
    """Weights or biases of the last convolution: LL is what the picture was, nothing is written
    into the other bands, every variance is that of its place."""
    mean, *variance = torch.split(rows, channels)
    zeros = mean.new_zeros((FACTOR**2 - 1) * channels, *mean.shape[1:])
    return torch.cat([mean, zeros, *(part.repeat_interleave(FACTOR**2, 0) for part in variance)])
