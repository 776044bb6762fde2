"""Noised CLIP: an image encoder that reads the timestep, and a causal text encoder.

Source: GLIDE, arXiv 2112.10741, section 2.4, keys and shapes of its released encoders. The
reference pads its sequences and masks the padding; that changes nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.errors import SfumatoError
from sfumato.nn.bands import FACTOR, Bands, BandsConfig
from sfumato.nn.text import attend, merge_heads

MEANS = (122.77093945, 116.74601272, 104.09373519)
STDS = (68.50053285, 66.63215831, 70.32316309)


@dataclass(frozen=True)
class CLIPConfig:
    """embedding: width of the shared space; heads are head_width wide, those of the text
    text_head_width where that is given.

    image_width, image_layers, patch, size: the image side; text_width, text_layers, context,
    vocabulary: the text side; steps: entries of the time table. bands: the picture is read as its
    Haar bands at half the size, of which a patch counts pixels.
    """

    embedding: int = 512
    head_width: int = 64
    size: int = 64
    patch: int = 4
    image_width: int = 768
    image_layers: int = 12
    text_width: int = 512
    text_layers: int = 12
    context: int = 77
    vocabulary: int = 65536
    steps: int = 1000
    logit_scale: float = 100.0
    bands: BandsConfig | None = None
    text_head_width: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.bands, Mapping):
            object.__setattr__(self, "bands", BandsConfig(**self.bands))
        for width, head in (
            (self.image_width, self.head_width),
            (self.text_width, self.text_head_width or self.head_width),
        ):
            if width % head:
                raise SfumatoError(f"CLIP: width {width} is no multiple of {head}")

    @property
    def channels(self) -> int:
        """Of what is cut into patches."""
        return len(MEANS) * (FACTOR**2 if self.bands else 1)

    @property
    def tokens(self) -> int:
        """Patches of a picture."""
        side = self.size // FACTOR if self.bands else self.size
        return (side // self.patch) ** 2


class Norm(nn.Module):
    """Layer normalisation, eps 1e-5, keys g and b."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(width))
        self.b = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.g, self.b)


class Linear(nn.Module):
    """x w^T + b, keys w and maybe b."""

    def __init__(self, width: int, out: int, bias: bool = True) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(out, width) * width**-0.5)
        self.b = nn.Parameter(torch.zeros(out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.w, self.b)


class Attention(nn.Module):
    """Pre-norm self-attention, maybe causal."""

    def __init__(self, width: int, head_width: int, causal: bool) -> None:
        super().__init__()
        self.head_width, self.causal = head_width, causal
        self.ln = Norm(width)
        self.f_q = Linear(width, width)
        self.f_k = Linear(width, width, bias=False)
        self.f_v = Linear(width, width)
        self.f_c = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.ln(x)
        q, k, v = (self._heads(f(h)) for f in (self.f_q, self.f_k, self.f_v))
        if self.causal:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            out = attend(q, k, v)
        projected: Tensor = self.f_c(merge_heads(out))
        return projected

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], -1, self.head_width).transpose(1, 2)


