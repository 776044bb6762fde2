"""Where random numbers come from: keyed draws, or a tape of given ones. No generator has state.

A key is (the picture's seed, stage, purpose, visit, evaluation), so a picture's noise does not
depend on its batch, on the device or on what else was drawn; two callers of one key get the same
tensor. Drawn on the CPU in float32, then cast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class Noise(Protocol):
    """Standard normal tensors by key, shaped like `like` (B, ...)."""

    def draw(self, purpose: str, visit: int, evaluation: int, like: Tensor) -> Tensor: ...


def keyed(key: str) -> int:
    """A 63-bit seed for a generator, from a text that says what it is for."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class Seeded:
    """Picture j of the batch is drawn with seed + j; attempt: of a run that was begun anew."""

    seed: int = 0
    stage: int = 0
    attempt: int = 0

    def draw(self, purpose: str, visit: int, evaluation: int, like: Tensor) -> Tensor:
        rows = [
            torch.randn(
                like.shape[1:],
                generator=self._generator(j, f"{purpose}/{visit}/{evaluation}"),
                dtype=torch.float32,
            )
            for j in range(len(like))
        ]
        return torch.stack(rows).to(like.device, like.dtype)

    def again(self, attempt: int) -> Seeded:
        """For another attempt."""
        return replace(self, attempt=attempt)

    def _generator(self, j: int, key: str) -> torch.Generator:
        last = f"/{self.attempt}" if self.attempt else ""
        return torch.Generator().manual_seed(keyed(f"{self.seed + j}/{self.stage}/{key}{last}"))


@dataclass(frozen=True, eq=False)
class Shared:
    """Every picture of the batch is drawn as the first one."""

    noise: Noise

    def draw(self, purpose: str, visit: int, evaluation: int, like: Tensor) -> Tensor:
        return self.noise.draw(purpose, visit, evaluation, like[:1]).expand_as(like)

    def again(self, attempt: int) -> Noise | None:
        fresh = fresh_of(self.noise, attempt)
        return None if fresh is None else Shared(fresh)


def fresh_of(noise: Noise, attempt: int) -> Noise | None:
    """The same source for another attempt of the run; None of one that has nothing else."""
    again = getattr(noise, "again", None)
    fresh: Noise | None = None if again is None else again(attempt)
    return fresh


@dataclass(frozen=True, eq=False)
class Tape:
    """Recorded noise by (purpose, visit), for replaying the runs of other programs."""

    tensors: Mapping[tuple[str, int], Tensor]

    def draw(self, purpose: str, visit: int, evaluation: int, like: Tensor) -> Tensor:
        if (purpose, visit) not in self.tensors or evaluation:
            raise SfumatoError(f"tape: no noise for {purpose!r} at visit {visit}, {evaluation=}")
        return self.tensors[purpose, visit].to(like.device, like.dtype).expand_as(like)
