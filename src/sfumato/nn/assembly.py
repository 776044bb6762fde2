"""The family of GLIDE and ADM: its configuration, and how its blocks make ways down and up.

UNet and Classifier are assembled of it. Sources: GLIDE, arXiv 2112.10741; ADM, arXiv 2105.05233.
Sequential indices are those of the released checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from sfumato.core.errors import SfumatoError
from sfumato.core.taps import Taps
from sfumato.nn.bands import FACTOR, BandsConfig
from sfumato.nn.blocks import Attention, Conv2d, Downsample, ResBlock, TextKV, Upsample
from sfumato.nn.group_norm import GROUPS


@dataclass(frozen=True)
class UNetConfig:
    """Constructor arguments, named as in the reference; attention_resolutions are factors.

    low_res: the network also reads a smaller picture, so its stem has twice in_channels.
    inpaint: it also reads the known pixels and their mask, in_channels + 1 more.
    xf_width 0: no text. bands: the picture is read and written as its Haar bands at half the size;
    channels are those of the picture, attention_resolutions count from the bands' size.
    """

    in_channels: int = 3
    model_channels: int = 128
    out_channels: int = 6
    num_res_blocks: int = 2
    attention_resolutions: tuple[int, ...] = ()
    dropout: float = 0.0
    channel_mult: tuple[float, ...] = (1, 2, 4, 8)
    conv_resample: bool = True
    num_classes: int | None = None
    num_heads: int = 1
    num_head_channels: int = -1
    num_heads_upsample: int = -1
    use_scale_shift_norm: bool = False
    resblock_updown: bool = False
    use_new_attention_order: bool = False
    text_ctx: int = 0
    xf_width: int = 0
    xf_layers: int = 0
    xf_heads: int = 1
    xf_final_ln: bool = False
    xf_padding: bool = False
    n_vocab: int = 0
    low_res: bool = False
    inpaint: bool = False
    bands: BandsConfig | None = None

    def __post_init__(self) -> None:
        if isinstance(self.bands, Mapping):
            object.__setattr__(self, "bands", BandsConfig(**self.bands))
        for name in ("attention_resolutions", "channel_mult"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for width in self.widths:
            if width % GROUPS:
                raise SfumatoError(
                    f"model_channels {self.model_channels} times channel_mult {self.channel_mult} "
                    f"gives width {width}, which is not a multiple of {GROUPS}"
                )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, from full resolution down."""
        return tuple(int(mult * self.model_channels) for mult in self.channel_mult)

    @property
    def stem_channels(self) -> int:
        """Channels that the first convolution reads."""
        picture = self.in_channels * self.fold
        known = picture + 1 if self.inpaint else 0
        return picture + known + (self.in_channels if self.low_res else 0)

    @property
    def fold(self) -> int:
        """Inner channels for each one of the picture."""
        return FACTOR**2 if self.bands else 1

    @property
    def emb_channels(self) -> int:
        """Width of the time embedding."""
        return 4 * self.model_channels

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this."""
        return (FACTOR if self.bands else 1) << len(self.channel_mult) - 1


def _res(config: UNetConfig, cin: int, cout: int, resample: str | None = None) -> ResBlock:
    return ResBlock(
        cin, cout, config.emb_channels, config.dropout, config.use_scale_shift_norm, resample
    )


def _attention(config: UNetConfig, channels: int, up: bool = False) -> Attention:
    heads = config.num_heads
    if up and config.num_heads_upsample != -1:
        heads = config.num_heads_upsample
    if config.num_head_channels != -1:
        heads = channels // config.num_head_channels
    return Attention(channels, heads, config.use_new_attention_order, config.xf_width)


def time_mlp(config: UNetConfig) -> nn.Sequential:
    """The timestep embedding (B, M) -> (B, 4 M)."""
    width = config.emb_channels
    return nn.Sequential(
        nn.Linear(config.model_channels, width), nn.SiLU(), nn.Linear(width, width)
    )


def encoder(config: UNetConfig) -> tuple[nn.ModuleList, nn.Sequential, list[int]]:
    """The way down and the middle: input blocks, middle block, widths of the skips."""
    ch = config.widths[0]
    blocks = [nn.Sequential(Conv2d(config.stem_channels, ch, 3))]
    skips = [ch]
    for level, width in enumerate(config.widths):
        for _ in range(config.num_res_blocks):
            entry: list[nn.Module] = [_res(config, ch, width)]
            ch = width
            if 2**level in config.attention_resolutions:
                entry.append(_attention(config, ch))
            blocks.append(nn.Sequential(*entry))
            skips.append(ch)
        if level < len(config.widths) - 1:
            down = (
                _res(config, ch, ch, "down")
                if config.resblock_updown
                else Downsample(ch, config.conv_resample)
            )
            blocks.append(nn.Sequential(down))
            skips.append(ch)
    middle = nn.Sequential(_res(config, ch, ch), _attention(config, ch), _res(config, ch, ch))
    return nn.ModuleList(blocks), middle, skips


def decoder(config: UNetConfig, skips: list[int]) -> nn.ModuleList:
    """The way up: output blocks, each reading [h, skip]."""
    skips = list(skips)
    blocks = []
    ch = skips[-1]
    for level, width in reversed(list(enumerate(config.widths))):
        for i in range(config.num_res_blocks + 1):
            entry: list[nn.Module] = [_res(config, ch + skips.pop(), width)]
            ch = width
            if 2**level in config.attention_resolutions:
                entry.append(_attention(config, ch, up=True))
            if level and i == config.num_res_blocks:
                entry.append(
                    _res(config, ch, ch, "up")
                    if config.resblock_updown
                    else Upsample(ch, config.conv_resample)
                )
            blocks.append(nn.Sequential(*entry))
    return nn.ModuleList(blocks)


def run_entry(
    entry: nn.Module,
    h: Tensor,
    emb: Tensor,
    text: Iterator[TextKV | None],
    taps: Taps | None = None,
) -> Tensor:
    """One entry of the way down or up; `text` yields the keys and values of each attention."""
    for layer in entry.children():
        if isinstance(layer, ResBlock):
            h = layer(h, emb)
        elif isinstance(layer, Attention):
            h = layer(h, next(text), taps)
        else:
            h = layer(h)
    return h
