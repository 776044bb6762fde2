"""Configurations of diffusion transformers and of T5, as typed values: sizes, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field
from tokenizers import Tokenizer

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range
from sfumato.documents import parse_data, read_json, read_text
from sfumato.models.files import vocabularies
from sfumato.models.files.configs import Foreign, Heads, Width, read_config

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


T = TypeVar("T", bound=Transformer)


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


def t5_tokenizer(folder: Path) -> Tokenizer:
    """T5's tokenizer of a folder, from its tokenizer.json."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise SfumatoError(
            f"{path}: missing; a folder with spiece.model alone is not read, "
            "`sfumato models pull` brings the other"
        )
    try:
        tokenizer = Tokenizer.from_str(read_text(path, vocabularies.LIMIT))
    except SfumatoError:
        raise
    except Exception as error:  # tokenizers raises nothing more special than that
        raise SfumatoError(f"{path}: no tokenizer ({str(error)[:100]})") from None
    for token in ("</s>", "<pad>"):
        if tokenizer.token_to_id(token) is None:
            raise SfumatoError(f"{path}: has no token {token}; it belongs to another model")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
