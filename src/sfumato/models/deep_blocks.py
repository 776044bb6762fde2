"""Transformers of diffusers without their deep blocks (arXiv 2406.01125): what those added to the
tokens in an earlier call is added again.

What is asked at every step are the first block and the last one. Both networks here share their
weights with the one that they are made of, which stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.models.deep import noted_map, with_modules

CHAINS = ("transformer_blocks", "single_transformer_blocks", "blocks", "layers")
"""Where a transformer may have its blocks, in the order in which they run."""

Arguments = Mapping[str, Any]


def chains(net: Any) -> dict[str, nn.ModuleList]:
    """The blocks of a network by the names of their lists; none where a list may be missing."""
    lists = {name: getattr(net, name, None) for name in CHAINS}
    return {name: blocks for name, blocks in lists.items() if isinstance(blocks, nn.ModuleList)}


def has_deep(net: Any) -> bool:
    """Whether there are blocks between the first one and the last one."""
    return sum(map(len, chains(net).values())) > 2


def reusing(net: Any) -> tuple[Any, Any]:
    """The whole network, which notes where `deep_map` is what its deep blocks add, and the one
    without them, which takes it from there. The second is called after the first."""
    pairs: dict[int, bool] = {}
    return _with_blocks(net, pairs, noting=True), _with_blocks(net, pairs, noting=False)


def _with_blocks(net: Any, pairs: dict[int, bool], noting: bool) -> Any:
    changed: dict[str, nn.ModuleList] = {}
    last = sum(map(len, chains(net).values())) - 1
    k = 0
    for name, blocks in chains(net).items():
        own: list[nn.Module] = []
        for block in blocks:
            if k == last:
                own.append((LastNoting if noting else LastAdding)(block, pairs, k))
            elif noting:
                own.append(Noting(block, pairs, k))
            else:
                own.append(LeftOut(pairs, k) if k else block)
            k += 1
        changed[name] = nn.ModuleList(own)
    return with_modules(net, **changed)


class Wrapped(nn.Module):
    """pairs: of each block whether it gives tokens of the text too, in front of the picture's."""

    def __init__(self, block: Any, pairs: dict[int, bool], k: int) -> None:
        super().__init__()
        self.block = block
        self.pairs, self.k = pairs, k


class Noting(Wrapped):
    """A block before the last one; what the first one gives is what the deep ones add to."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.block(*args, **kwargs)
        self.pairs[self.k] = isinstance(output, tuple)
        if self.k == 0:
            noted_map().map = torch.cat(output, dim=1) if self.pairs[0] else output
        return output


class LastNoting(Wrapped):
    """The last block: what it reads is what the deep ones have made."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        read = _tokens(args, kwargs)
        output = self.block(*args, **kwargs)
        self.pairs[self.k] = isinstance(output, tuple)
        here = noted_map()
        assert here.map is not None
        here.map = (torch.cat(read, dim=1) if self.pairs[self.k] else read[1]) - here.map
        return output


class LastAdding(Wrapped):
    """The last block, behind blocks that are left out."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        text, picture = _tokens(args, kwargs)
        added = noted_map().map
        assert added is not None
        if self.pairs[self.k]:
            length = text.shape[1]
            kwargs["encoder_hidden_states"] = text + added[:, :length]
            added = added[:, length:]
        if "hidden_states" in kwargs:
            kwargs["hidden_states"] = picture + added
        else:
            args = (picture + added, *args[1:])
        return self.block(*args, **kwargs)


class LeftOut(nn.Module):
    """In the place of a deep block: gives what it reads, in the form that the block has."""

    def __init__(self, pairs: dict[int, bool], k: int) -> None:
        super().__init__()
        self.pairs, self.k = pairs, k

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        tokens = _tokens(args, kwargs)
        return tokens if self.pairs[self.k] else tokens[1]


def _tokens(args: tuple[Any, ...], kwargs: Arguments) -> tuple[Any, Tensor]:
    """Tokens of the text, where a block is given any, and of the picture."""
    picture = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
    return kwargs.get("encoder_hidden_states"), picture
