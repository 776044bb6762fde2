"""What memory a run takes at least, and the refusal of one that is beyond what the machine has.

Every figure is a lower bound: tensors that certainly exist at one moment, without gradients and
what the kernels need for themselves, and weights only where they are on a device that has a memory
of its own. So nothing that would fit is refused.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sfumato.core.errors import SfumatoError
from sfumato.core.frame import Frame
from sfumato.core.mixture import Branch
from sfumato.core.process import Process
from sfumato.core.spacing import Times
from sfumato.models import offload
from sfumato.models.cascade import upsamples
from sfumato.models.cost import (
    Stage,
    meta_call,
    meta_copy,
    module,
    networks_in,
    runs_on_meta,
    stages,
    weight_bytes,
)
from sfumato.models.devices import SHARED, capacity
from sfumato.models.latents import Latents
from sfumato.models.tiles import needed_tile
from sfumato.nn.packed import weights

GIB = 1 << 30
FLOAT = 4  # bytes of a value of a state, whatever the network's type
PIXEL = 4  # bytes of a pixel in a PIL image, of RGB too
MAPS = 64  # at once of a network, each as its first: Stable Diffusion's has 26, the bundled one 5
LATENT = 1 << 19  # bytes of a cell in an autoencoder: Stable Diffusion's takes 192 KiB
STATES = 3  # of a step: x, x0 and eps


@dataclass(frozen=True)
class Need:
    """Bytes, what they hold, and whether on the run's device or where pictures are; nets: whose
    weights are on the device besides."""

    size: float
    holder: str
    on_device: bool = True
    nets: tuple[nn.Module, ...] = ()


def check_memory(
    process: Process, frame: Frame | None, shape: tuple[int, ...], times: Times
) -> None:
    """Refuse a resolved process that takes more memory than there is; calls no denoiser."""
    device = str(process.device)
    capacities = {True: capacity(device), False: capacity("cpu")}
    apart = torch.device(device).type not in SHARED
    how = process.source.choice.offload  # type: ignore[union-attr]  # a model's
    rooms = {True: capacities[True] - (weights_there(process, (), how) if apart else 0),
             False: capacities[False]}  # fmt: skip
    demands = [
        (
            need,
            need.size + (weights_there(process, need.nets, how) if need.on_device and apart else 0),
        )
        for need in needs(process, frame, shape, times, rooms[True])
    ]
    beyond = [(need, size) for need, size in demands if size > capacities[need.on_device]]
    if not beyond:
        return
    worst, size = max(beyond, key=lambda pair: pair[1])
    available = capacities[worst.on_device] / GIB
    separate = worst.on_device and apart
    raise SfumatoError(
        f"memory: {worst.holder} would take at least {size / GIB:,.1f} GiB"
        f"{', weights with it' if separate else ''}, "
        f"{device if separate else 'this machine'} has {available:,.1f} GiB; make "
        + ("a smaller picture (size)" if process.n == 1 else
           "fewer pictures at once (n), or smaller ones (size)")
        + (", or take offload layers" if separate and how != "layers" else "")
    )  # fmt: skip


def weights_there(process: Process, nets: Iterable[nn.Module], how: str) -> float:
    """Bytes of weights that are on a device of its own memory while these networks are called; how:
    of devices.OFFLOADS."""
    model: Any = process.source
    if how == "none":
        return weight_bytes(model)
    coders, readers = networks_in(model.space), networks_in(model.text)
    return sum(
        offload.least_bytes(net)
        if net not in coders and offload.goes_by_layers(net, how, net in readers)
        else offload.nbytes(net)
        for net in nets
    )


def least_bytes(
    process: Process, frame: Frame | None, shape: tuple[int, ...], times: Times
) -> float:
    """Bytes that a run's states, networks and pictures take at least, all at one moment."""
    return max((need.size for need in needs(process, frame, shape, times, 0)), default=0)


