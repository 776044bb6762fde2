"""The text encoder of GLIDE (arXiv 2112.10741): transformer and token encoding. No tokenizer.

The encoder's embeddings and final norm belong to the network that reads the text, because its
state dict keeps them at its top level; `encode` reads them from there.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def split_heads(qkv: Tensor, heads: int, parts: int = 3) -> tuple[Tensor, ...]:
    """(B, T, parts C) with rows grouped by head as [q_h, k_h, v_h] -> parts of (B, heads, T, d)."""
    batch, length, width = qkv.shape
    grouped = qkv.view(batch, length, heads, parts, width // (heads * parts))
    return tuple(part.transpose(1, 2) for part in grouped.unbind(3))


def merge_heads(x: Tensor) -> Tensor:
    """(B, heads, T, d) -> (B, T, C)."""
    return x.transpose(1, 2).flatten(2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over (B, heads, T, d), the softmax in float32.

    With gradients on the CPU it is written out: the backward pass of the fused kernel takes three
    to six times as long on the short sequences of these networks.
    """
    if q.is_cpu and torch.is_grad_enabled() and q.requires_grad:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        out: Tensor = scores.float().softmax(-1).to(v.dtype) @ v
        return out
    return F.scaled_dot_product_attention(q, k, v)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation with float32 statistics and parameters, eps 1e-5."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class SelfAttention(nn.Module):
    """Bidirectional attention without a mask; c_qkv rows are grouped by head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_qkv = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = split_heads(self.c_qkv(x), self.heads)
        out: Tensor = self.c_proj(merge_heads(attend(q, k, v)))
        return out


class FeedForward(nn.Module):
    """Two linear layers with the exact (erf) GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(F.gelu(self.c_fc(x)))
        return out


class TransformerBlock(nn.Module):
    """Pre-norm block: x + attn(ln_1(x)), then x + mlp(ln_2(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = SelfAttention(width, heads)
        self.ln_2 = LayerNorm(width)
        self.mlp = FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """A stack of bidirectional pre-norm blocks, (B, ctx, width) -> (B, ctx, width)."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x)
        return x


class ReadsText(Protocol):
    """The top-level parts of a network that `encode` uses."""

    token_embedding: nn.Embedding
    positional_embedding: nn.Parameter
    padding_embedding: nn.Parameter | None
    transformer: Transformer
    final_ln: LayerNorm | None


def encode(net: ReadsText, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Tokens (B, ctx) int64, mask (B, ctx) bool -> (pooled (B, W), sequence (B, ctx, W)).

    Where mask is False the whole vector, position included, is replaced by the learned
    padding_embedding of that position, so token ids under padding do not matter. Padding takes
    part in attention. The pooled vector is the last position of the context, not the last token.
    """
    x = net.token_embedding(tokens) + net.positional_embedding
    if net.padding_embedding is not None and mask is not None:
        x = torch.where(mask[..., None], x, net.padding_embedding)
    x = net.transformer(x.to(net.token_embedding.weight.dtype))
    if net.final_ln is not None:
        x = net.final_ln(x)
    return x[:, -1], x