class FeedForward(nn.Module):
    """Pre-norm, exact GELU; the second layer has no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln = Norm(width)
        self.f_1 = Linear(width, 4 * width)
        self.f_2 = Linear(4 * width, width, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.f_2(F.gelu(self.f_1(self.ln(x))))
        return out


class Block(nn.Module):
    """x + attention, then + feed-forward."""

    def __init__(self, width: int, head_width: int, causal: bool) -> None:
        super().__init__()
        self.f_attn = Attention(width, head_width, causal)
        self.f_mlp = FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.f_attn(x)
        out: Tensor = x + self.f_mlp(x)
        return out


class Pictures(nn.Module):
    """What turns a picture and its timestep into tokens; token 0 is the timestep's row."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        width, channels, patch = config.image_width, config.channels, config.patch
        self.w_t = nn.Parameter(torch.randn(config.steps, width) * 0.02)
        self.patch_proj = nn.Parameter(
            torch.randn(width, channels, patch, patch) * (channels * patch**2) ** -0.5
        )
        self.w_pos = nn.Parameter(torch.randn(config.tokens + 1, width) * 0.02)
        self.ln = Norm(width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        patches = F.conv2d(x, self.patch_proj, stride=self.patch_proj.shape[-1])
        first = self.w_t[time.long()][:, None]
        tokens = torch.cat([first, patches.flatten(2).transpose(1, 2)], dim=1)
        out: Tensor = self.ln(tokens + self.w_pos)
        return out


class Words(nn.Module):
    """Token and position embeddings."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.w_voc = nn.Parameter(torch.randn(config.vocabulary, config.text_width) * 0.02)
        self.w_pos = nn.Parameter(torch.randn(config.context, config.text_width) * 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.w_voc[tokens] + self.w_pos


class Head(nn.Module):
    """Normalise one token and project it into the shared space."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.ln = Norm(width)
        self.f = Linear(width, embedding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.f(self.ln(x))
        return out


def _stack(first: nn.Module, width: int, layers: int, causal: bool, config: CLIPConfig) -> Stack:
    blocks: dict[str, nn.Module] = {"input": first}
    head = (config.text_head_width if causal else None) or config.head_width
    for n in range(layers):
        blocks[f"block_{n}"] = Block(width, head, causal)
    blocks["output"] = Head(width, config.embedding)
    return Stack(blocks)


class Stack(nn.ModuleDict):
    """input, blocks, output by name, as the released files have them."""

    def tokens(self, *inputs: Tensor) -> Tensor:
        """All tokens after the last block."""
        *_, last = self.layers(*inputs)
        return last

    def layers(self, *inputs: Tensor) -> Iterator[Tensor]:
        """All tokens before the first block, then after each."""
        x: Tensor = self["input"](*inputs)
        yield x
        for name, block in self.items():
            if name not in ("input", "output"):
                x = block(x)
                yield x


class ImageEncoder(nn.Module):
    """(B, 3, S, S) in [-1, 1] and integer timesteps (B,) -> (B, embedding), not normalised."""

    means: Tensor
    stds: Tensor

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.size = config.size
        first = Pictures(config)
        self.blocks = _stack(first, config.image_width, config.image_layers, False, config)
        self.bands = Bands(config.bands, len(MEANS)) if config.bands else None
        means, stds = torch.full((config.channels,), 127.5), torch.tensor(STDS)
        means[: len(MEANS)] = torch.tensor(MEANS)  # the bands beyond LL have none
        stds = stds.repeat(config.channels // len(STDS))
        self.register_buffer("means", means.view(-1, 1, 1), persistent=False)
        self.register_buffer("stds", stds.view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        out: Tensor = self.blocks["output"](self.blocks.tokens(*self._entered(x, time))[:, 0])
        return out

    def layers(self, x: Tensor, time: Tensor) -> list[Tensor]:
        """Tokens (B, 1 + patches, width) after each block, then what `forward` gives."""
        _, *tokens = self.blocks.layers(*self._entered(x, time))
        return [*tokens, self.blocks["output"](tokens[-1][:, 0])]

    def keys(self, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Keys (B, patches, width) of the last attention, and what `forward` gives."""
        *_, before, last = self.blocks.layers(*self._entered(x, time))
        *_, (_, block), (_, output) = self.blocks.items()
        attention = block.f_attn
        assert isinstance(attention, Attention)
        return attention.f_k(attention.ln(before))[:, 1:], output(last[:, 0])

    def _entered(self, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """What the first block reads, normalised."""
        if x.shape[-2:] != (self.size, self.size):
            raise SfumatoError(
                f"CLIP: reads {self.size}x{self.size} pixels, not {x.shape[-1]}x{x.shape[-2]}"
            )
        if self.bands is not None:
            x, inner = self.bands.read(x, time)
            time = inner.round()
        return ((x + 1) * 127.5 - self.means) / self.stds, time


class TextEncoder(nn.Module):
    """Tokens (B, context) and their counts (B,) -> (B, embedding), not normalised."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        first = Words(config)
        self.blocks = _stack(first, config.text_width, config.text_layers, True, config)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        x = self.blocks.tokens(tokens)
        last = x[torch.arange(len(x), device=x.device), lengths - 1]
        out: Tensor = self.blocks["output"](last)
        return out


class NoisedCLIP(nn.Module):
    """Both encoders."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config)
        self.text_encoder = TextEncoder(config)

    def image(self, x: Tensor, time: Tensor) -> Tensor:
        """Unit vectors of noisy pictures at their timesteps 0 .. steps - 1."""
        features: Tensor = self.image_encoder(x, time)
        return unit(features)

    def layers(self, x: Tensor, time: Tensor) -> list[Tensor]:
        """The picture's tokens after each block, then `image`."""
        *tokens, features = self.image_encoder.layers(x, time)
        return [*tokens, unit(features)]

    def text(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Unit vectors of texts."""
        features: Tensor = self.text_encoder(tokens, lengths)
        return unit(features)


def unit(x: Tensor) -> Tensor:
    """x / (|x| + 1e-12), rows."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / (norm + 1e-12)
