"""Networks of diffusers from the weights of single files: built by what the shapes tell.

What no shape tells is that of the family; names are in key_names.py.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.models.files import key_names
from sfumato.models.files.checkpoint import meta_network

log = logging.getLogger("sfumato")

BLOCKS = re.compile(r"\b(?:down_blocks|up_blocks|mid_block)\.")
"""Without which a network would be another one."""
GROUPS = 32


class Part(dict[str, Tensor]):
    """Weights of one part by name; one that is asked for and missing is said in a line."""

    def __missing__(self, name: str) -> Tensor:
        raise SfumatoError(f"weights: {name} is missing; the file is incomplete")


def weights_under(weights: Mapping[str, Tensor], prefix: str) -> Part:
    """The weights below a prefix, without it."""
    part = Part({k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)})
    if not part:
        raise SfumatoError(
            f"weights: nothing under {prefix}; the file holds only a part of a model"
        )
    return part


def sides(weights: Mapping[str, Tensor], name: str, *dimensions: int) -> tuple[int, ...]:
    """The shape of a weight that tells sizes, which has one of these numbers of dimensions."""
    shape = tuple(weights[name].shape)
    if len(shape) not in dimensions or 0 in shape:
        raise SfumatoError(
            f"weights: {name} is {shape}, which tells no sizes; the file is damaged or of another "
            "kind"
        )
    return shape


def count(names: Mapping[str, Any], pattern: str) -> int:
    """One more than the highest number that the pattern finds."""
    return max((int(m[1]) for name in names if (m := re.match(pattern, name))), default=-1) + 1


def build_network(make: Any, weights: Mapping[str, Tensor], name: str) -> Any:
    """The network that `make` builds, with these weights; frozen, in float32."""
    net = meta_network(make, name)
    expected = net.state_dict()
    matched = {key: value.float() for key, value in weights.items() if key in expected}
    missing = [key for key in expected if key not in matched and not key.endswith("position_ids")]
    if missing:
        raise SfumatoError(
            f"{name}: {len(missing)} of its {len(expected)} weights are missing, such as "
            f"{missing[0]}"
        )
    wrong = next((n for n, v in matched.items() if v.shape != expected[n].shape), None)
    if wrong is not None:
        raise SfumatoError(
            f"{name}: {wrong} is {tuple(matched[wrong].shape)}, not {tuple(expected[wrong].shape)}"
        )
    extra = [key for key in weights if key not in expected and "position_ids" not in key]
    if blocks := [key for key in extra if BLOCKS.search(key)]:
        raise SfumatoError(
            f"{name}: {len(blocks)} of its weights have no place in its family's layout, such as "
            f"{blocks[0]}"
        )
    if extra:
        log.warning("%s: %d unexpected weights, not used: %s", name, len(extra), extra[0])
    net.load_state_dict(matched, strict=False, assign=True)
    for key, buffer in net.named_buffers():
        if buffer.is_meta:  # position ids are counted, not stored
            owner, _, leaf = key.rpartition(".")
            positions = torch.arange(buffer.shape[-1]).expand(buffer.shape)
            setattr(net.get_submodule(owner), leaf, positions)
    return net.eval().requires_grad_(False)


def _diffusers_class(name: str) -> Any:
    """A class of diffusers, imported when it is needed."""
    import importlib

    return getattr(importlib.import_module("diffusers"), name)


def unet(weights: Mapping[str, Tensor], heads: int | None, pooled: int = 0, told: int = 6) -> Any:
    """A UNet2DConditionModel by its shapes.

    heads: of every level, None for heads of width 64; pooled: width of the pooled text of XL;
    told: how many numbers it reads beside that.
    """
    down = _levels(weights)
    layers = [len(level) for level in down]
    widths = [
        sides(weights, f"input_blocks.{level[0]}.0.in_layers.2.weight", 4)[0] for level in down
    ]
    attended = [f"input_blocks.{level[0]}.1.norm.weight" in weights for level in down]
    depths, up_depths = _depths(weights, down, attended)
    text_keys = [key for key in weights if key.endswith("attn2.to_k.weight")]
    linear = [v.ndim == 2 for k, v in weights.items() if k.endswith("1.proj_in.weight")]
    if not text_keys or not linear:
        raise SfumatoError("unet: has no layers that read text; the file is incomplete")
    options = _size_conditioning(weights, pooled, told)
    if up_depths != depths[::-1]:
        options["reverse_transformer_layers_per_block"] = up_depths
    down_types = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in attended]
    up_types = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(attended)]

    def make() -> Any:
        return _diffusers_class("UNet2DConditionModel")(
            in_channels=sides(weights, "input_blocks.0.0.weight", 4)[1],
            out_channels=sides(weights, "out.2.weight", 4)[0],
            block_out_channels=tuple(widths),
            layers_per_block=layers[0] if len(set(layers)) == 1 else tuple(layers),
            down_block_types=tuple(down_types),
            up_block_types=tuple(up_types),
            cross_attention_dim=sides(weights, text_keys[0], 2)[1],
            transformer_layers_per_block=tuple(depths),
            attention_head_dim=heads or tuple(max(width // 64, 1) for width in widths),
            use_linear_projection=linear[0],
            norm_num_groups=min(GROUPS, widths[0]),
            **options,
        )

    return build_network(make, _rename_sgm(weights, make), "unet")


def _rename_sgm(weights: Mapping[str, Tensor], make: Any) -> dict[str, Tensor]:
    """Weights of an original checkpoint by the names in the network that `make` builds."""
    names = key_names.sgm_names(meta_network(make, "unet"))
    placed = set(names.values())
    if extra := [name for name in weights if name not in placed]:
        raise SfumatoError(
            f"unet: {len(extra)} of its weights have no place in Stable Diffusion's layout, such "
            f"as {extra[0]}; load it as a folder of diffusers"
        )
    return {name: weights[sgm] for name, sgm in names.items() if sgm in weights}


def _size_conditioning(weights: Mapping[str, Tensor], pooled: int, told: int) -> dict[str, Any]:
    """What XL's network is told of its pictures' sizes; empty where it reads none."""
    if "label_emb.0.0.weight" not in weights:
        return {}
    size = sides(weights, "label_emb.0.0.weight", 2)[1]
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": (size - pooled) // told,
        "projection_class_embeddings_input_dim": size,
    }


def _levels(weights: Mapping[str, Tensor]) -> list[list[int]]:
    """Numbers of the residual blocks of each level on the way down."""
    levels: list[list[int]] = [[]]
    for n in range(1, count(weights, r"input_blocks\.(\d+)\.")):
        if f"input_blocks.{n}.0.op.weight" in weights:
            levels.append([])
        else:
            levels[-1].append(n)
    if not all(levels):
        raise SfumatoError("unet: a level has no residual blocks; the file is incomplete")
    return levels


Depth = int | list[int]
"""Transformer blocks of each attention of a level; one number where they agree."""


def _depths(
    weights: Mapping[str, Tensor], down: Sequence[Sequence[int]], attended: Sequence[bool]
) -> tuple[list[Depth], list[Depth]]:
    """Depths of the levels on the way down, and on the way up."""
    depths = [_depth(weights, "input_blocks", level) for level in down]
    if not attended[-1]:  # the middle block's stands there
        depths[-1] = count(weights, r"middle_block\.1\.transformer_blocks\.(\d+)\.") or 1
    layers = [len(level) for level in reversed(down)]
    ends = accumulate(n + 1 for n in layers)
    up = [range(end - n - 1, end) for end, n in zip(ends, layers, strict=True)]
    up_depths = [
        _depth(weights, "output_blocks", level) if attends else depth
        for level, attends, depth in zip(up, reversed(attended), reversed(depths), strict=True)
    ]
    return depths, up_depths


def _depth(weights: Mapping[str, Tensor], way: str, level: Sequence[int]) -> Depth:
    depths = [count(weights, rf"{way}\.{n}\.1\.transformer_blocks\.(\d+)\.") or 1 for n in level]
    return depths[0] if len(set(depths)) == 1 else depths


def autoencoder(weights: Mapping[str, Tensor], scale: float) -> Any:
    """An AutoencoderKL by its shapes."""
    levels = count(weights, r"encoder\.down\.(\d+)\.")
    widths = [sides(weights, f"encoder.down.{i}.block.0.conv1.weight", 4)[0] for i in range(levels)]
    if not levels:
        raise SfumatoError("autoencoder: its encoder is missing; the file is incomplete")
    latent = sides(weights, "post_quant_conv.weight", 4)[0]
    channels = {
        sides(weights, "encoder.conv_in.weight", 4)[1],
        sides(weights, "decoder.conv_out.weight", 4)[0],
    }
    if channels != {3}:
        raise SfumatoError(f"autoencoder: has {max(channels)} channels; only RGB is supported")

    def make() -> Any:
        return _diffusers_class("AutoencoderKL")(
            block_out_channels=tuple(widths),
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=count(weights, r"encoder\.down\.0\.block\.(\d+)\."),
            latent_channels=latent,
            norm_num_groups=min(GROUPS, widths[0]),
            scaling_factor=scale,
        )

    return build_network(make, key_names.rename_ddpm(weights, levels), "autoencoder")


def ddpm_unet(weights: Mapping[str, Tensor], side: int | None = None) -> Any:
    """A UNet2DModel of the DDPM code's weights. side: of its pictures; they attend at 16 px."""
    levels = count(weights, r"down\.(\d+)\.")
    attended = [f"down.{i}.attn.0.q.weight" in weights for i in range(levels)]
    widths = [sides(weights, f"down.{i}.block.0.conv1.weight", 4)[0] for i in range(levels)]
    down_types = ["AttnDownBlock2D" if attends else "DownBlock2D" for attends in attended]
    up_types = ["AttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(attended)]
    if side is None:
        side = 16 * 2 ** attended.index(True) if any(attended) else 256

    def make() -> Any:
        return _diffusers_class("UNet2DModel")(
            sample_size=side,
            in_channels=sides(weights, "conv_in.weight", 4)[1],
            out_channels=sides(weights, "conv_out.weight", 4)[0],
            block_out_channels=tuple(widths),
            layers_per_block=count(weights, r"down\.0\.block\.(\d+)\."),
            down_block_types=tuple(down_types),
            up_block_types=tuple(up_types),
            attention_head_dim=None,
            downsample_padding=0,
            flip_sin_to_cos=False,
            freq_shift=1,
            norm_eps=1e-6,
            norm_num_groups=min(GROUPS, widths[0]),
        )

    return build_network(make, key_names.rename_ddpm(weights, levels), "DDPM network")
