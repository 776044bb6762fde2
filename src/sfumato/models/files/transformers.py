"""Configurations of diffusion transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from sfumato.core.ranges import Range
from sfumato.documents import parse_data
from sfumato.models.files.configs import read_config
from sfumato.models.files.network_fields import Foreign, Heads, Theta, Width

Blocks = Annotated[int, Range(0, 256)]


class Transformer(Foreign):
    """What the transformers of all families say."""

    patch_size: Annotated[int, Range(1, 16)] = 1
    in_channels: Annotated[int, Range(1, 1024)] | None = None
    out_channels: Annotated[int, Range(1, 1024)] | None = None
    num_layers: Blocks | None = None
    attention_head_dim: Heads | None = None
    num_attention_heads: Heads | None = None
    joint_attention_dim: Width | None = None
    pooled_projection_dim: Width | None = None


class SD3(Transformer):
    """SD3Transformer2DModel."""

    patch_size: Annotated[int, Range(1, 16)] = 2
    sample_size: Annotated[int, Range(1, 1 << 15)] = 128
    joint_attention_dim: Width = 4096
    caption_projection_dim: Width = 1152
    pos_embed_max_size: Annotated[int, Range(1, 4096)] = 96
    dual_attention_layers: Annotated[tuple[Blocks, ...], Field(max_length=256)] = ()
    qk_norm: Literal["rms_norm"] | None = None


class Flux(Transformer):
    """FluxTransformer2DModel."""

    patch_size: Literal[1] = 1
    in_channels: Annotated[int, Range(4, 1024)] = 64
    num_single_layers: Blocks | None = None
    guidance_embeds: bool = False
    axes_dims_rope: tuple[Heads, Heads, Heads] = (16, 56, 56)


class PixArt(Transformer):
    """PixArtTransformer2DModel."""

    patch_size: Annotated[int, Range(1, 16)] = 2
    in_channels: Annotated[int, Range(1, 1024)] = 4
    sample_size: Annotated[int, Range(1, 1 << 15)] = 128
    interpolation_scale: Annotated[int, Range(1, 64)] | None = None
    use_additional_conditions: bool | None = None
    caption_channels: Width | None = None
    cross_attention_dim: Width | None = 1152
    norm_type: Literal["ada_norm_single"] = "ada_norm_single"
    attention_type: Literal["default"] = "default"

    @property
    def reads_sizes(self) -> bool:
        """Where the file says nothing, the size tells."""
        told = self.use_additional_conditions
        return self.sample_size == 128 if told is None else told


class Flux2(Transformer):
    """Flux2Transformer2DModel."""

    patch_size: Literal[1] = 1
    in_channels: Annotated[int, Range(4, 1024)] = 128
    out_channels: Literal[None] = None
    num_single_layers: Blocks | None = None
    guidance_embeds: bool = True
    timestep_guidance_channels: Annotated[int, Range(2, 16384)] = 256
    mlp_ratio: Annotated[float, Range(gt=0, le=64)] = 3.0
    axes_dims_rope: tuple[Heads, Heads, Heads, Heads] = (32, 32, 32, 32)
    rope_theta: Theta = 2000
    eps: Annotated[float, Range(gt=0, lt=1)] = 1e-6


class ZImage(Foreign):
    """ZImageTransformer2DModel."""

    all_patch_size: tuple[Literal[2]] = (2,)
    all_f_patch_size: tuple[Literal[1]] = (1,)
    in_channels: Annotated[int, Range(1, 1024)] = 16
    dim: Width = 3840
    n_layers: Blocks = 30
    n_refiner_layers: Blocks = 2
    n_heads: Heads = 30
    n_kv_heads: Heads = 30
    norm_eps: Annotated[float, Range(gt=0, lt=1)] = 1e-5
    qk_norm: bool = True
    cap_feat_dim: Width = 2560
    siglip_feat_dim: Width | None = None
    rope_theta: Theta = 256.0
    t_scale: Annotated[float, Range(1, 1e6)] = 1000.0
    axes_dims: tuple[Heads, Heads, Heads] = (32, 48, 48)
    axes_lens: tuple[Width, Width, Width] = (1024, 512, 512)


class Sana(Transformer):
    """SanaTransformer2DModel."""

    in_channels: Annotated[int, Range(1, 1024)] = 32
    sample_size: Annotated[int, Range(1, 1 << 15)] = 32
    num_cross_attention_heads: Heads | None = 20
    cross_attention_head_dim: Heads | None = 112
    cross_attention_dim: Width | None = 2240
    caption_channels: Width = 2304
    mlp_ratio: Annotated[float, Range(gt=0, le=64)] = 2.5
    interpolation_scale: Annotated[float, Range(gt=0, le=64)] | None = None
    guidance_embeds: bool = False
    guidance_embeds_scale: Annotated[float, Range(gt=0, le=1e6)] = 0.1
    qk_norm: Literal["rms_norm_across_heads"] | None = None
    timestep_scale: Annotated[float, Range(gt=0, le=1e6)] = 1.0


class QwenImage(Transformer):
    """QwenImageTransformer2DModel."""

    patch_size: Literal[2] = 2
    in_channels: Annotated[int, Range(4, 1024)] = 64
    joint_attention_dim: Width = 3584
    guidance_embeds: bool = False
    axes_dims_rope: tuple[Heads, Heads, Heads] = (16, 56, 56)
    zero_cond_t: bool = False
    use_additional_t_cond: bool = False
    use_layer3d_rope: bool = False


T = TypeVar("T", bound=Foreign)


def transformer(kind: type[T], path: Path) -> T:
    """A transformer's configuration."""
    return parse_data(kind, read_config(path, quantised=True), str(path))


class Hunyuan(Transformer):
    """HunyuanDiT2DModel."""

    patch_size: Annotated[int, Range(1, 16)]
    in_channels: Annotated[int, Range(1, 1024)]
    sample_size: Annotated[int, Range(1, 1 << 15)] = 32
    num_attention_heads: Heads = 16
    attention_head_dim: Annotated[int, Range(4, 16384)] = 88
    hidden_size: Width = 1152
    num_layers: Blocks = 28
    mlp_ratio: Annotated[float, Range(gt=0, le=64)] = 4.0
    learn_sigma: Literal[True] = True
    activation_fn: Literal["gelu-approximate", "gelu"] = "gelu-approximate"
    norm_type: Literal["layer_norm"] = "layer_norm"
    cross_attention_dim: Width = 1024
    cross_attention_dim_t5: Width = 2048
    text_len: Annotated[int, Range(3, 4096)] = 77
    text_len_t5: Annotated[int, Range(1, 4096)] = 256
    use_style_cond_and_image_meta_size: bool = True
