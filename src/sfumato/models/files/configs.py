"""Configuration files of pipelines as typed values: what is read, and what is refused by name.

Their writers add keys as they like, so unknown keys are passed over; every key that changes what a
network or a scheduler does, and that nothing here supports, is named here and refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import JsonValue

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range
from sfumato.documents import is_there, parse_data, read_json
from sfumato.models.files import vocabularies
from sfumato.models.files.inside import Name
from sfumato.models.files.network_fields import (
    Autoencoder,
    Blocks,
    Compressed,
    Epsilon,
    Foreign,
    Frames,
    HeadCount,
    Inner,
    Rows,
    UNet,
    Width,
)

Json = dict[str, Any]
INDEX_LIMIT = 64 << 20
"""Bytes of a weight index's file."""

PARTS = (
    "vae",
    "vqvae",
    "unet",
    "transformer",
    "scheduler",
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
    "tokenizer",
    "tokenizer_2",
    "tokenizer_3",
    "safety_checker",
    "feature_extractor",
    "image_encoder",
    "image_normalizer",
    "image_noising_scheduler",
    "movq",
)


SUPPORTED = (
    "Stable Diffusion 1.x, 2.x, XL, their inpainting variants, 3.x, Flux.1, Flux.2 Klein, Z-Image, "
    "Qwen-Image, Sana, PixArt-Sigma, Hunyuan-DiT, Kandinsky 2.2's decoder, Stable unCLIP, DDPM and "
    "unconditional LDM"
)
"""Families whose pipelines are loaded."""


def pipeline_classes(path: Path) -> dict[str, str]:
    """part -> class of a pipeline's model_index.json, and its "_class_name"."""
    data = read_config(path)
    classes = {}
    for part, value in data.items():
        if isinstance(value, list):
            if len(value) != 2 or not all(v is None or isinstance(v, str) for v in value):
                raise SfumatoError(f"{path}: {part} = {value!r:.60}: must be [library, class]")
            if value[1] is None:
                continue
            if part not in PARTS:
                raise SfumatoError(
                    f"{path.parent}: {data.get('_class_name')!s:.60} ({value[1]:.60}) is not "
                    f"supported, for its part {part:.40}; {SUPPORTED} are"
                )
            classes[part] = value[1]
    classes["_class_name"] = str(data.get("_class_name", ""))
    return classes


def empty_prompt_is_zeros(path: Path, default: bool) -> bool:
    """Whether the pipeline's empty prompt is all zeros."""
    return flag(path, "force_zeros_for_empty_prompt", default)


def flag(path: Path, name: str, default: bool = False) -> bool:
    """A key of a pipeline's file that is true or false."""
    value = read_config(path).get(name, default)
    if not isinstance(value, bool):
        raise SfumatoError(f"{path}: {name} = {value!r:.40}: must be a bool")
    return value


ABSENT: dict[str, tuple[Any, ...]] = {
    "class_embed_type": (None,),
    "encoder_hid_dim_type": (None,),
    "addition_embed_type": (None, "text_time"),
    "time_embedding_type": (None, "positional"),
    "attention_type": (None, "default"),
}
"""Keys of a UNet that ask for inputs which nothing here gives, with the values that do not."""


def check_unet(path: Path, kind: str, given: Mapping[str, str] | None = None) -> None:
    """Refuse a UNet whose inputs nothing here gives; given: of such keys those of its family."""
    data, family = read_config(path, quantised=True), given or {}
    for key, allowed in ABSENT.items():
        if data.get(key) not in (*allowed, family.get(key)):
            raise SfumatoError(
                f"{path}: {key} = {data[key]!r:.60} is not supported; the network reads what "
                "nothing here gives"
            )
    if kind == "UNet2DConditionModel":
        if data.get("num_class_embeds") is not None:
            raise SfumatoError(f"{path}: num_class_embeds beside text is not supported")
        if isinstance(data.get("cross_attention_dim"), list):
            raise SfumatoError(f"{path}: cross_attention_dim as a list is not supported")
    parse_data(UNet, data, str(path))


