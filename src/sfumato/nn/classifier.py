"""The noise-aware classifier of ADM: the way down of its UNet, then one of four pools.

Source: arXiv 2105.05233 and its released checkpoints, whose keys these are.
"""

from __future__ import annotations

from itertools import repeat
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.errors import SfumatoError
from sfumato.nn.assembly import UNetConfig, encoder, run_entry, time_mlp
from sfumato.nn.bands import Bands
from sfumato.nn.blocks import timestep_embedding
from sfumato.nn.group_norm import GROUPS, GroupNorm
from sfumato.nn.text import attend, merge_heads, split_heads

Pool = Literal["attention", "adaptive", "spatial", "spatial_v2"]
HIDDEN = 2048


class AttentionPool(nn.Module):
    """One attention over [mean, positions]; the mean's token is the result."""

    def __init__(self, side: int, channels: int, head_width: int, out: int) -> None:
        super().__init__()
        self.heads = channels // head_width
        self.positional_embedding = nn.Parameter(
            torch.randn(channels, side * side + 1) * channels**-0.5
        )
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        x = torch.cat([x.mean(-1, keepdim=True), x], dim=-1) + self.positional_embedding
        rows = self.qkv_proj(x).transpose(1, 2)
        q, k, v = (split_heads(part, self.heads, parts=1)[0] for part in rows.chunk(3, dim=-1))
        pooled = merge_heads(attend(q, k, v)).transpose(1, 2)
        out: Tensor = self.c_proj(pooled)[:, :, 0]
        return out


class Classifier(nn.Module):
    """(B, C, S, S) in [-1, 1] and original timesteps (B,) -> logits (B, config.out_channels)."""

    def __init__(self, config: UNetConfig, size: int, pool: Pool = "attention") -> None:
        super().__init__()
        if pool not in get_args(Pool):
            raise SfumatoError(f"pool {pool!r}: must be one of {', '.join(get_args(Pool))}")
        self.config, self.pool = config, pool
        self.side = size if pool == "attention" else None  # a pool with positions reads one size
        self.bands = Bands(config.bands, config.in_channels) if config.bands else None
        self.time_embed = time_mlp(config)
        self.input_blocks, self.middle_block, skips = encoder(config)
        channels, features = config.widths[-1], sum(skips) + config.widths[-1]
        out = config.out_channels
        head: list[nn.Module]
        if pool == "attention":
            side = size // config.multiple
            attention = AttentionPool(side, channels, config.num_head_channels, out)
            head = [GroupNorm(channels, silu=True), nn.Identity(), attention]
        elif pool == "adaptive":
            last = nn.Conv2d(channels, out, 1)
            nn.init.zeros_(last.weight)
            assert last.bias is not None
            nn.init.zeros_(last.bias)
            norm = GroupNorm(channels, silu=True)
            head = [norm, nn.Identity(), nn.AdaptiveAvgPool2d(1), last, nn.Flatten()]
        elif pool == "spatial":
            head = [nn.Linear(features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, out)]
        else:
            spread = nn.GroupNorm(GROUPS, HIDDEN)
            head = [nn.Linear(features, HIDDEN), spread, nn.SiLU(), nn.Linear(HIDDEN, out)]
        self.out = nn.Sequential(*head)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        if self.bands is not None:
            x, time = self.bands.read(x, time)
        emb = self.time_embed(timestep_embedding(time, self.config.model_channels))
        emb = F.silu(emb)
        h = x
        means = []
        for entry in (*self.input_blocks, self.middle_block):
            h = run_entry(entry, h, emb, repeat(None))
            means.append(h.mean((2, 3)))
        spatial = self.pool.startswith("spatial")
        out: Tensor = self.out(torch.cat(means, dim=1) if spatial else h)
        return out
