"""The UNet of GLIDE and ADM as one network: conditions, text and forward pass. No files.

Sources: GLIDE, arXiv 2112.10741; ADM, arXiv 2105.05233. Module names and Sequential indices are
those of the released checkpoints, so slots without parameters hold an Identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from itertools import islice, repeat

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.errors import SfumatoError
from sfumato.core.taps import Kind, Site, Taps
from sfumato.nn.assembly import UNetConfig, decoder, encoder, run_entry, time_mlp
from sfumato.nn.bands import FACTOR, Bands
from sfumato.nn.blocks import Attention, TextKV, timestep_embedding, zero_conv
from sfumato.nn.group_norm import GroupNorm
from sfumato.nn.text import LayerNorm, Transformer, encode

__all__ = ["UNet", "UNetConfig"]


PARTS = {"down": "input_blocks", "skip": "input_blocks", "up": "output_blocks"}


@cache
def _map(kind: Kind, index: int) -> Site:
    """The place of a block's output."""
    return Site(kind, index, f"{PARTS[kind]}.{index}" if kind in PARTS else "middle_block")


def _tapped(taps: Taps | None, h: Tensor, kind: Kind, index: int) -> Tensor:
    """A map after the taps that act on it."""
    return h if taps is None else taps.feature(h, _map(kind, index))


