"""A module of diffusers as a network of ours: what every family of them says of itself alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sfumato.core.denoiser import Traits
from sfumato.models import deep_blocks
from sfumato.models.deep import deep_map

Reusing = Callable[..., tuple[Tensor, Tensor]]
"""(x, time, cond, the deep map of an earlier call or None) -> what a network says, the map."""


@dataclass(frozen=True, eq=False)
class Guest:
    """net: the module; config: what the core must know of it. A subclass calls it."""

    net: Any
    config: Traits

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.net.dtype
        return dtype

    @cached_property
    def reusing(self) -> Reusing | None:
        """The network with what its deep blocks added in an earlier call; None without such."""
        if not deep_blocks.has_deep(self.net):
            return None
        whole, shallow = (replace(self, net=net) for net in deep_blocks.reusing(self.net))

        def output(
            x: Tensor, time: Tensor, cond: Mapping[str, Tensor], given: Tensor | None
        ) -> tuple[Tensor, Tensor]:
            network: Any = whole if given is None else shallow
            with deep_map(given) as here:
                said: Tensor = network(x, time, cond)
            assert here.map is not None
            return said, here.map

        return output
