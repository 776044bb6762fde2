"""What the configurations of diffusers' networks may say: every field that its classes take.

Fields that ask for inputs which nothing here gives are refused in configs.py.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sfumato.core.ranges import Range


class Foreign(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)


Channels = Annotated[int, Range(1, 64)]
Width = Annotated[int, Range(1, 16384)]
Layers = Annotated[int, Range(1, 32)]
Heads = Annotated[int, Range(1, 16384)]
HeadCount = Annotated[int, Range(1, 1024)]
Blocks = Annotated[int, Range(1, 256)]
Inner = Annotated[int, Range(1, 1 << 17)]
Rows = Annotated[int, Range(3, 1 << 20)]  # of a table of tokens or places
Epsilon = Annotated[float, Range(gt=0, lt=1)]
Side = Annotated[int, Range(1, 1 << 15)]
Levels = Field(min_length=1, max_length=12)
Depth = Annotated[int, Range(1, 32)]
Depths = Depth | Annotated[list[Depth | Annotated[list[Depth], Levels]], Levels]
Kernel = Annotated[int, Range(1, 31)]
Word = Annotated[str, Field(max_length=100)]
Theta = Annotated[float, Range(1, 1e9)]
Factor = Annotated[float, Range(gt=0, le=1000)]
Kinds = Annotated[list[Annotated[str, Field(max_length=100)]], Levels]


class UNet(Foreign):
    """The sizes of a UNet of diffusers, which builds it; absent ones are its class's own."""

    sample_size: Side | tuple[Side, Side] | None = None
    in_channels: Channels | None = None
    out_channels: Channels | None = None
    block_out_channels: Annotated[list[Width], Levels] | None = None
    down_block_types: Kinds | None = None
    up_block_types: Kinds | None = None
    mid_block_type: str | None = None
    layers_per_block: Layers | Annotated[list[Layers], Levels] | None = None
    transformer_layers_per_block: Depths | None = None
    reverse_transformer_layers_per_block: Depths | None = None
    attention_head_dim: Heads | Annotated[list[Heads], Levels] | None = None
    num_attention_heads: Heads | Annotated[list[Heads], Levels] | None = None
    norm_num_groups: Width | None = None
    norm_eps: Epsilon = 1e-5
    dropout: Annotated[float, Range(0, 1)] = 0
    cross_attention_dim: Width | None = None
    addition_time_embed_dim: Width | None = None
    projection_class_embeddings_input_dim: Annotated[int, Range(1, 1 << 20)] | None = None
    encoder_hid_dim: Width | None = None
    num_class_embeds: Annotated[int, Range(1, 1 << 20)] | None = None
    act_fn: Word | None = None
    add_attention: bool | None = None
    addition_embed_type_num_heads: Heads | None = None
    attn_norm_num_groups: Width | None = None
    center_input_sample: bool | None = None
    class_embeddings_concat: bool | None = None
    conv_in_kernel: Kernel | None = None
    conv_out_kernel: Kernel | None = None
    cross_attention_norm: Word | None = None
    downsample_padding: Annotated[int, Range(0, 8)] | None = None
    downsample_type: Word | None = None
    dual_cross_attention: bool | None = None
    flip_sin_to_cos: bool | None = None
    freq_shift: Annotated[float, Range(-100, 100)] | None = None
    mid_block_only_cross_attention: bool | None = None
    mid_block_scale_factor: Factor = 1
    num_train_timesteps: Annotated[int, Range(1, 1 << 20)] | None = None
    only_cross_attention: bool | Annotated[list[bool], Levels] | None = None
    resnet_out_scale_factor: Factor | None = None
    resnet_skip_time_act: bool | None = None
    resnet_time_scale_shift: Word | None = None
    time_cond_proj_dim: Annotated[int, Range(4, 16384)] | None = None
    time_embedding_act_fn: Word | None = None
    time_embedding_dim: Width | None = None
    timestep_post_act: Word | None = None
    upcast_attention: bool | None = None
    upsample_type: Word | None = None
    use_linear_projection: bool | None = None


