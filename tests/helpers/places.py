"""A device that is none: copies in main memory, counted, whose originals are spoilt."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sfumato as sf
from sfumato.models import devices, offload

HERE = torch.device("cpu")


@dataclass(eq=False)
class Spoiling:
    """A mover that fills a weight with NaN once it has taken it, so that only copies can be
    computed with. bytes, peak: of the copies that exist; log: names of what came and what ran."""

    device: torch.device = HERE
    true: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    bytes: int = 0
    peak: int = 0
    names: dict[int, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def begin(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        came = dict.fromkeys(self.names.get(id(tensor), "") for tensor in tensors)
        self.log += [f"fetch {name}" for name in came if name]
        return [self._copy(tensor) for tensor in tensors]

    def _copy(self, tensor: Tensor) -> Tensor:
        if id(tensor) not in self.true:
            self.true[id(tensor)] = tensor, tensor.detach().clone()
            tensor.data.fill_(float("nan") if tensor.is_floating_point() else 0)
        copy = self.true[id(tensor)][1].clone()
        self.bytes += copy.nbytes
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(copy, self._gone, copy.nbytes)
        return copy

    def _gone(self, size: int) -> None:
        self.bytes -= size

    def wait(self, copies: Sequence[Tensor]) -> None:
        pass

    def ran(self) -> None:
        pass

    def pin(self, net: nn.Module) -> None:
        pass

    def heal(self) -> None:
        """Give weights their values back."""
        for tensor, values in self.true.values():
            tensor.data.copy_(values)
        self.true.clear()

    def name(self, net: Any, name: str) -> None:
        self.names |= {id(tensor): name for tensor in (*net.parameters(), *net.buffers())}


@contextmanager
def apart(mover: Any) -> Iterator[None]:
    """While it lasts, the CPU is a device with a memory of its own, reached by the mover."""
    place = offload.Place(mover)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "SHARED", ())
        patch.setattr(offload, "place_of", lambda device: place)
        yield


def loaded(folder: Path | str, how: str, mover: Any) -> sf.Model:
    """A model whose device the mover is."""
    with apart(mover):
        return sf.load(str(folder), device="cpu", dtype="float32", offload=how)
