"""Kinds of fields: weights by name or path, times, colours, texts; what each takes and refuses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
)

from sfumato.core.ranges import TIME, words
from sfumato.recipe.places import located, naming

WORDS = ("auto", "none", "model")  # of such fields; never the name of a file


def _weights(given: str, info: ValidationInfo) -> str:
    if not given:
        raise ValueError("must be a name or a file")
    return located(given) if info.mode == "json" and given not in WORDS else given


def within(window: tuple[float, float], t: float) -> bool:
    """Whether t lies in a window of times, its ends included."""
    return window[0] <= t <= window[1]


def _ordered(window: tuple[float, float]) -> tuple[float, float]:
    if window[0] > window[1]:
        raise ValueError("needs 0 <= low <= high <= 1")
    return window


def _colour(name: str) -> str:
    from PIL import ImageColor

    try:
        ImageColor.getrgb(name)
    except ValueError:
        raise ValueError("is no colour; give a name such as white, or #rrggbb") from None
    return name


WEIGHTS, DENOISER = "weights", "denoiser"
"""Formats of such fields in a schema; a denoiser: of one that takes a model or an adapter."""

_Named = Annotated[
    str,
    BeforeValidator(lambda given: str(given) if isinstance(given, Path) else given),
    AfterValidator(_weights),
    PlainSerializer(lambda given: given if given in WORDS else naming.get()(given)),
]
Weights = Annotated[_Named, WithJsonSchema({"type": "string", "format": WEIGHTS})]
"""A field that may name a file or folder of weights; recorded without its folders.

A path where the user typed it, a bare name in a document.
"""
Denoiser = Annotated[_Named, WithJsonSchema({"type": "string", "format": DENOISER})]
"""The same of one that names a model or an adapter."""


def are_weights(metadata: Iterable[Any]) -> bool:
    """Whether an annotation's metadata are those of Weights."""
    return any(getattr(one, "func", None) is _weights for one in metadata)


Time = Annotated[float, TIME]
Window = Annotated[tuple[Time, Time], AfterValidator(_ordered)]
"""Times low, high."""
Colour = Annotated[str, AfterValidator(_colour)]
Text = Annotated[str, AfterValidator(lambda text: words(text, "text"))]
