"""Files of learned words (textual inversion), as other programs write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.core.errors import SfumatoError

ENCODER_KEYS = (("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1"), ("0", "1"))
"""What files of a word for one or two text encoders call them; the word is the file's name."""


def words_of(tensors: Mapping[str, Any], file: Path) -> dict[str, tuple[Tensor, ...]]:
    """word -> its vectors, as `_named` finds them; refused unless they are finite floats."""
    words = _named(tensors, file)
    for name, vectors in words.items():
        if not name.strip() or not name.isprintable():
            raise SfumatoError(f"adapter {file.name}: {name!r:.60} is no word")
        for value in vectors:
            floats = isinstance(value, Tensor) and value.is_floating_point()
            if not floats or not bool(torch.isfinite(value.float()).all()):
                raise SfumatoError(f"adapter {file.name}: {name:.60} is not of finite numbers")
    return words


def _named(tensors: Mapping[str, Any], file: Path) -> dict[str, tuple[Tensor, ...]]:
    """word -> its vectors for each text encoder, (k, width) or for every cross-attention layer
    (layers, k, width); empty where the file is no such."""
    if "string_to_param" in tensors:  # of the web interface, pickled
        name, entries = str(tensors.get("name") or file.stem), tensors["string_to_param"]
        vectors = next(iter(entries.values()), None) if isinstance(entries, dict) else None
        if not isinstance(vectors, Tensor):
            raise SfumatoError(f"adapter {file.name}: string_to_param holds no vectors")
        return {name: (vectors.detach(),)}
    if "emb_params" in tensors:
        return {file.stem: (tensors["emb_params"],)}
    for names in ENCODER_KEYS:
        if set(names) <= tensors.keys() or names[:1] == tuple(tensors):
            return {file.stem: tuple(tensors[name] for name in names if name in tensors)}
    if tensors and all(isinstance(v, Tensor) and v.ndim <= 3 for v in tensors.values()):
        plain = [name for name in tensors if "lora" not in name and "." not in name]
        if len(plain) == len(tensors):
            layers = layered_word(tensors, file) or tensors
            return {name: (value,) for name, value in layers.items()}
    return {}


def layered_word(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The word of a file {"<t>-0": (k, width), "<t>-1": ...}, a name for every layer, as one
    tensor (layers, k, width); empty where the names are no such."""
    matches = [re.fullmatch(r"(.+)-(\d+)", name) for name in tensors]
    numbers = {int(m[2]): tensors[m[0]] for m in matches if m is not None}
    words = {m[1] for m in matches if m is not None}
    if len(tensors) < 2 or len(numbers) < len(tensors) or len(words) > 1:
        return {}
    word = words.pop()
    if 0 not in numbers:  # two words that end in numbers
        return {}
    if missing := sorted(set(range(max(numbers))) - set(numbers)):
        raise SfumatoError(
            f"adapter {file.name}: {word}-{missing[0]} is missing; the file is damaged"
        )
    rows = [v[None] if v.ndim == 1 else v for _, v in sorted(numbers.items())]
    if len({v.shape for v in rows}) > 1:
        raise SfumatoError(f"adapter {file.name}: the layers of {word} differ in their vectors")
    return {word: torch.stack(rows)}
