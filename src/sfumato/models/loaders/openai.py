"""Loader of the OpenAI family, GLIDE and ADM: presets, inferred configurations, checkpoint files.

It ends at a UNet with its weights and a stage of a card; schedules and text encoding are not made
here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.core.errors import SfumatoError, quoted
from sfumato.models.card import Defaults, StageCard
from sfumato.models.files.checkpoint import LoadReport, compare, meta_network
from sfumato.nn.clip import CLIPConfig
from sfumato.nn.unet import UNet, UNetConfig

# configuration fields that no shape tells; a preset of equal shapes or a hint fills them
HEADS = ("num_heads", "num_head_channels", "num_heads_upsample")
UNTOLD = (*HEADS, "use_new_attention_order", "xf_heads", "dropout", "low_res", "inpaint")


@dataclass(frozen=True)
class Preset:
    """A released checkpoint: network, schedule and parametrisation.

    native: side of its pictures in pixels; factor: how much larger than its low_res input.
    """

    title: str
    config: UNetConfig
    native: int
    schedule: str
    factor: int = 1
    kind: str = "eps"
    learned_range: bool = True
    table: int = 1000


MULTIPLIERS: dict[int, tuple[float, ...]] = {
    64: (1, 2, 3, 4),
    128: (1, 1, 2, 3, 4),
    256: (1, 1, 2, 2, 4, 4),
    512: (0.5, 1, 1, 2, 2, 4, 4),
}
RELEASED = UNetConfig(out_channels=6, use_scale_shift_norm=True, resblock_updown=True)


def _glide(size: int, blocks: int, low_res: bool = False, inpaint: bool = False) -> UNetConfig:
    """arXiv 2112.10741 and its released code: head width 64, text of 128 positions."""
    return replace(
        RELEASED,
        model_channels=192,
        num_res_blocks=blocks,
        attention_resolutions=tuple(size // side for side in (32, 16, 8)),
        channel_mult=MULTIPLIERS[size],
        dropout=0.1,
        num_head_channels=64,
        text_ctx=128,
        xf_width=512,
        xf_layers=16,
        xf_heads=8,
        xf_final_ln=True,
        xf_padding=True,
        n_vocab=50257,
        low_res=low_res,
        inpaint=inpaint,
    )


def _adm(size: int, **fields: Any) -> UNetConfig:
    """arXiv 2105.05233 with the flags of its README."""
    values: dict[str, Any] = {
        "model_channels": 256,
        "num_head_channels": 64,
        "attention_resolutions": tuple(size // side for side in (32, 16, 8)),
        "channel_mult": MULTIPLIERS[size],
    }
    return replace(RELEASED, **(values | fields))


def _lsun(subject: str, dropout: float = 0.1) -> Preset:
    return Preset(f"ADM LSUN {subject}", _adm(256, dropout=dropout), 256, "linear")


LABELS: dict[str, Any] = {"num_classes": 1000}
SMALL: dict[str, Any] = {"num_classes": 1000, "model_channels": 192}
FOUR_HEADS: dict[str, Any] = {"num_heads": 4, "num_head_channels": -1}
ADM_64 = _adm(64, **SMALL, num_res_blocks=3, dropout=0.1, use_new_attention_order=True)
ADM_64_256 = _adm(256, **SMALL, **FOUR_HEADS, low_res=True)
ADM_128_512 = _adm(
    512, **SMALL, attention_resolutions=(16, 32), channel_mult=MULTIPLIERS[256], low_res=True
)

PRESETS: dict[str, Preset] = {
    "base": Preset("GLIDE (filtered) base", _glide(64, 3), 64, "squaredcos_cap_v2"),
    "upsample": Preset("GLIDE (filtered) upsampler", _glide(256, 2, True), 256, "linear", 4),
    "base-inpaint": Preset(
        "GLIDE (filtered) base, inpainting", _glide(64, 3, inpaint=True), 64, "squaredcos_cap_v2"
    ),
    "upsample-inpaint": Preset(
        "GLIDE (filtered) upsampler, inpainting", _glide(256, 2, True, True), 256, "linear", 4
    ),
    "64x64_diffusion": Preset("ADM ImageNet", ADM_64, 64, "squaredcos_cap_v2"),
    "128x128_diffusion": Preset("ADM ImageNet", _adm(128, **LABELS, **FOUR_HEADS), 128, "linear"),
    "256x256_diffusion": Preset("ADM ImageNet", _adm(256, **LABELS), 256, "linear"),
    "256x256_diffusion_uncond": Preset("ADM ImageNet, no classes", _adm(256), 256, "linear"),
    "512x512_diffusion": Preset("ADM ImageNet", _adm(512, **LABELS), 512, "linear"),
    "64_256_upsampler": Preset("ADM ImageNet upsampler", ADM_64_256, 256, "linear", 4),
    "128_512_upsampler": Preset("ADM ImageNet upsampler", ADM_128_512, 512, "linear", 4),
    "lsun_bedroom": _lsun("bedroom"),
    "lsun_cat": _lsun("cat"),
    "lsun_horse": _lsun("horse"),
    "lsun_horse_nodropout": _lsun("horse", dropout=0.0),
}
"""Released diffusion checkpoints by the stem of their file names."""


def _classifier(size: int, depth: int) -> UNetConfig:
    return _adm(
        size, model_channels=128, out_channels=1000, num_res_blocks=depth, num_head_channels=64
    )


CLASSIFIERS: dict[str, tuple[UNetConfig, int]] = {
    f"{size}x{size}_classifier": (_classifier(size, 4 if size == 64 else 2), size)
    for size in (64, 128, 256, 512)
}
"""Released noise-aware classifiers: configuration and size; their pool is attention."""

CLIP = CLIPConfig()
"""The released noised CLIP: files clip/image-enc and clip/text-enc."""


def preset(name: str) -> Preset:
    """The preset of a released checkpoint, by the stem of its file name."""
    if name not in PRESETS:
        raise SfumatoError(f"preset {quoted(name)}: unknown; known are {', '.join(PRESETS)}")
    return PRESETS[name]


def stage_card(file: Path, defaults: Defaults) -> StageCard:
    """A released checkpoint's stage, by the stem of its file's name."""
    released = preset(file.stem)
    return StageCard(
        asdict(released.config),
        (file.name,),
        released.schedule,
        released.kind,
        released.table,
        released.learned_range,
        factor=released.factor,
        defaults=defaults,
    )


def infer(state_dict: Mapping[str, Tensor], **hints: Any) -> UNetConfig:
    """The configuration of a state dict: shapes tell most of it, hints give the rest.

    Shapes do not tell head count and width, the order of qkv rows, text heads, dropout, and whether
    6 input channels are a picture and its low_res. Those come from `hints` (fields of UNetConfig),
    else from a preset of exactly these shapes; heads and low_res are never guessed.
    """
    try:
        fields = _shape_fields({name: tuple(tensor.shape) for name, tensor in state_dict.items()})
    except KeyError as error:
        raise SfumatoError(f"weights: no GLIDE or ADM UNet, {error} is missing") from None
    except (IndexError, ValueError, ZeroDivisionError):
        raise SfumatoError(
            "weights: no GLIDE or ADM UNet, a weight that tells sizes has other dimensions"
        ) from None
    same = [p.config for p in PRESETS.values() if _same_shapes(p.config, fields)]
    untold = {name: getattr(same[0], name) for name in UNTOLD if _agree(same, name)}
    if hints.keys() & set(HEADS):
        untold = {name: value for name, value in untold.items() if name not in HEADS}
    stem = fields.pop("stem_channels")
    values = untold | fields | hints
    _refuse_guesses(values, stem)
    mask = bool(values.get("inpaint"))
    pictures = 1 + mask + bool(values.get("low_res"))
    return UNetConfig(**({"in_channels": (stem - mask) // pictures} | values))


def _refuse_guesses(values: Mapping[str, Any], stem: int) -> None:
    """Refuse to guess what would load silently and give noise."""
    if "num_heads" not in values and "num_head_channels" not in values:
        raise SfumatoError(
            "weights: shapes do not tell the heads; give num_head_channels or num_heads"
        )
    if values["xf_width"] and "xf_heads" not in values:
        raise SfumatoError(
            "weights: shapes do not tell the text transformer's heads; give xf_heads"
        )
    if stem == 6 and "low_res" not in values and "in_channels" not in values:
        raise SfumatoError(
            "weights: 6 input channels; say low_res=True for an upsampler, else False"
        )


def _agree(configs: Sequence[UNetConfig], name: str) -> bool:
    return len({getattr(config, name) for config in configs}) == 1


def _same_shapes(config: UNetConfig, fields: Mapping[str, Any]) -> bool:
    return all(getattr(config, name) == value for name, value in fields.items())


def _shape_fields(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Fields that shapes tell, and stem_channels. KeyError names a key that must be there."""
    levels, resampling = _levels(shapes)
    entries = max(_indices(shapes, r"input_blocks\.(\d+)\."), default=0) + 1
    blocks = entries // levels - 1
    if blocks < 1 or entries % levels:
        raise KeyError("a regular input_blocks")
    firsts = [f"input_blocks.{1 + level * (blocks + 1)}" for level in range(levels)]
    channels = shapes["time_embed.0.weight"][1]
    widths = [shapes[f"{first}.0.in_layers.2.weight"][0] for first in firsts]
    labels = shapes.get("label_emb.weight")
    return {
        "stem_channels": shapes["input_blocks.0.0.weight"][1],
        "model_channels": channels,
        "out_channels": shapes["out.2.weight"][0],
        "num_res_blocks": blocks,
        "attention_resolutions": tuple(
            2**level for level, first in enumerate(firsts) if f"{first}.1.qkv.weight" in shapes
        ),
        "channel_mult": tuple(_multiplier(width, channels) for width in widths),
        "num_classes": labels[0] if labels else None,
        "use_scale_shift_norm": (shapes["middle_block.0.emb_layers.1.weight"][0] == 2 * widths[-1]),
        **resampling,
        **_text_fields(shapes),
    }


