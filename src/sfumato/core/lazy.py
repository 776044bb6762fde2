"""The one lazy handle on torch: core and methods mention torch, but importing them is free.

Below models/ only nn/ imports torch at module level, since it defines Modules. images/ uses the
same handle so that help does not wait for Pillow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any


class LazyModule:
    """Stands for module `name` and imports it when the first attribute is read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

__all__ = ["LazyModule", "torch"]
