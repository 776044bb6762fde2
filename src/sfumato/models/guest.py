"""A module of diffusers as a network of ours: what every family of them says of itself alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sfumato.core.denoiser import Traits


@dataclass(frozen=True, eq=False)
class Guest:
    """net: the module; config: what the core must know of it. A subclass calls it."""

    net: Any
    config: Traits

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.net.dtype
        return dtype
