"""IP-Adapter's networks (arXiv 2308.06721): a picture's vectors to tokens, and to keys and values.

Parts are named as in the released files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.errors import SfumatoError
from sfumato.nn.blocks import Attention
from sfumato.nn.text import split_heads
from sfumato.nn.unet import UNet

HEAD = 64
"""Width of a resampler's heads."""
TOKENS = 4
"""Of an image's one vector."""


class Projection(nn.Module):
    """One vector (B, E) -> tokens (B, N, width)."""

    patches = False

    def __init__(self, embedding: int, width: int, tokens: int = TOKENS) -> None:
        super().__init__()
        self.proj = nn.Linear(embedding, tokens * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, vectors: Tensor) -> Tensor:
        out: Tensor = self.norm(self.proj(vectors).view(len(vectors), -1, len(self.norm.weight)))
        return out


class Full(nn.Module):
    """Vectors of all patches (B, P, E) -> as many tokens (B, P, width)."""

    patches = True

    def __init__(self, embedding: int, width: int) -> None:
        super().__init__()
        first, second = nn.Linear(embedding, embedding), nn.Linear(embedding, width)
        self.proj = nn.Sequential(first, nn.GELU(), second, nn.LayerNorm(width))

    def forward(self, vectors: Tensor) -> Tensor:
        out: Tensor = self.proj(vectors)
        return out


class Perceiver(nn.Module):
    """Queries (B, N, W) attend to patches (B, P, W) and to themselves."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, patches: Tensor, queries: Tensor) -> Tensor:
        patches, queries = self.norm1(patches), self.norm2(queries)
        k, v = self.to_kv(torch.cat([patches, queries], dim=1)).chunk(2, dim=-1)
        q, k, v = (x.unflatten(-1, (-1, HEAD)).transpose(1, 2) for x in (self.to_q(queries), k, v))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.to_out(attended)
        return out


class Resampler(nn.Module):
    """IP-Adapter Plus: vectors of all patches (B, P, E) -> N tokens (B, N, width)."""

    patches = True

    def __init__(
        self,
        embedding: int,
        width: int,
        tokens: int,
        hidden: int,
        inner: int,
        depth: int,
        mult: int,
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, tokens, hidden) * hidden**-0.5)
        self.proj_in = nn.Linear(embedding, hidden)
        self.proj_out = nn.Linear(hidden, width)
        self.norm_out = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.ModuleList([Perceiver(hidden, inner), _feed_forward(hidden, mult * hidden)])
            for _ in range(depth)
        )

    def forward(self, vectors: Tensor) -> Tensor:
        x, queries = self.proj_in(vectors), self.latents.expand(len(vectors), -1, -1)
        for layer in self.layers:
            attention, feed_forward = layer.children()
            queries = attention(x, queries) + queries
            queries = feed_forward(queries) + queries
        out: Tensor = self.norm_out(self.proj_out(queries))
        return out


def _feed_forward(width: int, inner: int) -> nn.Sequential:
    first, second = nn.Linear(width, inner, bias=False), nn.Linear(inner, width, bias=False)
    return nn.Sequential(nn.LayerNorm(width), first, nn.GELU(), second)


Tokens = Projection | Full | Resampler


def projection(weights: Mapping[str, Tensor], where: str) -> Tokens:
    """The network of a file's weights, made to their sizes. where: what an error calls the file."""
    shape = {name: tuple(value.shape) for name, value in weights.items()}
    try:
        if "proj.weight" in shape and "norm.weight" in shape:
            (width,), (out, embedding) = shape["norm.weight"], shape["proj.weight"]
            return Projection(embedding, width, out // width)
        if "proj.3.weight" in shape and len(shape) == 6:
            return Full(shape["proj.0.weight"][1], shape["proj.2.weight"][0])
        if "latents" in shape and "layers.0.0.to_q.weight" in shape:
            _, tokens, hidden = shape["latents"]
            depth = sum(name.endswith(".0.to_q.weight") for name in shape)
            inner, mult = shape["layers.0.0.to_q.weight"][0], shape["layers.0.1.1.weight"][0]
            width, embedding = shape["proj_out.weight"][0], shape["proj_in.weight"][1]
            return Resampler(embedding, width, tokens, hidden, inner, depth, mult // hidden)
    except (KeyError, ValueError, IndexError, ZeroDivisionError):
        pass
    raise SfumatoError(
        f"{where}: its image projection is of no known kind; adapters of one vector, plus and full "
        "are supported, those of face identities are not"
    )


class KeysValues(nn.Module):
    """Keys and values of tokens for one attention, from the widths of a released file."""

    def __init__(self, width: int, channels: int, value_channels: int) -> None:
        super().__init__()
        self.to_k_ip = nn.Linear(width, channels, bias=False)
        self.to_v_ip = nn.Linear(width, value_channels, bias=False)

    def forward(self, tokens: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        k, v = (
            part(tokens).unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in (self.to_k_ip, self.to_v_ip)
        )
        return k, v


class OwnKeysValues(nn.Module):
    """The same for an attention of our own, beginning as a copy of the text's."""

    def __init__(self, width: int, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.kv = nn.Linear(width, 2 * channels)

    def forward(self, tokens: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        k, v = split_heads(self.kv(tokens), self.heads, parts=2)
        return k, v


class ImagePrompt(nn.Module):
    """image_proj: vectors to tokens; ip_adapter: for each attention, tokens to keys and values."""

    def __init__(self, image_proj: Tokens, ip_adapter: Sequence[nn.Module]) -> None:
        super().__init__()
        self.image_proj = image_proj
        self.ip_adapter = nn.ModuleList(ip_adapter)

    @classmethod
    def beside(cls, net: UNet, embedding: int, tokens: int = TOKENS) -> ImagePrompt:
        """For a network of our own, its keys and values those of the text."""
        attentions = [m for m in net.modules() if isinstance(m, Attention)]
        width = net.config.xf_width
        parts = []
        for attention in attentions:
            own = OwnKeysValues(width, attention.qkv.in_channels, attention.heads)
            with torch.no_grad():
                own.kv.weight.copy_(attention.encoder_kv.weight.squeeze(-1))
                assert attention.encoder_kv.bias is not None
                own.kv.bias.copy_(attention.encoder_kv.bias)
            parts.append(own)
        return cls(Projection(embedding, width, tokens), parts)
