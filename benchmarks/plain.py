"""A plain text-to-image UNet and loop, as the published programs run them: the peer to measure.

Functional, straight from a state dict: float32, contiguous, explicit attention matrices, text
encoded at every call, guidance as two calls. Written from the architecture alone and shares no code
with the package, so it is also an independent check of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]
HAAR = (
    torch.tensor([[[1, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]])
    .float()[:, None]
    .repeat(3, 1, 1, 1)
    / 2
)  # four bands of each of three channels


def cosine_log_ratios(steps: int) -> Tensor:
    """ln(sigma/alpha) at each index of the squared cosine table."""
    bar = [math.cos((k / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(steps + 1)]
    kept = torch.tensor([max(after / now, 0.001) for now, after in itertools.pairwise(bar)])
    product = kept.double().cumprod(0)
    return ((1 - product).log() / 2 - product.log() / 2).float()


def interpolated(table: Tensor, t: Tensor) -> Tensor:
    low = t.floor().long()
    return table[low] + (t - low) * (table[(low + 1).clamp(max=len(table) - 1)] - table[low])


def inverse(table: Tensor, level: Tensor) -> Tensor:
    """The index at which a rising table has each level, or its nearest end."""
    places = []
    for value in level.tolist():
        k = min(max(sum(entry < value for entry in table.tolist()), 1), len(table) - 1)
        low, high = float(table[k - 1]), float(table[k])
        places.append(k - 1 + min(max((value - low) / (high - low), 0), 1))
    return torch.tensor(places)


class Plain:
    """One UNet of the family by its weights and its config (scale-shift norm, updown blocks)."""

    def __init__(self, weights: Weights, config: Mapping[str, Any]) -> None:
        self.w = {name: value.float().contiguous() for name, value in weights.items()}
        self.c = config

    def __call__(self, x: Tensor, t: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        if not self.c.get("bands"):
            return self.network(x, t, tokens, mask)
        s = torch.tensor([self.c["bands"]["low"]] * 3 + [self.c["bands"]["high"]] * 9)[
            :, None, None
        ]
        table = cosine_log_ratios(self.c["bands"].get("table", 1000))
        level = interpolated(table, t)
        alpha = (1 + (2 * level).exp()).rsqrt()[:, None, None, None]
        sigma = (1 - alpha**2).sqrt()
        c = (alpha**2 * s**2 + sigma**2).rsqrt()
        z = F.conv2d(x, HAAR, stride=2, groups=3).unflatten(1, (3, 4)).transpose(1, 2).flatten(1, 2)
        half = inverse(
            table, level - math.log(2)
        )  # where a picture of half the size has this noise
        out, spread = self.network(c * z, half, tokens, mask).chunk(2, 1)
        v = c**2 * alpha * sigma * (1 - s**2) * z + s * c * out
        v = v.unflatten(1, (4, 3)).transpose(1, 2).flatten(1, 2)
        whole = F.conv_transpose2d(v, HAAR, stride=2, groups=3)
        return torch.cat([whole, F.pixel_shuffle(spread, 2)], 1)

    def network(self, x: Tensor, t: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        emb = self.time(t)
        text, pooled = self.text(tokens, mask)
        emb = emb + pooled
        skips = []
        # a network tuned for inpainting reads the known part too; here nothing is known
        h = F.pad(x, (0, 0, 0, 0, 0, self.w["input_blocks.0.0.weight"].shape[1] - x.shape[1]))
        for i in range(self.count("input_blocks")):
            h = self.entry(f"input_blocks.{i}", h, emb, text)
            skips.append(h)
        h = self.entry("middle_block", h, emb, text)
        for i in range(self.count("output_blocks")):
            h = self.entry(f"output_blocks.{i}", torch.cat([h, skips.pop()], 1), emb, text)
        return self.conv("out.2", F.silu(self.norm("out.0", h)))

    def count(self, prefix: str) -> int:
        return 1 + max(int(k.split(".")[1]) for k in self.w if k.startswith(prefix + "."))

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def conv(self, name: str, x: Tensor) -> Tensor:
        weight = self.w[f"{name}.weight"]
        return F.conv2d(x, weight, self.w[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.group_norm(x.float(), 32, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def time(self, t: Tensor) -> Tensor:
        half = self.c["model_channels"] // 2
        angles = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(half) / half)
        emb = torch.cat([angles.cos(), angles.sin()], -1)
        return self.linear("time_embed.2", F.silu(self.linear("time_embed.0", emb)))

    def heads(self, x: Tensor, parts: int, width: int) -> tuple[Tensor, ...]:
        """(B, C, T), rows grouped by head -> parts of (B H, d, T)."""
        b, c, n = x.shape
        return x.reshape(b * c // (parts * width), parts * width, n).split(width, 1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, b: int) -> Tensor:
        scale = q.shape[1] ** -0.25
        weights = torch.softmax(torch.einsum("bct,bcs->bts", q * scale, k * scale).float(), -1)
        return torch.einsum("bts,bcs->bct", weights, v).reshape(b, -1, q.shape[-1])

    def text(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        w = self.w
        x = w["token_embedding.weight"][tokens] + w["positional_embedding"]
        x = torch.where(mask[..., None], x, w["padding_embedding"])
        for n in range(self.c["xf_layers"]):
            block = f"transformer.resblocks.{n}"
            y = self.layer_norm(f"{block}.ln_1", x)
            qkv = self.linear(f"{block}.attn.c_qkv", y).transpose(1, 2)
            q, k, v = self.heads(qkv, 3, self.c["xf_width"] // self.c["xf_heads"])
            y = self.attend(q, k, v, len(x)).transpose(1, 2)
            x = x + self.linear(f"{block}.attn.c_proj", y)
            y = F.gelu(self.linear(f"{block}.mlp.c_fc", self.layer_norm(f"{block}.ln_2", x)))
            x = x + self.linear(f"{block}.mlp.c_proj", y)
        x = self.layer_norm("final_ln", x)
        return x.transpose(1, 2), self.linear("transformer_proj", x[:, -1])

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def entry(self, name: str, h: Tensor, emb: Tensor, text: Tensor) -> Tensor:
        for k in range(3):
            part = f"{name}.{k}"
            if f"{part}.weight" in self.w:
                h = self.conv(part, h)
            elif f"{part}.qkv.weight" in self.w:
                h = self.attention(part, h, text)
            elif f"{part}.in_layers.0.weight" in self.w:
                h = self.res(part, h, emb, self.resample(name, k))
        return h

    def resample(self, name: str, k: int) -> str:
        """Whether a residual block halves or doubles: told by its place alone."""
        side, _, index = name.partition(".")
        per_level = self.c["num_res_blocks"] + 1
        levels = len(self.c["channel_mult"])
        if side == "input_blocks" and int(index) % per_level == 0 and int(index) > 0:
            return "down"
        if side == "output_blocks" and k > 0 and int(index) // per_level < levels - 1:
            return "up"
        return ""

    def res(self, name: str, x: Tensor, emb: Tensor, resample: str) -> Tensor:
        h = F.silu(self.norm(f"{name}.in_layers.0", x))
        if resample == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        elif resample == "up":
            h, x = F.interpolate(h, scale_factor=2), F.interpolate(x, scale_factor=2)
        h = self.conv(f"{name}.in_layers.2", h)
        scale, shift = self.linear(f"{name}.emb_layers.1", F.silu(emb))[..., None, None].chunk(2, 1)
        h = self.norm(f"{name}.out_layers.0", h) * (1 + scale) + shift
        h = self.conv(f"{name}.out_layers.3", F.silu(h))
        if f"{name}.skip_connection.weight" in self.w:
            x = self.conv(f"{name}.skip_connection", x)
        return x + h

    def attention(self, name: str, x: Tensor, text: Tensor) -> Tensor:
        b, c, *size = x.shape
        flat = x.reshape(b, c, -1)
        width = self.c["num_head_channels"]
        qkv = F.conv1d(self.norm(f"{name}.norm", flat), *self.pair(f"{name}.qkv"))
        q, k, v = self.heads(qkv, 3, width)
        if f"{name}.encoder_kv.weight" in self.w:
            tk, tv = self.heads(F.conv1d(text, *self.pair(f"{name}.encoder_kv")), 2, width)
            k, v = torch.cat([tk, k], -1), torch.cat([tv, v], -1)
        out = F.conv1d(self.attend(q, k, v, b), *self.pair(f"{name}.proj_out"))
        return (flat + out).reshape(b, c, *size)

    def pair(self, name: str) -> tuple[Tensor, Tensor]:
        return self.w[f"{name}.weight"], self.w[f"{name}.bias"]


def sample(
    net: Plain,
    noise: Tensor,
    prompt: Mapping[str, Tensor],
    empty: Mapping[str, Tensor],
    alpha_bar: list[float],
    indices: list[float],
    scale: float,
) -> Tensor:
    """DDIM with guidance as two calls and a clamp of x0 (v prediction)."""
    x = noise
    n = len(x)
    for k, index in enumerate(indices):
        t = torch.full((n,), index)
        a, s = math.sqrt(alpha_bar[k]), math.sqrt(1 - alpha_bar[k])
        v = [
            net(x, t, c["tokens"].expand(n, -1), c["mask"].expand(n, -1))[:, :3]
            for c in (prompt, empty)
        ]
        guided = v[1] + scale * (v[0] - v[1])
        x0 = (a * x - s * guided).clamp(-1, 1)
        eps = (x - a * x0) / s
        after = alpha_bar[k + 1] if k + 1 < len(indices) else 1.0
        x = math.sqrt(after) * x0 + math.sqrt(1 - after) * eps
    return x
