"""Text encoders of Stable Diffusion's single files, by their shapes, and their tokenizers.

Such a file has none: it is looked for beside it (vocab.json and merges.txt, or a folder tokenizer)
and in the hub's cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.models.devices import DTYPES, Choice
from sfumato.models.encoders import Encoder, Encoders, Layer
from sfumato.models.files import hub, key_names, pipeline
from sfumato.models.files.checkpoint import meta_network
from sfumato.models.loaders.networks import build_network, count, sides, weights_under

CLIP_1, OPEN_CLIP_2 = "cond_stage_model.transformer.", "cond_stage_model.model."
XL_1, XL_2 = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
REFINER = "conditioner.embedders.0.model."
"""Of XL's refiner, which has the second alone."""
VOCABULARY = "openai/clip-vit-large-patch14"
REQUIRED = ("encoder.layers.0.mlp.fc1.weight", "embeddings.position_embedding.weight")
OPEN_CLIP_LAYERS = 24
"""Of ViT-H's text side, whose last but one 2.x reads."""


def load_encoders(
    path: Path, weights: Mapping[str, Tensor], xl: bool, sd2: bool, choice: Choice
) -> Encoders:
    """The text encoders of a family."""
    device, dtype = choice.home, DTYPES[choice.dtype]
    layer: Layer = "second" if xl else "last"
    encoders = []
    refines = is_refiner(weights)
    if not sd2 and not refines:
        clip = text_encoder(weights_under(weights, XL_1 if xl else CLIP_1), "quick_gelu")
        encoders.append(Encoder(find_tokenizer(path, clip), clip.to(device, dtype), layer))
    if sd2 or xl:
        prefix = REFINER if refines else XL_2 if xl else OPEN_CLIP_2
        renamed = key_names.rename_open_clip(weights_under(weights, prefix))
        spare = not xl and _has_unread_layer(weights)
        open_clip = text_encoder(renamed, "gelu", projected=xl, drop_last=spare)
        tokenizer = find_tokenizer(path, open_clip, "!")
        encoders.append(Encoder(tokenizer, open_clip.to(device, dtype), layer))
    return Encoders(tuple(encoders), zeros=xl and not refines)


def is_refiner(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are of XL's refiner."""
    return f"{REFINER}token_embedding.weight" in weights


def _has_unread_layer(weights: Mapping[str, Tensor]) -> bool:
    """Whether a file of 2.x has all layers of its CLIP, of which the last is not read.

    The originals hold open_clip's whole text side, its projection too; copies written back from
    diffusers' layers lack the last one.
    """
    layers = count(weights, r"cond_stage_model\.model\.transformer\.resblocks\.(\d+)\.")
    complete = f"{OPEN_CLIP_2}text_projection" in weights and layers != OPEN_CLIP_LAYERS - 1
    return complete or layers == OPEN_CLIP_LAYERS


def text_encoder(
    weights: Mapping[str, Tensor], act: str, *, projected: bool = False, drop_last: bool = False
) -> Any:
    """A CLIP text encoder by its shapes. drop_last: of 2.x, which reads the second last layer."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    plain = {name.removeprefix("text_model."): value for name, value in weights.items()}
    if "embeddings.token_embedding.weight" not in plain:
        raise SfumatoError("text encoder: its token embedding is missing; the file is incomplete")
    layers = count(plain, r"encoder\.layers\.(\d+)\.")
    if drop_last:
        layers -= 1
        plain = {k: v for k, v in plain.items() if not k.startswith(f"encoder.layers.{layers}.")}
    if not projected:  # of the whole CLIP; nothing here reads it
        plain.pop("text_projection.weight", None)
        plain.pop("text_projection", None)
    required = (*REQUIRED, "text_projection.weight") if projected else REQUIRED
    if missing := [k for k in required if k not in plain]:
        raise SfumatoError(f"text encoder: {missing[0]} is missing; the file is incomplete")
    config = _text_config(plain, layers, act, projected)
    cls = CLIPTextModelWithProjection if projected else CLIPTextModel

    def make() -> Any:
        return cls(config)

    renamed = key_names.rename_text_model(plain, meta_network(make, "text encoder"))
    if "text_projection.weight" in plain:
        renamed["text_projection.weight"] = renamed.pop(
            "text_model.text_projection.weight", plain["text_projection.weight"]
        )
    return build_network(make, renamed, "text encoder")


def _text_config(weights: Mapping[str, Tensor], layers: int, act: str, projected: bool) -> Any:
    """A CLIPTextConfig of the shapes of its weights."""
    from transformers import CLIPTextConfig

    positions = sides(weights, "embeddings.position_embedding.weight", 2)[0]
    if positions < 3:
        raise SfumatoError(
            f"text encoder: has {positions} positions, too few for a start, a word and an end; the "
            "file is damaged"
        )
    vocabulary, width = sides(weights, "embeddings.token_embedding.weight", 2)
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=sides(weights, "encoder.layers.0.mlp.fc1.weight", 2)[0],
        num_hidden_layers=layers,
        num_attention_heads=max(width // 64, 1),
        max_position_embeddings=positions,
        hidden_act=act,
        projection_dim=sides(weights, "text_projection.weight", 2)[0] if projected else width,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )


def find_tokenizer(path: Path, network: Any, pad: str | None = None) -> Any:
    """CLIP's tokenizer for a single file's text encoder; pad: the token that fills the context, if
    not the end."""
    folders = [path.parent / "tokenizer", path.parent, hub.find(VOCABULARY)]
    for folder in folders:
        if folder is None:
            continue
        # a tokenizer.json beside the file may be any model's
        names = ("vocab.json",) if folder == path.parent else ("vocab.json", "tokenizer.json")
        if any((folder / name).is_file() for name in names):
            tokenizer = pipeline.tokenizer(folder)
            if pad is not None:
                tokenizer.pad_token = pad
            pipeline.check_tokens(tokenizer, int(network.config.vocab_size), folder)
            return tokenizer
    raise SfumatoError(
        f"{path.name}: needs CLIP's vocabulary; put its vocab.json and merges.txt beside the file, "
        f"or `sfumato models pull {VOCABULARY}`"
    )
