"""The networks of v-diffusion, cc12m_1 and wikiart_256: blocks, configuration, assembly. No files.

Source: the released code and weights of crowsonkb/v-diffusion-pytorch; they predict v. One layout
in two kinds. The kind conditioned on CLIP's text normalises and modulates in its blocks, reads t
itself and doubles sizes bilinearly. The other one has neither, reads log(alpha^2 / sigma^2),
repeats pixels, and concatenates skips in the other order. Module names and indices are those of the
checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.errors import SfumatoError
from sfumato.core.taps import Kind, Site, Taps
from sfumato.nn.blocks import Conv2d
from sfumato.nn.group_norm import ExactGroupNorm
from sfumato.nn.text import attend, merge_heads, split_heads

CHANNELS = 3
PLANES = 8  # frequencies of the time planes beside the picture
MAPPED, FREQUENCIES = 1024, 64  # of the vector that modulates the blocks, and of t in it
BLOCKS = 4  # on each level's way down, and again on its way up
ATTENDED = 4  # the first level that attends: 16 px of 256


@dataclass(frozen=True)
class VDiffusionConfig:
    """width: base width, which multipliers scale level by level; head_width: of attention;
    embedding: width of the CLIP text embedding it is conditioned on, 0 for the other kind.
    """

    width: int = 128
    multipliers: tuple[float, ...] = (1, 2, 2, 4, 4, 8, 8)
    head_width: int = 64
    embedding: int = 512

    num_classes: ClassVar[int | None] = None
    inpaint: ClassVar[bool] = False
    low_res: ClassVar[bool] = False
    xf_width: ClassVar[int] = 0

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, from full resolution down."""
        return tuple(int(mult * self.width) for mult in self.multipliers)

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this."""
        return 1 << len(self.multipliers) - 1


class Fourier(nn.Module):
    """[cos(2 pi u w) | sin(2 pi u w)] with stored frequencies w: (B,) -> (B, 2 n) float32."""

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(frequencies, 1))

    def forward(self, u: Tensor) -> Tensor:
        angles = 2 * math.pi * u.float()[:, None] * self.weight.squeeze(1)
        return torch.cat([angles.cos(), angles.sin()], dim=1)


class MappingBlock(nn.Module):
    """skip(x) + Linear, ReLU, Linear, and a ReLU before the sum unless it is the last."""

    def __init__(self, width: int, last: bool) -> None:
        super().__init__()
        layers = [nn.Linear(width, MAPPED), nn.ReLU(), nn.Linear(MAPPED, MAPPED)]
        self.main = nn.Sequential(*layers, *([] if last else [nn.ReLU()]))
        self.skip = nn.Identity() if width == MAPPED else nn.Linear(width, MAPPED, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.skip(x) + self.main(x)
        return out


class Modulation(nn.Module):
    """h (1 + scale) + shift, both read from the mapped vector."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.Linear(MAPPED, 2 * channels, bias=False)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.layer(emb).to(h.dtype)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, h, 1 + scale)


