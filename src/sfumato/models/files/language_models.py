"""Configurations and tokenizers of what reads prompts for diffusion transformers."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from tokenizers import Tokenizer

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range
from sfumato.documents import parse_data, read_json, read_text
from sfumato.models.files import vocabularies
from sfumato.models.files.configs import read_config
from sfumato.models.files.network_fields import (
    Blocks,
    Epsilon,
    Foreign,
    HeadCount,
    Heads,
    Inner,
    Rows,
    Theta,
    Width,
)
from sfumato.models.files.sentencepieces import unigram_tokenizer


class T5Encoder(Foreign):
    """The shape of T5's encoder: all that its file may decide."""

    vocab_size: Rows = 32128
    d_model: Width = 512
    d_kv: Width = 64
    d_ff: Inner = 2048
    num_layers: Blocks = 6
    num_heads: HeadCount = 8
    relative_attention_num_buckets: Annotated[int, Range(2, 4096)] = 32
    relative_attention_max_distance: Annotated[int, Range(2, 1 << 20)] = 128
    layer_norm_epsilon: Epsilon = 1e-6
    feed_forward_proj: Literal["relu", "gated-gelu", "gated-silu", "gelu"] = "relu"
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | None = 1


def t5_config(path: Path) -> Any:
    """A T5Config of the file's sizes alone."""
    from transformers import T5Config

    read_config(path, quantised=True)
    return T5Config(**read_json(T5Encoder, path).model_dump())


class Bert(Foreign):
    """The shape of a BERT: all that its file may decide."""

    vocab_size: Rows = 30522
    hidden_size: Width = 768
    num_hidden_layers: Blocks = 12
    num_attention_heads: HeadCount = 12
    intermediate_size: Inner = 3072
    hidden_act: Literal["gelu", "gelu_new", "relu"] = "gelu"
    max_position_embeddings: Rows = 512
    type_vocab_size: Annotated[int, Range(1, 1024)] = 2
    layer_norm_eps: Epsilon = 1e-12
    position_embedding_type: Literal["absolute"] = "absolute"


def bert_config(path: Path) -> Any:
    """A BertConfig of the file's sizes alone."""
    from transformers import BertConfig

    sizes = parse_data(Bert, read_config(path, quantised=True), str(path))
    if sizes.hidden_size % sizes.num_attention_heads:
        raise SfumatoError(
            f"{path}: hidden_size {sizes.hidden_size} is no multiple of num_attention_heads "
            f"{sizes.num_attention_heads}"
        )
    return BertConfig(**sizes.model_dump(exclude={"position_embedding_type"}))


class Cased(Foreign):
    """What a BERT's tokenizer_config.json says of letters."""

    do_lower_case: bool = True
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True


def bert_tokenizer(folder: Path) -> Tokenizer:
    """BERT's tokenizer of a folder: its vocab.txt, of words and of their ends."""
    path = folder / "vocab.txt"
    if not path.is_file():
        raise SfumatoError(f"{path}: missing; the model is incomplete")
    config = folder / "tokenizer_config.json"
    cased = parse_data(Cased, read_config(config), str(config)) if config.is_file() else Cased()
    return vocabularies.bert_tokenizer(
        path, cased.do_lower_case, cased.strip_accents, cased.tokenize_chinese_chars
    )


class Rope(Foreign):
    """Rotary places, as newer files write them."""

    rope_theta: Theta = 1e4
    rope_type: Literal["default"] = "default"


class Decoder(Foreign):
    """The shape of a language model: what the files of all of them may decide.

    usual: a family's own sizes, where its file says none.
    """

    usual: ClassVar[Mapping[str, float]]

    vocab_size: Rows
    hidden_size: Width
    intermediate_size: Inner
    num_hidden_layers: Blocks
    num_attention_heads: HeadCount
    num_key_value_heads: HeadCount
    max_position_embeddings: Rows
    rms_norm_eps: Epsilon
    rope_theta: Theta | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any], where: str) -> Self:
        """Read from a file's data; `where` is what an error calls it."""
        return parse_data(cls, {**cls.usual, **data}, where)

    def config(self, kind: Any, theta: float) -> Any:
        """As transformers' class of a configuration. theta: of the rotary places, where no field of
        its own says it."""
        rope: dict[str, Any] = {"rope_theta": self.rope_theta or theta}
        if "rope_parameters" in signature(kind).parameters:  # transformers 5
            rope = {"rope_parameters": {"rope_type": "default", **rope}}
        plain = self.model_dump(exclude={"rope_theta", "rope_parameters", "rope_scaling"})
        return kind(**plain, **rope, use_cache=False)


