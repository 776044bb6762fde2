"""Configurations and tokenizers of diffusion transformers and of what reads prompts for them."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field
from tokenizers import Tokenizer

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range
from sfumato.documents import parse_data, read_json, read_text
from sfumato.models.files import vocabularies
from sfumato.models.files.configs import read_config
from sfumato.models.files.network_fields import Foreign, Heads, Width

Blocks = Annotated[int, Range(0, 256)]
Theta = Annotated[float, Range(1, 1e9)]


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
    interpolation_scale: Annotated[int, Range(1, 64)] | None = None
    guidance_embeds: bool = False
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
    return parse_data(kind, read_config(path), str(path))


class T5Encoder(Foreign):
    """The shape of T5's encoder: all that its file may decide."""

    vocab_size: Annotated[int, Range(3, 1 << 20)] = 32128
    d_model: Width = 512
    d_kv: Width = 64
    d_ff: Annotated[int, Range(1, 1 << 17)] = 2048
    num_layers: Annotated[int, Range(1, 256)] = 6
    num_heads: Annotated[int, Range(1, 1024)] = 8
    relative_attention_num_buckets: Annotated[int, Range(2, 4096)] = 32
    relative_attention_max_distance: Annotated[int, Range(2, 1 << 20)] = 128
    layer_norm_epsilon: Annotated[float, Range(gt=0, lt=1)] = 1e-6
    feed_forward_proj: Literal["relu", "gated-gelu", "gated-silu", "gelu"] = "relu"
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | None = 1


def t5_config(path: Path) -> Any:
    """A T5Config of the file's sizes alone."""
    from transformers import T5Config

    read_config(path)
    return T5Config(**read_json(T5Encoder, path).model_dump())


class Rope(Foreign):
    """Rotary places, as newer files write them."""

    rope_theta: Theta = 1e4
    rope_type: Literal["default"] = "default"


class Qwen3(Foreign):
    """The shape of a Qwen3: all that its file may decide."""

    vocab_size: Annotated[int, Range(3, 1 << 20)] = 151936
    hidden_size: Width = 4096
    intermediate_size: Annotated[int, Range(1, 1 << 17)] = 22016
    num_hidden_layers: Annotated[int, Range(1, 256)] = 32
    num_attention_heads: Annotated[int, Range(1, 1024)] = 32
    num_key_value_heads: Annotated[int, Range(1, 1024)] = 32
    head_dim: Heads = 128
    hidden_act: Literal["silu"] = "silu"
    max_position_embeddings: Annotated[int, Range(3, 1 << 20)] = 32768
    rms_norm_eps: Annotated[float, Range(gt=0, lt=1)] = 1e-6
    rope_theta: Theta | None = None
    rope_parameters: Rope | None = None
    attention_bias: bool = False
    tie_word_embeddings: bool = False


def qwen3_config(path: Path) -> Any:
    """A Qwen3Config of the file's sizes alone."""
    from transformers import Qwen3Config

    read_config(path)
    sizes = read_json(Qwen3, path)
    theta = sizes.rope_theta or (sizes.rope_parameters or Rope()).rope_theta
    rope: dict[str, Any] = {"rope_theta": theta}
    if "rope_parameters" in signature(Qwen3Config).parameters:  # transformers 5
        rope = {"rope_parameters": {"rope_type": "default", **rope}}
    plain = sizes.model_dump(exclude={"rope_theta", "rope_parameters"})
    return Qwen3Config(**plain, **rope, use_cache=False)


class Rotary(Foreign):
    """Rotary places in three directions, which words alone do not use."""

    rope_theta: Theta | None = None
    rope_type: Literal["default", "mrope"] | None = None
    type: Literal["default", "mrope"] | None = None


class Qwen2(Foreign):
    """The shape of a Qwen2.5-VL's words: all that its file may decide."""

    vocab_size: Annotated[int, Range(3, 1 << 20)] = 152064
    hidden_size: Width = 8192
    intermediate_size: Annotated[int, Range(1, 1 << 17)] = 29568
    num_hidden_layers: Annotated[int, Range(1, 256)] = 80
    num_attention_heads: Annotated[int, Range(1, 1024)] = 64
    num_key_value_heads: Annotated[int, Range(1, 1024)] = 8
    hidden_act: Literal["silu"] = "silu"
    max_position_embeddings: Annotated[int, Range(3, 1 << 20)] = 32768
    rms_norm_eps: Annotated[float, Range(gt=0, lt=1)] = 1e-5
    rope_theta: Theta | None = None
    rope_parameters: Rotary | None = None
    rope_scaling: Rotary | None = None
    use_sliding_window: Literal[False] = False


