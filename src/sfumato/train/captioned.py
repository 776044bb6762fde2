"""A model that sees the composed captions of a packed set, some longer than what it reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sfumato.models.model import Model


def cutting(model: Model) -> Model:
    """The model, whose reader of text leaves out what does not fit where it would refuse it."""
    text: Any = model.text
    return replace(model, text=replace(text, cut=True)) if hasattr(text, "cut") else model
