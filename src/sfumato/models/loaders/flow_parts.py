"""What the families of transformers load alike: text encoders, and what makes up a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.denoiser import Network
from sfumato.core.errors import SfumatoError
from sfumato.models.card import Defaults
from sfumato.models.devices import Choice
from sfumato.models.encoders import Encoder
from sfumato.models.files import language_models, pipeline
from sfumato.models.files.spans import Reader
from sfumato.models.shifts import Ramp
from sfumato.models.t5 import T5


@dataclass(frozen=True, eq=False)
class Flow:
    """A family's parts of a pipeline.

    patch: cells to a token's side; ramp: of its times before the shift (shifts.py); cells,
    most_cells: sides of a state, native and at most; code: what the network reads of t.
    """

    network: Network
    text: Reader
    title: str
    patch: int
    ramp: Ramp
    cells: int
    most_cells: int
    defaults: Defaults
    code: Callable[[float], float]


def packed(x: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) -> (B, H W / patch^2, C patch^2): a token is patch x patch cells."""
    return F.pixel_unshuffle(x, patch).flatten(2).transpose(1, 2)


def unpacked(tokens: Tensor, height: int, width: int, patch: int) -> Tensor:
    """The reverse; height and width in tokens."""
    grid = tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)
    return F.pixel_shuffle(grid, patch)


def renamed(converter: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """LoRA tensors by the layers' names in diffusers, which knows other programs' names."""
    from diffusers.loaders import lora_conversion_utils

    convert = getattr(lora_conversion_utils, converter, None)
    if convert is None:
        raise SfumatoError(
            "adapter: this version of diffusers does not know these names; take a newer one"
        )
    return dict(convert(tensors))


def are_renamed(tensors: dict[str, Tensor]) -> bool:
    """Whether a LoRA's tensors have the names of kohya's scripts, ComfyUI or peft."""
    begins = ("lora_unet_", "diffusion_model.")
    return any(
        name.startswith(begins) or "default." in name or name.endswith(".alpha") for name in tensors
    )


def clip_encoder(
    folder: Path, part: str, classes: Mapping[str, str], choice: Choice, digest: Any
) -> Encoder:
    """A CLIP text encoder, of which the last layer but one is read."""
    kind = class_of(folder, part, classes, ("CLIPTextModel", "CLIPTextModelWithProjection"))
    vocabulary = folder / part.replace("text_encoder", "tokenizer")
    tokenizer = pipeline.tokenizer(vocabulary)
    net = pipeline.encoder(folder / part, kind, choice, digest)
    pipeline.check_tokens(tokenizer, int(net.config.vocab_size), vocabulary)
    return Encoder(tokenizer, net, "second")


def t5_encoder(
    folder: Path,
    part: str,
    classes: Mapping[str, str],
    choice: Choice,
    digest: Any,
    rows: int,
    masked: bool = False,
) -> T5:
    """T5's encoder, which gives so many rows; masked: words do not see those behind their end."""
    class_of(folder, part, classes, ("T5EncoderModel",))
    tokenizer = language_models.t5_tokenizer(folder / part.replace("text_encoder", "tokenizer"))
    return T5(tokenizer, pipeline.t5(folder / part, choice, digest), rows, masked)


def qwen3(
    folder: Path, classes: Mapping[str, str], choice: Choice, digest: Any
) -> tuple[Tokenizer, Any]:
    """Qwen3 as a reader of prompts, and its tokenizer."""
    class_of(folder, "text_encoder", classes, ("Qwen3Model", "Qwen3ForCausalLM"))
    tokenizer = language_models.tokenizer(folder / "tokenizer")
    return tokenizer, pipeline.qwen3(folder / "text_encoder", choice, digest)


def qwen2(
    folder: Path, classes: Mapping[str, str], choice: Choice, digest: Any
) -> tuple[Tokenizer, Any]:
    """Qwen2.5-VL's words alone as a reader of prompts, and its tokenizer."""
    class_of(folder, "text_encoder", classes, ("Qwen2_5_VLForConditionalGeneration",))
    tokenizer = language_models.tokenizer(folder / "tokenizer")
    return tokenizer, pipeline.qwen2(folder / "text_encoder", choice, digest)


def gemma2(
    folder: Path, classes: Mapping[str, str], choice: Choice, digest: Any
) -> tuple[Tokenizer, Any]:
    """Gemma 2 as a reader of prompts, and its tokenizer."""
    class_of(folder, "text_encoder", classes, ("Gemma2Model", "Gemma2ForCausalLM"))
    tokenizer = language_models.tokenizer(folder / "tokenizer")
    return tokenizer, pipeline.gemma2(folder / "text_encoder", choice, digest)


def class_of(folder: Path, part: str, classes: Mapping[str, str], known: tuple[str, ...]) -> str:
    """The class that a pipeline names for a part, which is one of those known."""
    kind = classes.get(part)
    if kind is None:
        raise SfumatoError(f"{folder}: the pipeline has no {part}")
    if kind not in known:
        raise SfumatoError(f"{folder}: {part} {kind:.60} is not supported, {' or '.join(known)} is")
    return kind