def needs(
    process: Process, frame: Frame | None, shape: tuple[int, ...], times: Times, enough: float
) -> Iterator[Need]:
    """What a run holds at once, moment by moment; networks are looked at if more than enough."""
    n, stride = process.n, process.space.stride
    networks = stages(process, frame, shape)
    runs = networks if times != (0.0,) else networks[1:] if upsamples(process.start) else []
    for stage in runs:
        rows = stage.at_once
        if stage is networks[0]:
            rows = min(rows, n * branches_at_once(process, times))
        size: float = STATES * n * FLOAT * math.prod(stage.shape)
        if size + rows * MAPS * first_map_bytes(stage) > enough:
            size += peak_bytes(meta_call(stage.denoiser, stage.shape, stage.cond(), rows))
        yield Need(
            size,
            f"a network call of {plural(rows, 'row')} at {pixel_size(stage.shape, stride)}",
            nets=(module(stage.denoiser),),
        )
    last = runs[-1].shape if runs else ()
    pixels = n * 3 * FLOAT * stride**2 * math.prod(last[1:]) if runs else 0
    if runs and isinstance(process.space, Latents):
        space = process.space
        size, share = pixels, space.decoding.itemsize / FLOAT
        tile = needed_tile(last, stride, space.decoding.itemsize, str(process.device))
        decoded = last if tile is None else (last[0], *(min(side, tile) for side in last[1:]))
        if size + share * LATENT * math.prod(decoded[1:]) > enough:
            size += share * peak_bytes(decoder_call(space, decoded))
        yield Need(size, f"decoding {pixel_size(last, stride)}", nets=(space.autoencoder,))
    if frame is not None:
        on_device = torch.device(process.device).type in SHARED
        size = n * PIXEL * math.prod(frame.target) + (pixels if on_device else 0)
        width, height = frame.target
        yield Need(size, f"{plural(n, 'picture')} of {width}x{height}", on_device)


def branches_at_once(process: Process, times: Times) -> int:
    """How many branches share a call at some time: of one network, with prompts of one model.

    Conditions that a caller gave may have any shape, and count as apart.
    """
    positives = process.positives or (Branch("positive"),)

    def alike(branches: Iterable[Branch], idle: float, t: float) -> int:
        textual = (b for b in branches if b.denoiser is None and not callable(b.cond))
        return sum(b.at(t) != idle for b in textual if b.cond is None or isinstance(b.cond, str))

    if process.cond is not None:
        return 1
    return max(alike(positives, 0.0, t) + alike(process.aways, 1.0, t) for t in times)


def first_map_bytes(stage: Stage) -> int:
    """Bytes of what a network's first convolution makes of a row, in float32."""
    held = weights(module(stage.denoiser))
    width = next((len(weight) for weight in held if weight.ndim == 4), 1)
    return FLOAT * width * math.prod(stage.shape[1:])


def decoder_call(space: Latents, shape: tuple[int, ...]) -> Callable[[], Any]:
    """An autoencoder's decoder on one picture, with shapes alone."""
    frame = (1,) if space.of_video else ()
    sides = (side * space.patch for side in shape[1:])
    state = torch.empty((1, shape[0] // space.patch**2, *frame, *sides), device="meta")
    on_meta: Any = meta_copy(space.autoencoder)
    return partial(on_meta.decoder, state)


def peak_bytes(call: Callable[[], Any]) -> int:
    """Bytes of the tensors that it makes, when most of them exist; 0 where it needs values."""
    alive = Alive()
    with alive, Fused():
        walked = runs_on_meta(call)
    return alive.peak if walked else 0


class Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's are
    """Counts the bytes of tensors that operations made and that still exist."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.current = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        inputs = {store._cdata for store in storages((args, kwargs))}
        for store in storages(outputs):
            if store._cdata not in inputs:  # else a view, or done in place
                self.current += store.nbytes()
                self.peak = max(self.peak, self.current)
                weakref.finalize(store, self.release, store.nbytes())
        return outputs

    def release(self, size: int) -> None:
        self.current -= size


def storages(tree: Any) -> list[torch.UntypedStorage]:
    """Of all tensors in it."""
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class Fused(TorchFunctionMode):
    """Attention without its matrix of all pairs, which fused kernels never hold."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.scaled_dot_product_attention:
            arguments = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
            query, value = arguments["query"], arguments["value"]
            return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return func(*args, **kwargs)


def plural(n: int, noun: str) -> str:
    """So many of them, in words."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def pixel_size(shape: tuple[int, ...], stride: int) -> str:
    """Width and height in pixels."""
    return f"{shape[2] * stride}x{shape[1] * stride}"
