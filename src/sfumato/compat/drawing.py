"""Noise in the order in which diffusers draws it, so that a generator gives the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.models.devices import DTYPES, Choice
from sfumato.models.latents import Latents

Generators = torch.Generator | Sequence[torch.Generator] | None


@dataclass(eq=False)
class Drawn:
    """A Noise: tensors (n, C, h, w), one after the other, from one generator, one a picture, or
    torch's own. full: in float32 whatever the network's type."""

    generator: Any
    shape: tuple[int, ...]
    choice: Choice
    full: bool = False
    kept: dict[int, Tensor] = field(default_factory=dict)

    def next(self) -> Tensor:
        from diffusers.utils.torch_utils import randn_tensor

        device = torch.device(self.choice.device)
        dtype = torch.float32 if self.full else DTYPES[self.choice.dtype]
        drawn: Tensor = randn_tensor(
            self.shape, generator=self.generator, device=device, dtype=dtype
        )
        return drawn.float()

    def draw(self, purpose: str, visit: int, evaluation: int, like: Tensor) -> Tensor:
        """Of a step, once a visit; where runs begin, they bring their noise."""
        if purpose != "step" or evaluation:
            raise SfumatoError(f"noise {purpose!r}: this solver draws it, diffusers' does not")
        if visit not in self.kept:
            self.kept[visit] = self.next()
        return self.kept[visit].to(like)

    def finish(self, steps: int) -> None:
        """Draw what theirs draws after the last step that needs noise."""
        for _ in range(steps - len(self.kept)):
            self.next()


def encoded(space: Any, pixels: Tensor, generator: Any) -> Tensor:
    """States of pictures (B, 3, H, W), drawn from the autoencoder's posterior as theirs are."""
    if not isinstance(space, Latents):
        states: Tensor = space.encode(pixels)
        return states
    generators = generator if isinstance(generator, list) else [generator] * len(pixels)
    rows = [
        replace(space, autoencoder=Sampling(space.autoencoder, one)).encode(row)
        for row, one in zip(torch.split(pixels, 1), generators, strict=False)
    ]
    return torch.cat(rows)


class Sampling:
    """An autoencoder whose posterior is drawn from where its mode is asked for."""

    def __init__(self, autoencoder: Any, generator: torch.Generator | None) -> None:
        self.autoencoder = autoencoder
        self.generator = generator

    def __getattr__(self, name: str) -> Any:
        return getattr(self.autoencoder, name)

    def encode(self, pixels: Tensor) -> Any:
        encoded = self.autoencoder.encode(pixels)
        if not hasattr(encoded, "latent_dist"):
            return encoded
        drawn = encoded.latent_dist.sample(self.generator)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: drawn))


def checked(generator: Any, n: int) -> Any:
    """A generator, a list of one a picture, or None."""
    if generator is None or isinstance(generator, torch.Generator):
        return generator
    if isinstance(generator, list | tuple) and all(
        isinstance(one, torch.Generator) for one in generator
    ):
        if len(generator) != n:
            raise SfumatoError(f"generator: a list of {len(generator)} for {n} pictures")
        return list(generator)
    raise SfumatoError(f"generator = {generator!r:.60}: give a torch.Generator, or a list of them")