def _levels(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, dict[str, bool]]:
    """Number of levels, and how the network changes size between them."""
    convs = _indices(shapes, r"input_blocks\.(\d+)\.0\.op\.weight")
    if convs:
        return len(convs) + 1, {"resblock_updown": False, "conv_resample": True}
    entries = _indices(shapes, r"input_blocks\.(\d+)\.")
    pools = set(range(max(entries, default=0))) - entries  # average pooling has no keys
    if pools:
        return len(pools) + 1, {"resblock_updown": False, "conv_resample": False}
    ups = _indices(shapes, r"output_blocks\.(\d+)\.[12]\.in_layers\.0\.weight")
    return len(ups) + 1, {"resblock_updown": bool(ups)}


def _text_fields(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    if "transformer_proj.weight" not in shapes:
        return {"xf_width": 0}
    vocabulary, width = shapes["token_embedding.weight"]
    return {
        "text_ctx": shapes["positional_embedding"][0],
        "xf_width": width,
        "xf_layers": len(_indices(shapes, r"transformer\.resblocks\.(\d+)\.ln_1\.weight")),
        "xf_final_ln": "final_ln.weight" in shapes,
        "xf_padding": "padding_embedding" in shapes,
        "n_vocab": vocabulary,
    }


def _indices(names: Iterable[str], pattern: str) -> set[int]:
    return {int(match[1]) for name in names if (match := re.match(pattern, name))}


def _multiplier(width: int, channels: int) -> float:
    """The multiplier m with int(m channels) = width."""
    if width % channels == 0:
        return width // channels
    m = width / channels
    return m if int(m * channels) == width else math.nextafter(m, math.inf)


def load_unet(
    state_dict: Mapping[str, Tensor],
    config: UNetConfig | str | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    allow_missing: bool = False,
    **hints: Any,
) -> tuple[UNet, LoadReport]:
    """A frozen network in eval mode that holds copies of the weights, cast to `dtype`.

    config: a configuration, a preset's name, or None to infer it with the help of `hints`, which
    otherwise replace its fields. Keys of the file that the network lacks are reported, not loaded.
    With allow_missing, missing weights keep their fresh initialisation.
    """
    if config is None:
        config = infer(state_dict, **hints)
    else:
        config = replace(preset(config).config if isinstance(config, str) else config, **hints)
    net = meta_network(lambda: UNet(config).cast(dtype), "network")
    expected = net.state_dict()
    report = compare(expected, state_dict, allow_missing)
    if report.missing:
        with torch.device(device):
            net = UNet(config).cast(dtype)
    # one tensor at a time, straight into its final dtype and memory layout
    weights = {
        name: torch.empty_like(expected[name], device=device).copy_(state_dict[name])
        for name in report.matched
    }
    net.load_state_dict(weights, strict=False, assign=True)
    net.to(device)  # what no weights file holds
    return net.eval().requires_grad_(False), report