class Block(nn.Module):
    """skip(x) + two 3x3 convolutions, each with its norm and modulation (or none) and a ReLU.

    last: the network's last block, which ends with the convolution.
    """

    output: Site | None = None  # the place of its map, where no other layer follows it

    def __init__(self, cin: int, width: int, cout: int, modulated: bool, last: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((cin, width), (width, cout)):
            layers.append(Conv2d(before, after, 3))
            if last and len(layers) > 1:
                break
            if modulated:
                layers += [ExactGroupNorm(1, after, affine=False), Modulation(after)]
            layers.append(nn.ReLU(inplace=True))
        self.main = nn.Sequential(*layers)
        self.skip = nn.Identity() if cin == cout else nn.Conv2d(cin, cout, 1, bias=False)

    def forward(self, x: Tensor, emb: Tensor | None) -> Tensor:
        h = x
        for layer in self.main:
            h = layer(h, emb) if isinstance(layer, Modulation) else layer(h)
        out: Tensor = self.skip(x) + h
        return out


class SelfAttention(nn.Module):
    """x + out_proj(attention over pixels); rows of qkv are all q, all k, all v."""

    site: Site | None = None
    output: Site | None = None

    def __init__(self, channels: int, heads: int, normed: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm = ExactGroupNorm(1, channels) if normed else nn.Identity()
        self.qkv_proj = nn.Conv2d(channels, 3 * channels, 1)
        self.out_proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, taps: Taps | None = None) -> Tensor:
        pixels = self.norm(x).permute(0, 2, 3, 1)
        qkv = _pointwise(self.qkv_proj, pixels.flatten(1, 2)).chunk(3, dim=-1)
        q, k, v = (split_heads(part, self.heads, parts=1)[0] for part in qkv)
        if taps is None or self.site is None:
            h = attend(q, k, v)
        else:
            h = taps.attend(q, k, v, self.site.here(x.shape), attend)
        h = _pointwise(self.out_proj, merge_heads(h))
        return x + h.view(pixels.shape).permute(0, 3, 1, 2)


def _pointwise(conv: nn.Conv2d, rows: Tensor) -> Tensor:
    """A 1x1 convolution of pixels as rows (B, T, C)."""
    return F.linear(rows, conv.weight.flatten(1), conv.bias)


class Enlarge(nn.Upsample):
    """What ends a level's way up."""

    output: Site | None = None


class Skip(nn.Module):
    """A level beside the one above it: half the size, its layers, double the size, concatenated."""

    site: Site | None = None  # of x as it is concatenated

    def __init__(self, layers: list[nn.Module], conditioned: bool) -> None:
        super().__init__()
        grow = Enlarge(scale_factor=2, mode="bilinear" if conditioned else "nearest")
        self.main = nn.Sequential(nn.AvgPool2d(2), *layers, grow)
        self.conditioned = conditioned

    def forward(self, x: Tensor, emb: Tensor | None, taps: Taps | None = None) -> Tensor:
        inner = run(self.main, x, emb, taps)
        if taps is not None and self.site is not None:
            x = taps.feature(x, self.site)
        return torch.cat([inner, x] if self.conditioned else [x, inner], dim=1)


def run(layers: nn.Sequential, h: Tensor, emb: Tensor | None, taps: Taps | None = None) -> Tensor:
    """One layer after the other; emb: the mapped vector, None for the kind without."""
    for layer in layers:
        if isinstance(layer, Block):
            h = layer(h, emb)
        elif isinstance(layer, Skip):
            h = layer(h, emb, taps)
        elif isinstance(layer, SelfAttention):
            h = layer(h, taps)
        else:
            h = layer(h)
        if taps is not None and isinstance(layer, Block | SelfAttention | Enlarge):
            h = h if layer.output is None else taps.feature(h, layer.output)
    return h


def name_sites(net: nn.Sequential) -> tuple[Site, ...]:
    """Tell each layer which place it is: `output` of its map, `site` of attentions and skips.

    The map at the end of a level's way down is its skip's; of the deepest level it is the middle.
    Where a level ends, the map is the enlarged one.
    """
    sites: list[Site] = []
    counts: dict[Kind, int] = {"down": 0, "up": 0, "self": 0}

    def walk(layers: nn.Sequential, path: str) -> None:
        named = [(f"{path}.{k}", layer) for k, layer in enumerate(layers)]
        inner = next((layer for layer in layers if isinstance(layer, Skip)), None)
        blocks = [k for k, layer in enumerate(layers) if isinstance(layer, Block)]
        for number, k in enumerate(blocks):
            end = k
            while end + 1 < len(layers) and not isinstance(layers[end + 1], Block | Skip):
                end += 1  # its attention, and what enlarges a level's last map
            for name, layer in named[k : end + 1]:
                if isinstance(layer, SelfAttention):
                    layer.site = Site("self", counts["self"], name)
                    sites.append(layer.site)
                    counts["self"] += 1
            halfway = number == BLOCKS - 1
            if halfway and inner is None:
                site = Site("middle", 0, named[end][0])
            else:
                kind: Kind = "down" if number < BLOCKS else "up"
                site = Site(kind, counts[kind], named[end][0])
                counts[kind] += 1
            last = layers[end]
            assert isinstance(last, Block | SelfAttention | Enlarge)
            last.output = site
            sites.append(site)
            if halfway and inner is not None:
                inner.site = Site("skip", site.index, site.name)
                sites.append(inner.site)
                walk(inner.main, f"{named[end + 1][0]}.main")

    walk(net, "net")
    return tuple(sites)


def level(config: VDiffusionConfig, i: int) -> list[nn.Module]:
    """Layers of level i, the deeper ones inside a Skip between its blocks down and up."""
    width, conditioned = config.widths[i], config.embedding > 0
    before = config.widths[i - 1] if i else CHANNELS + 2 * PLANES
    after = config.widths[i - 1] if i else CHANNELS
    deepest = i == len(config.widths) - 1
    layers: list[nn.Module] = []
    for k in range(2 * BLOCKS):
        last = k == 2 * BLOCKS - 1
        joined = k == BLOCKS and not deepest
        if joined:
            layers.append(Skip(level(config, i + 1), conditioned))
        cin = before if k == 0 else 2 * width if joined else width
        cout = after if last else width
        layers.append(Block(cin, width, cout, conditioned, last and i == 0))
        if i >= ATTENDED:
            layers.append(SelfAttention(cout, cout // config.head_width, conditioned))
    return layers


class VDiffusion(nn.Module):
    """cc12m_1 (embedding 512) or wikiart_256 (embedding 0).

    Conditions: clip_embed (B, embedding), a text embedding of CLIP of any length, zeros for none;
    the other kind takes no conditions, and its times must lie inside (0, 1): its log SNR is
    infinite at both ends.
    """

    def __init__(self, config: VDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        if config.embedding:
            self.mapping_timestep_embed = Fourier(FREQUENCIES)
            first = MappingBlock(config.embedding + 2 * FREQUENCIES, last=False)
            self.mapping = nn.Sequential(first, MappingBlock(MAPPED, last=True))
        self.timestep_embed = Fourier(PLANES)
        self.net = nn.Sequential(*level(config, 0))
        self.sites = name_sites(self.net)

    @property
    def dtype(self) -> torch.dtype:
        """The compute dtype of convolutions and attention."""
        return next(self.net.parameters()).dtype

    def cast(self, dtype: torch.dtype) -> VDiffusion:
        """Convert convolutions, attention and its norms; time, mapping and modulation stay float32.

        In half precision the phases of the Fourier features would be off by a hundredth.
        """
        for module in self.net.modules():
            if isinstance(module, nn.Conv2d | nn.GroupNorm):
                module.to(dtype)
        return self

    def prepare(self, cond: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Check the condition; there is nothing to do ahead, since its mapping reads the time."""
        wanted = {"clip_embed"} if self.config.embedding else set()
        if missing := wanted - cond.keys():
            raise SfumatoError(f"condition: this network needs {', '.join(missing)}")
        if unknown := sorted(cond.keys() - wanted):
            raise SfumatoError(
                f"condition: this network takes no {', '.join(unknown)}; "
                f"it takes {', '.join(wanted) or 'none'}"
            )
        for name, value in cond.items():
            if value.shape[1:] != (self.config.embedding,):
                raise SfumatoError(
                    f"condition: {name} is {tuple(value.shape)}, this network reads "
                    f"(B, {self.config.embedding})"
                )
        return dict(cond)

    def mapped(self, time: Tensor, embed: Tensor) -> Tensor:
        """The vector that modulates the blocks: t (B,), CLIP's (B, embedding) -> (B, 1024)."""
        direction = F.normalize(embed.float(), dim=1) * self.config.embedding**0.5
        out: Tensor = self.mapping(torch.cat([direction, self.mapping_timestep_embed(time)], dim=1))
        return out

    def forward(
        self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], taps: Taps | None = None
    ) -> Tensor:
        """x (B, 3, H, W), time (B,) = t in [0, 1] -> v (B, 3, H, W) float32."""
        cond = self.prepare(cond)
        _, channels, height, width = x.shape
        if channels != CHANNELS:
            raise SfumatoError(f"input has {channels} channels, this network reads {CHANNELS}")
        if height % self.config.multiple or width % self.config.multiple:
            raise SfumatoError(
                f"size {width}x{height}: this network needs multiples of {self.config.multiple}"
            )
        time = time.float()
        if self.config.embedding:
            clock, emb = time, self.mapped(time, cond["clip_embed"])
        else:
            angle = time * math.pi / 2
            clock, emb = (angle.cos() ** 2 / angle.sin() ** 2).log(), None
        planes = self.timestep_embed(clock)[:, :, None, None].expand(-1, -1, height, width)
        h = torch.cat([x.float(), planes], dim=1)
        h = run(self.net, h.to(self.dtype, memory_format=torch.channels_last), emb, taps)
        return h.to(torch.float32, memory_format=torch.contiguous_format)