def check_autoencoder(path: Path, kind: str = "AutoencoderKL") -> None:
    """Refuse an autoencoder of anything but coloured pictures."""
    data = read_config(path)
    if kind == "AutoencoderKLQwenImage":
        frames = parse_data(Frames, data, str(path))
        for name in ("latents_mean", "latents_std"):
            values = getattr(frames, name)
            if len(values or range(16)) != frames.z_dim:
                raise SfumatoError(f"{path}: {name} must have {frames.z_dim} values")
        if len(frames.dim_mult) != len(frames.temperal_downsample) + 1:
            raise SfumatoError(f"{path}: dim_mult must have one more than temperal_downsample")
        return
    if kind == "AutoencoderDC":
        if len(parse_data(Compressed, data, str(path)).levels) != 1:
            raise SfumatoError(f"{path}: its lists say different numbers of levels")
        return
    for key in ("in_channels", "out_channels"):
        if data.get(key, 3) != 3:
            raise SfumatoError(f"{path}: {key} = {data[key]!r:.40}; only RGB is supported")
    sizes = parse_data(Autoencoder, data, str(path))
    per_level = ("block_out_channels", "down_block_types", "up_block_types")
    levels = {len(row) for row in (getattr(sizes, n) for n in per_level) if row is not None}
    if len(levels) > 1:
        raise SfumatoError(f"{path}: {', '.join(per_level)} must have as many entries each")
    channels = sizes.latent_channels or 4
    for name in ("latents_mean", "latents_std"):
        values = getattr(sizes, name)
        if values is not None and len(values) != channels:
            raise SfumatoError(f"{path}: {name} has {len(values)} values for {channels} channels")


def own(config: Mapping[str, Any]) -> Json:
    """A network's configuration without what its library notes for itself."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def read_config(path: Path, quantised: bool = False) -> Json:
    """Any configuration; quantised: weights may be so already (quantised_already.py)."""
    if not is_there(path):
        raise SfumatoError(
            f"{path}: missing; the model is incomplete, `sfumato models pull` completes it"
        )
    data = read_json(dict[str, Any], path)
    if data.get("quantization_config") is not None and not quantised:
        raise SfumatoError(f"{path}: quantised weights of this part are not read; take plain ones")
    return data


Pixels = Annotated[int, Range(1, 4096)]
Activation = Literal["quick_gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu"]


class TextEncoder(Foreign):
    """The shape of a CLIP text encoder: all that its file may decide."""

    vocab_size: Rows = 49408
    hidden_size: Width = 512
    intermediate_size: Inner = 2048
    projection_dim: Width = 512
    num_hidden_layers: Blocks = 12
    num_attention_heads: HeadCount = 8
    max_position_embeddings: Annotated[int, Range(3, 4096)] = 77
    hidden_act: Activation = "quick_gelu"
    layer_norm_eps: Epsilon = 1e-5
    pad_token_id: int | None = 1
    bos_token_id: int | None = 49406
    eos_token_id: int | list[int] | None = 49407


def text_encoder_config(path: Path) -> Any:
    """A CLIPTextConfig of the file's sizes alone: how it computes is not the file's to say."""
    from transformers import CLIPTextConfig

    read_config(path, quantised=True)
    sizes = read_json(TextEncoder, path)
    _check_heads(sizes, path)
    return CLIPTextConfig(**sizes.model_dump())


class VisionEncoder(Foreign):
    """The shape of a CLIP's picture side."""

    hidden_size: Width = 768
    intermediate_size: Inner = 3072
    projection_dim: Width = 512
    num_hidden_layers: Blocks = 12
    num_attention_heads: HeadCount = 12
    num_channels: Literal[3] = 3
    image_size: Pixels = 224
    patch_size: Pixels = 32
    hidden_act: Activation = "quick_gelu"
    layer_norm_eps: Epsilon = 1e-5


def vision_config(path: Path) -> Any:
    """A CLIPVisionConfig of the file's sizes alone."""
    from transformers import CLIPVisionConfig

    sizes = parse_data(VisionEncoder, read_config(path), str(path))
    _check_heads(sizes, path)
    return CLIPVisionConfig(**sizes.model_dump())


class Clip(Foreign):
    """A whole CLIP; the keys in _dict are of older files, and win."""

    model_type: Literal["clip"] | None = None
    text_config: dict[str, JsonValue] | None = None
    text_config_dict: dict[str, JsonValue] | None = None
    vision_config: dict[str, JsonValue] | None = None
    vision_config_dict: dict[str, JsonValue] | None = None
    projection_dim: Width = 512
    logit_scale_init_value: Annotated[float, Range(-100, 100)] = 2.6592


