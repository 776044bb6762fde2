"""What a run will cost: the operations of its network calls, and how long this machine takes.

Nothing is computed for it: networks are walked through with tensors that have shapes alone.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sfumato.core.denoiser import Cond, Denoiser, traits
from sfumato.core.frame import Frame
from sfumato.core.plan import asked
from sfumato.core.process import Process
from sfumato.core.reuse import ASK_ALL
from sfumato.methods.common.handed_over import HandedOver
from sfumato.models.cascade import Cascade, base_of, max_rows
from sfumato.models.devices import DTYPES, Choice
from sfumato.models.offload import at_home, bytes_of
from sfumato.nn.packed import Held, weights

MODULE_SECONDS = 2e-5  # seconds that starting a module takes
SLOWDOWN = 2.5  # a network against the convolution that is timed


@dataclass(frozen=True)
class Stage:
    """A network of a run and what it reads: shape of a state, its rows, a row's condition.

    at_once: most rows in one call.
    """

    denoiser: Denoiser
    shape: tuple[int, ...]
    rows: int
    at_once: int
    cond: Callable[[], Cond]


def stages(process: Process, frame: Frame | None, shape: tuple[int, ...]) -> list[Stage]:
    """The base of a resolved process, and the upsamplers that its result needs."""
    model: Any = process.source
    rows = process.n * (max(1, len(process.positives)) + len(process.aways))
    coupled = any(getattr(tap, "couples", False) for tap in process.taps)
    at_once = rows if coupled else min(rows, process.rows_max or rows)
    networks = [Stage(process.denoiser, shape, rows, at_once, lambda: cond_of(process))]
    for k, stage in enumerate(model.card.upsamplers[: process.stages - 1]):
        if frame is not None and frame.reaches(model.card.factor(k + 1)):
            break
        low, denoiser = networks[-1].shape, model.upsamplers[k]
        high = (low[0], low[1] * stage.factor, low[2] * stage.factor)
        at_once = min(process.n, max_rows(None, high, process.device) or process.n)
        cond = partial(_upsampler_cond, process, denoiser, low)
        networks.append(Stage(denoiser, high, process.n, at_once, cond))
    return networks


def seconds(process: Process | Cascade, choice: Choice) -> float | None:
    """How long the network calls of a run will take about; None where that cannot be told."""
    speed = throughput(choice)
    resolved = base_of(process).resolved()
    calls = process.calls if isinstance(process, Cascade) else [process.calls]
    total = 0.0
    for count, stage in zip(calls, stages(resolved, *resolved.frame(resolved.place)),
                            strict=False):  # fmt: skip
        if not count:
            continue
        flops = operations(stage.denoiser, stage.shape, stage.cond(), stage.rows)
        if flops is None:
            return None
        modules = len(list(module(stage.denoiser).modules()))
        share = (work(resolved) or 1.0) if stage.denoiser is resolved.denoiser else 1.0
        total += share * count * (flops * SLOWDOWN / speed + modules * MODULE_SECONDS)
    return total


def work(process: Process) -> float | None:
    """The share of its base's operations that a resolved process does not leave out; None where
    that cannot be told."""
    if not process.reuse.acts:
        return 1.0
    every = Counter(asked(replace(process, reuse=ASK_ALL).plan()))
    left = Counter(asked(process.plan()))
    base = stages(process, *process.frame(process.place))[0]
    costs = {}
    for call in every | left:
        flops = operations(base.denoiser, base.shape, base.cond(), call.rows, call.shallow)
        if flops is None:
            return None
        costs[call] = flops
    whole = sum(costs[call] * n for call, n in every.items())
    return sum(costs[call] * n for call, n in left.items()) / whole if whole else 1.0


def shares(process: Process | Cascade) -> list[float]:
    """What a call of each stage takes beside the others', by weights and pixels; at once."""
    if not isinstance(process, Cascade):
        return [1.0]
    resolved = process.base.resolved()
    _, shape = resolved.frame(resolved.place)
    side, branches = shape[-1], max(1, len(resolved.positives)) + len(resolved.aways)
    costs = [branches * parameter_count(process.base.denoiser) * side**2]
    for upsampler in process.upsamplers:
        side *= resolved.source.card.upsamplers[upsampler.stage - 1].factor  # type: ignore[union-attr]
        costs.append(parameter_count(upsampler.denoiser) * side**2)
    return [cost / max(*costs, 1) for cost in costs]


def operations(
    denoiser: Denoiser, shape: tuple[int, ...], cond: Cond, rows: int, shallow: bool = False
) -> int | None:
    """Of one call of `rows` pictures; None of a network that needs values to be walked through.

    shallow: it is given its deep maps.
    """
    call = meta_call(denoiser, shape, cond, rows)
    if shallow:
        network: Any = call.func
        deep: list[Any] = []
        reusing = partial(network.reusing, *call.args)
        if not runs_on_meta(lambda: deep.append(reusing(None)[1])):
            return None
        call = partial(reusing, *deep)
    with FlopCounterMode(display=False) as counter:
        walked = runs_on_meta(call)
    total: int = counter.get_total_flops()
    return total if walked else None