class Qwen3(Decoder):
    """What it has besides."""

    usual: ClassVar[Mapping[str, float]] = {
        "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
    }  # fmt: skip

    head_dim: Heads = 128
    hidden_act: Literal["silu"] = "silu"
    rope_parameters: Rope | None = None
    attention_bias: bool = False
    tie_word_embeddings: bool = False


def qwen3_config(path: Path) -> Any:
    """A Qwen3Config of the file's sizes alone."""
    from transformers import Qwen3Config

    sizes = Qwen3.of(read_config(path, quantised=True), path.name)
    return sizes.config(Qwen3Config, (sizes.rope_parameters or Rope()).rope_theta)


class Rotary(Foreign):
    """Rotary places in three directions, which words alone do not use."""

    rope_theta: Theta | None = None
    rope_type: Literal["default", "mrope"] | None = None
    type: Literal["default", "mrope"] | None = None


class Qwen2(Decoder):
    """Of a Qwen2.5-VL the words' side."""

    usual: ClassVar[Mapping[str, float]] = {
        "vocab_size": 152064, "hidden_size": 8192, "intermediate_size": 29568,
        "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-5,
    }  # fmt: skip

    hidden_act: Literal["silu"] = "silu"
    rope_parameters: Rotary | None = None
    rope_scaling: Rotary | None = None
    use_sliding_window: Literal[False] = False


def qwen2_config(path: Path) -> Any:
    """A Qwen2Config of the sizes of a Qwen2.5-VL's words alone; older files have them outermost."""
    from transformers import Qwen2Config

    data = read_config(path, quantised=True)
    words = data.get("text_config")
    sizes = Qwen2.of(words if isinstance(words, dict) else data, str(path))
    inner = (sizes.rope_parameters or sizes.rope_scaling or Rotary()).rope_theta
    return sizes.config(Qwen2Config, inner or 1e6)


class Gemma2(Decoder):
    """What it has besides."""

    usual: ClassVar[Mapping[str, float]] = {
        "vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216,
        "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-6,
    }  # fmt: skip

    head_dim: Heads = 256
    hidden_activation: Literal["gelu_pytorch_tanh"] = "gelu_pytorch_tanh"
    rope_parameters: Rope | None = None
    attention_bias: bool = False
    query_pre_attn_scalar: Annotated[int, Range(1, 1 << 20)] = 256
    sliding_window: Annotated[int, Range(1, 1 << 20)] | None = 4096
    attn_logit_softcapping: Annotated[float, Range(gt=0, le=1e6)] | None = 50.0


def gemma2_config(path: Path) -> Any:
    """A Gemma2Config of the file's sizes alone."""
    from transformers import Gemma2Config

    sizes = Gemma2.of(read_config(path, quantised=True), str(path))
    return sizes.config(Gemma2Config, (sizes.rope_parameters or Rope()).rope_theta)


def t5_tokenizer(folder: Path) -> Tokenizer:
    """T5's tokenizer of a folder: its tokenizer.json, else the vocabulary that was before it."""
    older = folder / "spiece.model"
    alone = older.is_file() and not (folder / "tokenizer.json").is_file()
    read = unigram_tokenizer(older) if alone else tokenizer(folder)
    for token in ("</s>", "<pad>"):
        if read.token_to_id(token) is None:
            raise SfumatoError(f"{folder}: has no token {token}; it belongs to another model")
    return read


def tokenizer(folder: Path) -> Tokenizer:
    """Of a folder's tokenizer.json, without padding and cutting."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise SfumatoError(
            f"{path}: missing; folders with vocab.json alone are not read, `sfumato models pull` "
            "brings the other"
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
