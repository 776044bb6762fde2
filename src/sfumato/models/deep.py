"""UNets of diffusers without their deep blocks, whose map an earlier call has made (arXiv
2312.00858).

What is asked at every step are the first block down and the last one up. Both networks here share
their weights with the one that they are made of, which stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(eq=False)
class Deep:
    """The map that the last block up reads, in one call."""

    map: Tensor | None = None


_deep: ContextVar[Deep] = ContextVar("sfumato_deep")


@contextmanager
def deep_map(given: Tensor | None) -> Iterator[Deep]:
    """While it lasts, networks of this thread read this map, or put theirs here."""
    here = Deep(given)
    token = _deep.set(here)
    try:
        yield here
    finally:
        _deep.reset(token)


def noted_map() -> Deep:
    """Where networks of this thread read the map, or put theirs."""
    return _deep.get()


def has_deep(net: Any) -> bool:
    """Whether there are blocks below the first one."""
    return len(net.down_blocks) > 1 and len(net.down_blocks) == len(net.up_blocks)


def noting(net: Any) -> Any:
    """The whole network, which puts its deep map where `deep_map` is."""
    *others, last = net.up_blocks
    return with_modules(net, up_blocks=nn.ModuleList([*others, LastUp(last)]))


def shallow(net: Any) -> Any:
    """The network without its deep blocks, which takes their map from `deep_map`."""
    first, *down = net.down_blocks
    *up, last = net.up_blocks
    return with_modules(
        net,
        down_blocks=nn.ModuleList([first, *map(LeftOutDown, down)]),
        mid_block=None if net.mid_block is None else LeftOut(),
        up_blocks=nn.ModuleList([*map(LeftOutUp, up), LastUp(last)]),
    )


def with_modules(net: Any, **modules: Any) -> Any:
    """The network with other modules; everything else is shared."""
    changed = copy.copy(net)
    changed.__dict__["_modules"] = {**net._modules, **modules}
    return changed


class LeftOut(nn.Module):
    """Gives what it reads."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return hidden_states


class LeftOutDown(nn.Module):
    """In the place of a block down: as many skips, which nothing reads."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.count = len(block.resnets) + len(getattr(block, "downsamplers", None) or ())

    def forward(
        self, hidden_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        return hidden_states, (hidden_states,) * self.count


class LeftOutUp(LeftOut):
    """In the place of a block up, of whose skips the network asks how many."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.resnets = [None] * len(block.resnets)


class LastUp(nn.Module):
    """The last block up, which reads the deep map or notes it."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block
        self.resnets = block.resnets
        if hasattr(block, "has_cross_attention"):
            self.has_cross_attention = block.has_cross_attention

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        here = noted_map()
        named = "hidden_states" in kwargs
        read = kwargs["hidden_states"] if named else args[0]
        if here.map is None:
            here.map = read
        elif named:
            kwargs["hidden_states"] = here.map
        else:
            args = (here.map, *args[1:])
        return self.block(*args, **kwargs)
