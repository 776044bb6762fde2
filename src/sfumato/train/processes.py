"""The processes that train together, each its share of a batch, on one device each."""

from __future__ import annotations

import os

from torch import Tensor, distributed

from sfumato.core.errors import SfumatoError
from sfumato.train.optim import Weights


class Processes:
    """The processes that share a batch; one by default."""

    def __init__(self, device: str) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.size > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")

    def share(self, n: int) -> slice:
        """This process's rows of a batch of n."""
        if n % self.size:
            raise SfumatoError(f"optim.batch {n}: must be a multiple of the {self.size} processes")
        rows = n // self.size
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def average(self, weights: Weights) -> None:
        """Mean of the gradients over the processes."""
        if self.size == 1:
            return
        grads = [p.grad for p in weights.parameters.values() if p.grad is not None]
        for grad in grads:
            distributed.all_reduce(grad)
            grad /= self.size

    def mean(self, value: Tensor) -> float:
        """Mean of a number over the processes."""
        value = value.detach().clone()
        if self.size > 1:
            distributed.all_reduce(value)
        return float(value) / self.size