class UNet(nn.Module):
    """The network of GLIDE and ADM, with or without text, class labels and a low-resolution input.

    Conditions: tokens (B, ctx) int64, mask (B, ctx) bool, label (B,) int64, low_res (B, C, h, w)
    in [-1, 1], inpaint_image (B, C, H, W) and inpaint_mask (B, 1, H, W), 1 = known (both or
    neither: nothing is known); which of them depends on the configuration.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.time_embed = time_mlp(config)
        if config.num_classes is not None:
            self.label_emb = nn.Embedding(config.num_classes, config.emb_channels)
        if config.xf_width:
            self._add_text()
        self.input_blocks, self.middle_block, skips = encoder(config)
        self.output_blocks = decoder(config, skips)
        self.out = nn.Sequential(
            GroupNorm(config.widths[0], silu=True),
            nn.Identity(),
            zero_conv(config.widths[0], config.out_channels * config.fold),
        )
        self.bands = Bands(config.bands, config.in_channels) if config.bands else None
        named = [(name, m) for name, m in self.named_modules() if isinstance(m, Attention)]
        self._attentions = [attention for _, attention in named]
        for k, (name, attention) in enumerate(named):
            attention.site = Site("joint" if config.xf_width else "self", k, name)
        self._text_kv_names = [
            (f"text_k.{i}", f"text_v.{i}") for i in range(len(self._attentions)) if config.xf_width
        ]
        self._text_names = {name for pair in self._text_kv_names for name in pair}
        self._text_names |= {"text_emb"} if config.xf_width else set()

    def _add_text(self) -> None:
        config = self.config
        ctx, width = config.text_ctx, config.xf_width
        self.token_embedding = nn.Embedding(config.n_vocab, width)
        self.positional_embedding = nn.Parameter(torch.empty(ctx, width).normal_(std=0.01))
        self.padding_embedding = (
            nn.Parameter(torch.empty(ctx, width).normal_(std=0.01)) if config.xf_padding else None
        )
        self.transformer = Transformer(width, config.xf_layers, config.xf_heads)
        self.final_ln = LayerNorm(width) if config.xf_final_ln else None
        self.transformer_proj = nn.Linear(width, config.emb_channels)

    @property
    def dtype(self) -> torch.dtype:
        """The compute dtype of convolutions, attention and text."""
        return next(self.input_blocks.parameters()).dtype

    def cast(self, dtype: torch.dtype) -> UNet:
        """Convert convolutions and the text transformer; everything else stays float32.

        Norms, time_embed, emb_layers, label_emb, out and the embeddings of positions and padding
        keep float32, as the released half-precision models do.
        """
        convs = (self.input_blocks, self.middle_block, self.output_blocks)
        parts: list[nn.Module] = [
            m for part in convs for m in part.modules() if isinstance(m, nn.Conv1d | nn.Conv2d)
        ]
        if self.config.xf_width:
            parts += [m for m in self.transformer.modules() if isinstance(m, nn.Linear)]
            parts += [self.transformer_proj, self.token_embedding]
        for part in parts:
            part.to(dtype)
        return self

    def prepare(self, cond: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Do once what does not change over the steps; a prepared condition comes back as it is.

        tokens and mask become text_emb (B, 4 M) float32 and, for attention i, text_k.i and
        text_v.i (B, heads, ctx, d) in the compute dtype. label and low_res stay.
        """
        ready = self._text_names <= cond.keys()
        self._check(cond, ready)
        kept = {name: value for name, value in cond.items() if name not in ("tokens", "mask")}
        return kept if ready else kept | self._encode_text(cond["tokens"], cond.get("mask"))

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Every place where taps act."""
        down, up = len(self.input_blocks), len(self.output_blocks)
        maps = [_map("down", k) for k in range(down)] + [_map("skip", k) for k in range(down)]
        maps += [_map("middle", 0), *(_map("up", k) for k in range(up))]
        return (*maps, *(a.site for a in self._attentions if a.site is not None))

    def forward(
        self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], taps: Taps | None = None
    ) -> Tensor:
        """x (B, C, H, W), time (B,) = original timestep index, maybe fractional -> float32."""
        h, emb, text = self.enter(x, time, cond)
        skips = []
        for k, entry in enumerate(self.input_blocks):
            h = _tapped(taps, run_entry(entry, h, emb, text, taps), "down", k)
            skips.append(h)
        h = _tapped(taps, run_entry(self.middle_block, h, emb, text, taps), "middle", 0)
        for k, entry in enumerate(self.output_blocks):
            skip = _tapped(taps, skips.pop(), "skip", len(skips))
            h = run_entry(entry, torch.cat([h, skip], dim=1), emb, text, taps)
            h = _tapped(taps, h, "up", k)
        return self._said(h, x, time)

    def reusing(
        self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], deep: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The same, and the map that the highest level reads on its way up; with such a map of an
        earlier call all below that level is left out (arXiv 2312.00858)."""
        h, emb, text = self.enter(x, time, cond)
        level = self.config.num_res_blocks + 1  # the stem, or the block that enlarges, with them
        skips = []
        for k, entry in enumerate(self.input_blocks):
            if k == level and deep is not None:
                break
            h = run_entry(entry, h, emb, text)
            skips.append(h)
        below = [*self.input_blocks[level:], self.middle_block, *self.output_blocks[:-level]]
        if deep is None:
            h = run_entry(self.middle_block, h, emb, text)
        else:
            count = sum(isinstance(m, Attention) for part in below for m in part.modules())
            text = islice(text, count, None)
        for k, entry in enumerate(self.output_blocks):
            if k < len(self.output_blocks) - level:
                if deep is None:
                    h = run_entry(entry, torch.cat([h, skips.pop()], dim=1), emb, text)
                continue
            if k == len(self.output_blocks) - level:
                deep = h = h if deep is None else deep
            h = run_entry(entry, torch.cat([h, skips.pop()], dim=1), emb, text)
        assert deep is not None
        return self._said(h, x, time), deep

    def _said(self, h: Tensor, x: Tensor, time: Tensor) -> Tensor:
        """What the network says, of its last map."""
        out: Tensor = self.out(h.float())
        out = out.to(torch.float32, memory_format=torch.contiguous_format)
        return out if self.bands is None else self.bands.write(out, x, time)

    def encoding(
        self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        """(name, activation) after each block of the way down, each made when it is asked for."""
        h, emb, text = self.enter(x, time, cond)
        for k, entry in enumerate(self.input_blocks):
            h = run_entry(entry, h, emb, text)
            yield f"input_blocks.{k}", h

    def enter(
        self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Iterator[TextKV | None]]:
        """What the first block reads, the embedding after its SiLU, each attention's text."""
        cond = self.prepare(cond)
        self._check_size(x)
        known = self._known(x, cond) if self.config.inpaint else []
        if self.bands is not None:
            x, time = self.bands.read(x, time)
        emb = self.time_embed(timestep_embedding(time, self.config.model_channels))
        if self.config.num_classes is not None:
            emb = emb + self.label_emb(cond["label"])
        text: Iterator[TextKV | None] = repeat(None)
        if self.config.xf_width:
            emb = emb + cond["text_emb"]
            text = iter([(cond[k], cond[v]) for k, v in self._text_kv_names])
        return self._stem_input(x, known, cond), F.silu(emb), text

    def _check_size(self, x: Tensor) -> None:
        height, width = x.shape[-2:]
        if height % self.config.multiple or width % self.config.multiple:
            raise SfumatoError(
                f"size {width}x{height}: this network needs multiples of {self.config.multiple}"
            )

    def _stem_input(self, x: Tensor, known: list[Tensor], cond: Mapping[str, Tensor]) -> Tensor:
        """The state and the conditions that are pictures, along the channels."""
        parts = [x, *known]
        if self.config.low_res:
            parts.append(F.interpolate(cond["low_res"], x.shape[-2:], mode="bilinear"))
        x = torch.cat(parts, dim=1) if len(parts) > 1 else x
        if x.shape[1] != self.config.stem_channels:
            raise SfumatoError(
                f"input has {x.shape[1]} channels, this network reads {self.config.stem_channels}"
            )
        return x.to(self.dtype, memory_format=torch.channels_last)

    def _known(self, x: Tensor, cond: Mapping[str, Tensor]) -> list[Tensor]:
        """The known pixels and their mask as the stem reads them; zeros where nothing is known."""
        if "inpaint_mask" not in cond:
            half = FACTOR if self.bands else 1
            channels = self.config.in_channels * self.config.fold + 1
            return [x.new_zeros(len(x), channels, *(side // half for side in x.shape[2:]))]
        image, mask = cond["inpaint_image"], cond["inpaint_mask"]
        return [image * mask, mask] if self.bands is None else self.bands.known(image, mask)

    def _check(self, cond: Mapping[str, Tensor], ready: bool) -> None:
        config = self.config
        required = {"label"} if config.num_classes is not None else set()
        if config.low_res:
            required |= {"low_res"}
        known = {"inpaint_image", "inpaint_mask"} if config.inpaint else set()
        required |= known if known & cond.keys() else set()
        if not ready:
            required |= {"tokens", "mask"} if config.xf_padding else {"tokens"}
        allowed = required | known | (self._text_names if ready else {"mask"})
        if missing := sorted(required - cond.keys()):
            raise SfumatoError(f"condition: this network needs {', '.join(missing)}")
        if unknown := sorted(cond.keys() - allowed):
            raise SfumatoError(
                f"condition: this network takes no {', '.join(unknown)}; "
                f"it takes {', '.join(sorted(required)) or 'none'}"
            )

    def _encode_text(self, tokens: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        if tokens.shape[1] != self.config.text_ctx:
            raise SfumatoError(
                f"condition: tokens has {tokens.shape[1]} positions, "
                f"this network reads {self.config.text_ctx}"
            )
        pooled, sequence = encode(self, tokens, mask)
        out = {"text_emb": self.transformer_proj(pooled).float()}
        for (k, v), attention in zip(self._text_kv_names, self._attentions, strict=True):
            out[k], out[v] = attention.text_kv(sequence)
        return out
