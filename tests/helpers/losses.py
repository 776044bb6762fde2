"""A toy model that lends what losses ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import sfumato as sf
from conformance.sdedit import gaussian
from sfumato.core.schedule import linear
from sfumato.models.features import Features
from sfumato.models.rating import Head

TABLE = linear()


CONTENT = torch.linspace(-1, 1, 3 * 16 * 16).reshape(3, 16, 16).sin()


class Clip:
    """Random linear vectors of 8 px pictures and of texts; counts its looks."""

    size = 8
    origin = None
    noised = False
    schedule = None

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.matrix = torch.randn(3 * 8 * 8, 5, generator=generator)
        self.looks = 0

    def text(self, texts: list[str]) -> Tensor:
        rows = [torch.Generator().manual_seed(len(text)) for text in texts]
        return F.normalize(torch.stack([torch.randn(5, generator=row) for row in rows]), dim=1)

    def image(self, x: Tensor, index: Tensor) -> Tensor:
        self.looks += 1
        return F.normalize(x.flatten(1) @ self.matrix.to(x), dim=1)


class Source:
    """What losses ask of a model, in small."""

    plain = None
    name = "toy"
    multiple = 1

    def __init__(self) -> None:
        self.own_clip = Clip()
        generator = torch.Generator().manual_seed(2)
        kernel = torch.randn(6, 3, 3, 3, generator=generator)

        def walk(pixels: Tensor) -> Iterator[tuple[str, Tensor]]:
            first = F.conv2d(pixels, kernel.to(pixels), stride=2, padding=1).tanh()
            yield "fine", first
            yield "coarse", F.avg_pool2d(first, 2)

        self.own_features = Features("toy", walk, ("coarse",), ("fine", "coarse"))
        self.head = Head(torch.randn(5, generator=generator), torch.zeros(()), 1.0)
        self.asked: list[str] = []

    def clip(self, name: str | None = None) -> Any:
        self.asked.append("clip")
        return self.own_clip

    def features(self, name: str | None = None) -> Any:
        self.asked.append("features")
        return self.own_features

    def rating(self, name: str | None = None) -> Any:
        self.asked.append("rating")
        return name and self.head

    def complete(self, process: sf.Process) -> sf.Process:
        return process

    def fits(self, *args: Any) -> None: ...

    def preview(self, step: Any, run: Any) -> None: ...


class Backward(torch.autograd.Function):
    """The identity; counts how often it is differentiated, and notes whether it could be."""

    count = 0
    tracked = False

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        Backward.count += 1
        return grad


EXACT = gaussian(TABLE, 0.25)


def network(x: Tensor, time: Tensor, cond: Any) -> Tensor:
    Backward.tracked |= x.requires_grad and torch.is_grad_enabled()
    return EXACT.network(Backward.apply(x), time, cond) + 0.02 * x.tanh()


DENOISER = replace(EXACT, network=network)


def process(**values: Any) -> sf.Process:
    defaults = {
        "n_steps": 4,
        "solver": "ddim",
        "source": Source(),
        "cond": sf.Cond(),
        "prompt": "cat",
    }
    return sf.Process(DENOISER, (3, 16, 16), **{**defaults, **values}) | sf.SDEdit(CONTENT, t0=0.6)


def last(composed: sf.Process, seed: int = 0) -> sf.Step:
    with torch.no_grad():
        *_, step = composed.steps(seed=seed)
    return step