class Autoencoder(Foreign):
    """The sizes of an autoencoder of diffusers, of coloured pictures."""

    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    latent_channels: Channels | None = None
    block_out_channels: Annotated[list[Width], Levels] | None = None
    encoder_block_out_channels: Annotated[list[Width], Levels] | None = None
    decoder_block_out_channels: Annotated[list[Width], Levels] | None = None
    num_encoder_blocks: Annotated[list[Layers], Levels] | None = None
    num_decoder_blocks: Annotated[list[Layers], Levels] | None = None
    down_block_types: Kinds | None = None
    up_block_types: Kinds | None = None
    layers_per_block: Layers | None = None
    norm_num_groups: Width | None = None
    sample_size: Side | tuple[Side, Side] | None = None
    num_vq_embeddings: Annotated[int, Range(1, 1 << 20)] | None = None
    vq_embed_dim: Width | None = None
    act_fn: Word | None = None
    batch_norm_eps: Epsilon | None = None
    batch_norm_momentum: Annotated[float, Range(0, 1)] | None = None
    patch_size: tuple[Literal[2], Literal[2]] | None = None
    force_upcast: bool | None = None
    latent_magnitude: Factor | None = None
    latent_shift: Annotated[float, Range(-1e4, 1e4)] | None = None
    lookup_from_codebook: bool | None = None
    mid_block_add_attention: bool | None = None
    norm_type: Word | None = None
    upsample_fn: Word | None = None
    upsampling_scaling_factor: Annotated[int, Range(1, 64)] | None = None
    use_post_quant_conv: bool | None = None
    use_quant_conv: bool | None = None
    scaling_factor: Annotated[float, Range(gt=0, le=1e4)] | None = None
    shift_factor: Annotated[float, Range(-1e4, 1e4)] | None = None
    latents_mean: Annotated[list[float], Field(max_length=64)] | None = None
    latents_std: Annotated[list[Annotated[float, Range(gt=0)]], Field(max_length=64)] | None = None


Kernels = Annotated[list[Kernel], Field(max_length=8)]


class Compressed(Foreign):
    """The sizes of AutoencoderDC, whose cells are of 32x32 pixels and more."""

    in_channels: Literal[3] = 3
    latent_channels: Annotated[int, Range(1, 1024)] = 32
    attention_head_dim: Heads = 32
    encoder_block_types: Word | Kinds = "ResBlock"
    decoder_block_types: Word | Kinds = "ResBlock"
    encoder_block_out_channels: Annotated[list[Width], Levels] = [128, 256, 512, 512, 1024, 1024]
    decoder_block_out_channels: Annotated[list[Width], Levels] = [128, 256, 512, 512, 1024, 1024]
    encoder_layers_per_block: Annotated[list[Depth], Levels] = [2, 2, 2, 3, 3, 3]
    decoder_layers_per_block: Annotated[list[Depth], Levels] = [3, 3, 3, 3, 3, 3]
    encoder_qkv_multiscales: Annotated[list[Kernels], Levels] = [[], [], [], [5], [5], [5]]
    decoder_qkv_multiscales: Annotated[list[Kernels], Levels] = [[], [], [], [5], [5], [5]]
    upsample_block_type: Literal["pixel_shuffle", "interpolate"] = "pixel_shuffle"
    downsample_block_type: Literal["pixel_unshuffle", "conv", "Conv"] = "pixel_unshuffle"
    decoder_norm_types: Word | Kinds = "rms_norm"
    decoder_act_fns: Word | Kinds = "silu"
    encoder_out_shortcut: bool = True
    decoder_in_shortcut: bool = True
    decoder_conv_act_fn: Word = "relu"
    scaling_factor: Annotated[float, Range(gt=0, le=1e4)] = 1.0

    @property
    def levels(self) -> set[int]:
        """How many each list says there are; the same in a file that fits together."""
        lists = (
            self.encoder_block_types, self.decoder_block_types, self.decoder_norm_types,
            self.decoder_act_fns, self.encoder_block_out_channels, self.decoder_block_out_channels,
            self.encoder_layers_per_block, self.decoder_layers_per_block,
            self.encoder_qkv_multiscales, self.decoder_qkv_multiscales,
        )  # fmt: skip
        return {len(entries) for entries in lists if not isinstance(entries, str)}


class Frames(Foreign):
    """The sizes of AutoencoderKLQwenImage, a video's autoencoder of which one frame is used."""

    base_dim: Width = 96
    z_dim: Channels = 16
    dim_mult: Annotated[list[Depth], Levels] = [1, 2, 4, 4]
    num_res_blocks: Layers = 2
    attn_scales: Annotated[list[Factor], Field(max_length=12)] = []
    temperal_downsample: Annotated[list[bool], Levels] = [False, True, True]
    dropout: Annotated[float, Range(0, 1)] = 0
    input_channels: Literal[3] = 3
    latents_mean: Annotated[list[float], Field(max_length=64)] | None = None
    latents_std: Annotated[list[Annotated[float, Range(gt=0)]], Field(max_length=64)] | None = None
