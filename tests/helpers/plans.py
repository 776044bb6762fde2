"""Processes of toy networks whose calls are counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.guides import Guide
from sfumato.core.process import Process
from sfumato.core.schedule import Cosine, named

PIXELS = torch.linspace(-1, 1, 3 * 8 * 8).view(3, 8, 8)


SCHEDULES = {"cosine": named("cosine"), "linear": named("linear"), "no signal": Cosine()}


MASK = (torch.arange(64).view(1, 8, 8) % 3 > 0).float()


class Counting:
    """A smooth network that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], /) -> Tensor:
        self.calls += 1
        return 0.5 * torch.tanh(x)


def process(schedule: Any, **values: Any) -> Process:
    fields: dict[str, Any] = {"n_steps": 7, "solver": "ddim", "cond": Cond(), "null": Cond()}
    return Process(Denoiser(Counting(), schedule, "v"), (3, 8, 8), **{**fields, **values})


class Window(Guide):
    """Moves the state, and so ends a history, in a window of times."""

    name = "window"

    def active(self, call: Any) -> bool:
        return 0.3 <= call.s <= 0.6

    def arrive(self, x: Tensor, t: float, call: Any) -> Tensor:
        return 0.9 * x