def meta_call(denoiser: Denoiser, shape: tuple[int, ...], cond: Cond, rows: int) -> partial[Any]:
    """One call of a network of `rows` pictures, with shapes alone."""
    network, net = of_base(denoiser), module(denoiser)
    x, times = (torch.empty(size, device="meta") for size in ((rows, *shape), (rows,)))
    inputs = {**cond.map(lambda v: v.to("meta")).rows(rows)}
    if traits(network).inpaint:
        inputs |= {"inpaint_mask": x[:, :1], "inpaint_image": x}
    on_meta = meta_copy(net) if network is net else replace(network, net=meta_copy(net))
    return partial(on_meta, x, times, inputs)


def runs_on_meta(call: Callable[[], Any]) -> bool:
    """Do it with shapes alone; False where it needs values."""
    try:
        with torch.no_grad():
            call()
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError):
        return False
    return True


def meta_copy(net: nn.Module) -> nn.Module:
    """A copy whose weights have shapes alone; the network itself may be at work meanwhile."""
    memo: dict[int, Any] = {}
    with at_home(net):
        for value in (*weights(net), *net.buffers()):
            if isinstance(value, Held):
                memo[id(value)] = value.on_meta()
                continue
            empty = empty_like(value)
            trainable = isinstance(value, nn.Parameter)
            memo[id(value)] = nn.Parameter(empty, value.requires_grad) if trainable else empty
        return copy.deepcopy(net, memo)


def empty_like(value: Any) -> Tensor:
    """The shape of a weight alone; of GGUF's that of what is put together of it."""
    if hasattr(value, "quant_shape"):
        return torch.empty(value.quant_shape, device="meta")
    size, strides = value.shape, value.stride()
    return torch.empty_strided(size, strides, dtype=value.dtype, device="meta")


def module(denoiser: Denoiser) -> nn.Module:
    """The network itself, within what adapts it."""
    network = of_base(denoiser)
    net: nn.Module = network if isinstance(network, nn.Module) else network.net
    return net


def of_base(denoiser: Denoiser) -> Any:
    """Its network; of two that take turns the first, as which the second counts."""
    network: Any = denoiser.network
    return network.first if isinstance(network, HandedOver) else network


def parameter_count(denoiser: Denoiser) -> int:
    """How many weights a network has."""
    return sum(weight.numel() for weight in weights(module(denoiser)))


def weight_bytes(value: object) -> int:
    """Bytes of all weights within a model or a part of it, each once."""
    sizes: dict[int, int] = {}
    for net in networks_in(value):
        with at_home(net):
            sizes |= {id(one): bytes_of(one) for one in (*weights(net), *net.buffers())}
    return sum(sizes.values())


def networks_in(value: object) -> list[nn.Module]:
    """The networks of a model or of a part of it, each once; not those of `plain`, the model
    without adapters."""
    networks: dict[int, nn.Module] = {}
    waiting: list[Any] = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, nn.Module):
            networks[id(one)] = one
        elif isinstance(one, tuple):
            waiting += one
        elif is_dataclass(one):
            waiting += [getattr(one, f.name) for f in fields(one) if f.name != "plain"]
    return list(networks.values())


def cond_of(process: Process) -> Cond:
    """One row of what a base reads."""
    return process.condition(None, False)


def throughput(choice: Choice) -> float:
    """Operations in a second, by a convolution such as networks have."""
    wide, side, rows = (128, 32, 4) if choice.device == "cpu" else (512, 64, 8)
    kind: dict[str, Any] = {"device": choice.device, "dtype": DTYPES[choice.dtype]}
    x = torch.zeros((rows, wide, side, side), **kind).to(memory_format=torch.channels_last)
    weight = torch.zeros((wide, wide, 3, 3), **kind)
    durations = []
    for _ in range(5):
        began = time.perf_counter()
        with torch.no_grad():
            output = torch.nn.functional.conv2d(x, weight, padding=1)
        output[0, 0, 0, 0].item()  # waits for the device
        durations.append(time.perf_counter() - began)
    return 2 * 9 * wide * wide * side * side * rows / median(durations)


def _upsampler_cond(process: Process, denoiser: Denoiser, low: tuple[int, ...]) -> Cond:
    """One row of what an upsampler reads: the stage before, and of some the text."""
    text = cond_of(process) if traits(denoiser.network).xf_width else {}
    return Cond({**text, "low_res": torch.empty((1, *low), device="meta")})