def clip_config(path: Path) -> Any:
    """A CLIPConfig of the file's sizes alone."""
    from transformers import CLIPConfig

    sizes = parse_data(Clip, read_config(path), str(path))
    text: Json = {**(sizes.text_config or {}), **(sizes.text_config_dict or {})}
    vision: Json = {**(sizes.vision_config or {}), **(sizes.vision_config_dict or {})}
    sides: list[TextEncoder | VisionEncoder] = [
        parse_data(TextEncoder, text, f"{path}: text_config"),
        parse_data(VisionEncoder, vision, f"{path}: vision_config"),
    ]
    for side in sides:
        _check_heads(side, path)
    result: Any = CLIPConfig(
        text_config=sides[0].model_dump(),
        vision_config=sides[1].model_dump(),
        projection_dim=sizes.projection_dim,
        logit_scale_init_value=sizes.logit_scale_init_value,
    )
    return result


class Transformer(Foreign):
    """The shape of a vision transformer that is no CLIP: ViT (DINO's too) or DINOv2."""

    model_type: Literal["vit", "dinov2"]
    hidden_size: Width = 768
    intermediate_size: Inner = 3072
    mlp_ratio: Annotated[int, Range(1, 64)] = 4
    num_hidden_layers: Blocks = 12
    num_attention_heads: HeadCount = 12
    num_channels: Literal[3] = 3
    image_size: Pixels = 224
    patch_size: Pixels = 16
    hidden_act: Activation = "gelu"
    layer_norm_eps: Epsilon = 1e-12
    qkv_bias: bool = True
    use_swiglu_ffn: bool = False


def transformer_sizes(path: Path) -> Transformer:
    """What its file may decide."""
    sizes = read_json(Transformer, path)
    _check_heads(sizes, path)
    return sizes


def _check_heads(side: TextEncoder | VisionEncoder | Transformer, path: Path) -> None:
    if side.hidden_size % side.num_attention_heads:
        raise SfumatoError(
            f"{path}: hidden_size {side.hidden_size} is no multiple of num_attention_heads "
            f"{side.num_attention_heads}"
        )


TOKENIZER_FILE_KEYS = ("vocab_file", "merges_file", "tokenizer_file", "added_tokens_file")


class Tokenizer(Foreign):
    tokenizer_class: Literal["CLIPTokenizer", "CLIPTokenizerFast"] | None = None
    model_max_length: int | float | None = None


Vocab = dict[str, vocabularies.Id]
TOKENIZER_FILES: tuple[tuple[str, Any], ...] = (
    ("vocab.json", Vocab),
    ("added_tokens.json", Vocab),
    ("tokenizer.json", vocabularies.Vocabulary),
    ("special_tokens_map.json", dict[str, str | Mapping[str, Any]]),
)
"""A tokenizer's files and what is in them."""


def check_tokenizer(folder: Path) -> None:
    """Refuse a tokenizer's files that are no CLIP's, or that name files elsewhere."""
    path = folder / "tokenizer_config.json"
    if path.exists():
        data = read_config(path)
        if key := next((name for name in TOKENIZER_FILE_KEYS if data.get(name) is not None), None):
            raise SfumatoError(f"{path}: {key} = {data[key]!r:.60}: leave it out")
        read_json(Tokenizer, path)
    for name, kind in TOKENIZER_FILES:
        if (folder / name).exists():
            read_json(kind, folder / name, vocabularies.LIMIT)
    if (folder / "merges.txt").exists():  # also where a tokenizer.json has merges of its own
        vocabularies.check_merges(folder / "merges.txt")
    for name in ("vocab.json", "merges.txt"):
        if not (folder / name).is_file() and not (folder / "tokenizer.json").is_file():
            raise SfumatoError(f"{folder}: {name} is missing; the model is incomplete")


class Index(Foreign):
    weight_map: dict[str, Name]


def shards(index: Path) -> list[Path]:
    """The files that an index of weights names, which lie beside it."""
    weights = read_json(Index, index, INDEX_LIMIT)
    files = [index.parent / name for name in sorted(set(weights.weight_map.values()))]
    if missing := [file for file in files if not file.is_file()]:
        raise SfumatoError(f"{missing[0]}: missing; the model is incomplete")
    return files