def qwen2_config(path: Path) -> Any:
    """A Qwen2Config of the sizes of a Qwen2.5-VL's words alone; older files have them outermost."""
    from transformers import Qwen2Config

    data = read_config(path)
    words = data.get("text_config")
    sizes = parse_data(Qwen2, words if isinstance(words, dict) else data, str(path))
    inner = (sizes.rope_parameters or sizes.rope_scaling or Rotary()).rope_theta
    rope: dict[str, Any] = {"rope_theta": sizes.rope_theta or inner or 1e6}
    if "rope_parameters" in signature(Qwen2Config).parameters:  # transformers 5
        rope = {"rope_parameters": {"rope_type": "default", **rope}}
    plain = sizes.model_dump(exclude={"rope_theta", "rope_parameters", "rope_scaling"})
    return Qwen2Config(**plain, **rope, use_cache=False)


class Gemma2(Foreign):
    """The shape of a Gemma 2: all that its file may decide."""

    vocab_size: Annotated[int, Range(3, 1 << 20)] = 256000
    hidden_size: Width = 2304
    intermediate_size: Annotated[int, Range(1, 1 << 17)] = 9216
    num_hidden_layers: Annotated[int, Range(1, 256)] = 26
    num_attention_heads: Annotated[int, Range(1, 1024)] = 8
    num_key_value_heads: Annotated[int, Range(1, 1024)] = 4
    head_dim: Heads = 256
    hidden_activation: Literal["gelu_pytorch_tanh"] = "gelu_pytorch_tanh"
    max_position_embeddings: Annotated[int, Range(3, 1 << 20)] = 8192
    rms_norm_eps: Annotated[float, Range(gt=0, lt=1)] = 1e-6
    attention_bias: bool = False
    query_pre_attn_scalar: Annotated[int, Range(1, 1 << 20)] = 256
    sliding_window: Annotated[int, Range(1, 1 << 20)] | None = 4096
    attn_logit_softcapping: Annotated[float, Range(gt=0, le=1e6)] | None = 50.0
    rope_theta: Theta | None = None
    rope_parameters: Rope | None = None


def gemma2_config(path: Path) -> Any:
    """A Gemma2Config of the file's sizes alone."""
    from transformers import Gemma2Config

    sizes = parse_data(Gemma2, read_config(path), str(path))
    theta = sizes.rope_theta or (sizes.rope_parameters or Rope()).rope_theta
    rope: dict[str, Any] = {"rope_theta": theta}
    if "rope_parameters" in signature(Gemma2Config).parameters:  # transformers 5
        rope = {"rope_parameters": {"rope_type": "default", **rope}}
    plain = sizes.model_dump(exclude={"rope_theta", "rope_parameters"})
    return Gemma2Config(**plain, **rope, use_cache=False)


def t5_tokenizer(folder: Path) -> Tokenizer:
    """T5's tokenizer of a folder."""
    read = tokenizer(folder)
    for token in ("</s>", "<pad>"):
        if read.token_to_id(token) is None:
            raise SfumatoError(f"{folder}: has no token {token}; it belongs to another model")
    return read


def tokenizer(folder: Path) -> Tokenizer:
    """Of a folder's tokenizer.json, without padding and cutting."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise SfumatoError(
            f"{path}: missing; folders with spiece.model or vocab.json alone are not read, "
            "`sfumato models pull` brings the other"
        )
    try:
        read = Tokenizer.from_str(read_text(path, vocabularies.LIMIT))
    except SfumatoError:
        raise
    except Exception as error:  # tokenizers raises nothing more special than that
        raise SfumatoError(f"{path}: no tokenizer ({str(error)[:100]})") from None
    read.no_padding()
    read.no_truncation()
    return read
