"""Counts a run's floating-point operations, backward passes and packed convolutions included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def _convolution(x: Any, weight: Any, *args: Any, out_shape: Any = None, **options: Any) -> int:
    """2 operations for each input channel and kernel place of every output value."""
    batch, _, height, width = out_shape
    channels_out, channels, kernel_y, kernel_x = weight
    return int(2 * batch * height * width * channels_out * channels * kernel_y * kernel_x)


class _Everywhere:
    """Stands for the counter's tracker of modules, whose hooks do not go with autograd.grad."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *args: object) -> None: ...


def counted(body: Callable[[], object]) -> float:
    """Operations of one run of `body`."""
    mapping: dict[Any, Any] = {}
    if hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        mapping[torch.ops.mkldnn._convolution_pointwise] = _convolution
    counter: Any = FlopCounterMode(display=False, custom_mapping=mapping)
    counter.mod_tracker = _Everywhere()
    with counter:
        body()
    return float(counter.get_total_flops())
