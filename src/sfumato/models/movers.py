"""How copies of weights come to a device: one by one, or beside what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Mover(Protocol):
    """How copies come to a device."""

    device: torch.device

    def begin(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Their copies, which may still be under way."""

    def wait(self, copies: Sequence[Tensor]) -> None:
        """What is computed from now on finds them there."""

    def ran(self) -> None:
        """A layer has been asked for; returns when the layers before it have been computed."""

    def pin(self, net: nn.Module) -> None:
        """Make copying a network's weights quick."""


@dataclass
class Plain:
    """One copy after the other."""

    device: torch.device

    def begin(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [tensor.to(self.device) for tensor in tensors]

    def wait(self, copies: Sequence[Tensor]) -> None:
        pass

    def ran(self) -> None:
        pass

    def pin(self, net: nn.Module) -> None:
        pass


class Streamed:
    """On a stream of their own, beside what CUDA computes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's are
        self.before: Any = None

    def begin(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        with torch.cuda.stream(self.stream):
            return [tensor.to(self.device, non_blocking=True) for tensor in tensors]

    def wait(self, copies: Sequence[Tensor]) -> None:
        here = torch.cuda.current_stream(self.device)
        here.wait_stream(self.stream)
        for one in copies:
            one.record_stream(here)  # its memory is used again only after what reads it

    def ran(self) -> None:
        before, self.before = self.before, torch.cuda.current_stream(self.device).record_event()
        if before is not None:  # or this thread would fetch layers far ahead of what is computed
            before.synchronize()

    def pin(self, net: nn.Module) -> None:
        for tensor in (*net.parameters(), *net.buffers()):
            if not tensor.is_pinned():
                tensor.data = tensor.data.pin_memory()
