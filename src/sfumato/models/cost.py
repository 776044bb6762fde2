"""What a run will cost: the operations of its network calls, and how long this machine takes.

Nothing is computed for it: networks are walked through with tensors that have shapes alone.
"""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.process import Process
from sfumato.models.cascade import Cascade
from sfumato.models.devices import DTYPES, Choice

HELD_UP = 2e-5  # seconds that starting a module takes
SLOWER = 2.5  # a network against the convolution that is timed


def seconds(process: Process | Cascade, choice: Choice) -> float | None:
    """How long the network calls of a run will take about; None where that cannot be told."""
    speed = throughput(choice)
    base = process.base if isinstance(process, Cascade) else process
    resolved = base.resolved()
    frame, shape = resolved.frame(resolved.place)
    rows = resolved.n * (max(1, len(resolved.positives)) + len(resolved.aways))
    calls = process.calls if isinstance(process, Cascade) else [process.calls]
    stages = [(base.denoiser, shape, cond_of(resolved, None), rows)]
    if isinstance(process, Cascade):
        low = shape
        for upsampler in process.needed(frame):
            factor = resolved.source.card.upsamplers[upsampler.stage - 1].factor  # type: ignore[union-attr]
            high = (low[0], low[1] * factor, low[2] * factor)
            given = cond_of(resolved, low) if _reads(upsampler.denoiser) else _low(low)
            stages.append((upsampler.denoiser, high, given, resolved.n))
            low = high
    total = 0.0
    for count, (denoiser, size, cond, several) in zip(calls, stages, strict=False):
        if not count:
            continue
        done = operations(denoiser, size, cond, several)
        if done is None:
            return None
        modules = len(list(module(denoiser).modules()))
        total += count * (done * SLOWER / speed + modules * HELD_UP)
    return total


def shares(process: Process | Cascade) -> list[float]:
    """What a call of each stage takes beside the others', by weights and pixels; at once."""
    if not isinstance(process, Cascade):
        return [1.0]
    resolved = process.base.resolved()
    _, shape = resolved.frame(resolved.place)
    side, several = shape[-1], max(1, len(resolved.positives)) + len(resolved.aways)
    made = [several * parameters(process.base.denoiser) * side**2]
    for upsampler in process.upsamplers:
        side *= resolved.source.card.upsamplers[upsampler.stage - 1].factor  # type: ignore[union-attr]
        made.append(parameters(upsampler.denoiser) * side**2)
    return [one / max(*made, 1) for one in made]


def operations(denoiser: Denoiser, shape: tuple[int, ...], cond: Cond, rows: int) -> int | None:
    """Of one call of `rows` pictures; None of a network that needs values to be walked through."""
    network: Any = denoiser.network
    walked = Shapes(module(denoiser))
    x, at = (torch.empty(size, device="meta") for size in ((rows, *shape), (rows,)))
    given = {**cond.map(lambda v: v.to("meta")).rows(rows)}
    if getattr(network.config, "inpaint", False):
        given |= {"inpaint_mask": x[:, :1], "inpaint_image": x}
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            (walked if network is walked.net else replace(network, net=walked))(x, at, given)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError):
        return None
    total: int = counter.get_total_flops()
    return total


class Shapes:
    """A network whose weights have shapes alone; what else is asked of it, it says itself."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        weights = (*net.named_parameters(), *net.named_buffers())
        self.weights = {name: value.to("meta") for name, value in weights}

    def __call__(self, *args: Any, **given: Any) -> Any:
        return torch.func.functional_call(self.net, self.weights, args, given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.net, name)


def module(denoiser: Denoiser) -> nn.Module:
    """The network itself, within what adapts it."""
    network: Any = denoiser.network
    found: nn.Module = network if isinstance(network, nn.Module) else network.net
    return found


def parameters(denoiser: Denoiser) -> int:
    """How many weights a network has."""
    return sum(weight.numel() for weight in module(denoiser).parameters())


def cond_of(process: Process, low: tuple[int, ...] | None) -> Cond:
    """One row of what a stage reads."""
    made = process.condition(None, False)
    return made if low is None else Cond({**made, **_low(low)})


def throughput(choice: Choice) -> float:
    """Operations in a second, by a convolution such as networks have."""
    wide, side, rows = (128, 32, 4) if choice.device == "cpu" else (512, 64, 8)
    kind: dict[str, Any] = {"device": choice.device, "dtype": DTYPES[choice.dtype]}
    x = torch.zeros((rows, wide, side, side), **kind).to(memory_format=torch.channels_last)
    weight = torch.zeros((wide, wide, 3, 3), **kind)
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        with torch.no_grad():
            made = torch.nn.functional.conv2d(x, weight, padding=1)
        made[0, 0, 0, 0].item()  # waits for the device
        taken.append(time.perf_counter() - began)
    return 2 * 9 * wide * wide * side * side * rows / median(taken)


def _low(shape: tuple[int, ...]) -> Cond:
    return Cond({"low_res": torch.empty((1, *shape), device="meta")})


def _reads(denoiser: Denoiser) -> bool:
    return bool(denoiser.network.config.xf_width)  # type: ignore[attr-defined]
