"""What turns gradients into weights: float32 masters, optimiser, rate schedule, moving average."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.core.errors import SfumatoError
from sfumato.train.config import OptimPart
from sfumato.train.muon import Muon, matrix


def rate(optim: OptimPart, step: int) -> float:
    """Learning rate of step (from 0): a function of the step alone."""
    warm = min(1.0, (step + 1) / max(optim.warmup, 1))
    begin = optim.decay_from * optim.steps
    if step < begin:
        return optim.rate * warm
    done = (step - begin) / max(optim.steps - begin, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return optim.rate * warm * (optim.floor + (1 - optim.floor) * cosine)


def optimizer(optim: OptimPart, masters: Mapping[str, Tensor]) -> torch.optim.Optimizer:
    """AdamW, the one of bitsandbytes that keeps its two moments in 8 bits, or Muon beside AdamW."""
    beta1, beta2 = optim.betas
    if optim.optimizer == "muon":
        return Muon(masters, optim.rate, (beta1, beta2), optim.weight_decay)
    options: Any = {"lr": optim.rate, "betas": (beta1, beta2), "weight_decay": optim.weight_decay}
    if optim.optimizer == "adamw":
        return torch.optim.AdamW(masters.values(), **options, fused=True)
    try:
        eight: Any = importlib.import_module("bitsandbytes.optim")
    except ImportError:
        raise SfumatoError(
            "optim.optimizer adamw-8bit: needs bitsandbytes; pip install bitsandbytes, or adamw"
        ) from None
    adam: torch.optim.Optimizer = eight.AdamW8bit(list(masters.values()), **options)
    return adam


def _like(value: Tensor, master: Tensor) -> Any:
    """A saved part of an optimiser's state where and how the optimiser keeps it."""
    if value.ndim == 0:  # a count: of torch a float tensor, of bitsandbytes a number
        return value.to(master.device) if value.is_floating_point() else int(value)
    if value.shape != master.shape:
        return value.to(master.device)
    # the fused update walks memory, so layouts must be the weight's own
    return torch.empty_like(master, dtype=value.dtype).copy_(value)


FULL, EIGHT = ("exp_avg", "exp_avg_sq"), ("state1", "state2")
TABLES = ("qmap1", "qmap2", "absmax1", "absmax2")
KEPT = {
    "adamw": ({"step", *FULL},),
    "adamw-8bit": ({"step", *EIGHT}, {"step", *EIGHT, *TABLES}),
    "muon": ({"momentum_buffer"}, {"step", *FULL}),
}
"""What each optimiser keeps of a weight, one of these."""


def _shapes(key: str, master: Tensor) -> list[tuple[int, ...]]:
    """The shapes that a part of a checkpoint may have."""
    if key in ("weight", "average", *FULL, *EIGHT):
        return [tuple(master.shape)]
    if key.startswith("absmax"):  # one for each block; block sizes of different versions
        return [(-(-master.numel() // block),) for block in (256, 2048)]
    if key == "momentum_buffer":
        return [tuple(matrix(master.detach()).shape)]
    return [(256,)] if key.startswith("qmap") else [()]


def _not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The first tensor with a value that is not finite, or ""."""
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            return name
    return ""


class Weights:
    """Trained parameters by name, their masters, optimiser state and moving average.

    A parameter in half precision has a float32 master; a float32 one is its own.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], optim: OptimPart) -> None:
        if not parameters:
            raise SfumatoError("training: nothing to train; no parameter is marked for it")
        self.optim = optim
        self.parameters = dict(parameters)
        self.masters = {
            name: p if p.dtype == torch.float32 else p.detach().float().requires_grad_()
            for name, p in self.parameters.items()
        }
        self.average = {name: m.detach().clone() for name, m in self.masters.items()}
        self.adam = optimizer(optim, self.masters)

    def gather(self) -> Tensor:
        """Move gradients to the masters; their norm."""
        for name, p in self.parameters.items():
            master = self.masters[name]
            if master is not p:
                master.grad = None if p.grad is None else p.grad.float()
                p.grad = None
        grads = [m.grad for m in self.masters.values() if m.grad is not None]
        return torch.nn.utils.get_total_norm(grads)

    def step(self, step: int, norm: Tensor) -> None:
        """Clip, update the masters and the average, cast into the network."""
        for group in self.adam.param_groups:
            group["lr"] = rate(self.optim, step)
        torch.nn.utils.clip_grads_with_norm_(self.masters.values(), self.optim.clip, norm)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        decay = min(self.optim.ema, (1 + step) / (10 + step))
        averages, masters = list(self.average.values()), list(self.masters.values())
        with torch.no_grad():
            torch._foreach_lerp_(averages, masters, 1 - decay)
        self.cast(self.masters)

    def drop(self) -> None:
        """Forget the gradients."""
        for p in (*self.parameters.values(), *self.masters.values()):
            p.grad = None

    def cast(self, values: Mapping[str, Tensor]) -> None:
        """Put values into the network, in its own number format."""
        names = [name for name, p in self.parameters.items() if values[name] is not p]
        if not names:  # all parameters are their own masters
            return
        with torch.no_grad():
            torch._foreach_copy_(
                [self.parameters[name] for name in names], [values[name] for name in names]
            )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The network with the averaged weights, for pictures and measures."""
        held = {name: m.detach().clone() for name, m in self.masters.items()}
        self.cast(self.average)
        try:
            yield
        finally:
            self.cast(held)

    def _check(self, tensors: Mapping[str, Tensor]) -> None:
        """Names and shapes of weights and averages, and of those moments that there are."""
        advice = "take the recipe that it was made with, or another output folder"
        wanted = {f"{part}/{name}" for part in ("weight", "average") for name in self.masters}
        present = {name for name in tensors if not name.startswith("adam.")}
        if wanted != present:
            odd = sorted(wanted ^ present)
            raise SfumatoError(
                f"checkpoint: {len(odd)} weights differ from the recipe's ({odd[0]}); {advice}"
            )
        moments: dict[str, set[str]] = {}
        for full, value in tensors.items():
            part, _, name = full.partition("/")
            key = part.removeprefix("adam.")
            if key != part:
                moments.setdefault(name, set()).add(key)
            if name not in self.masters:
                raise SfumatoError(f"checkpoint: {full} belongs to no weight; {advice}")
            shapes = _shapes(key, self.masters[name])
            if tuple(value.shape) not in shapes:
                raise SfumatoError(
                    f"checkpoint: {full} is {tuple(value.shape)}, this recipe's is "
                    f"{shapes[0]}; {advice}"
                )
            eight = key in EIGHT and value.dtype == torch.uint8
            if not (value.is_floating_point() or eight or key == "step"):
                raise SfumatoError(f"checkpoint: {full} holds {value.dtype}; {advice}")
        for name, keys in moments.items():
            if keys not in KEPT[self.optim.optimizer]:
                raise SfumatoError(
                    f"checkpoint: moments of {name} are not those of {self.optim.optimizer}; "
                    f"{advice}"
                )

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, by name."""
        state: dict[str, Tensor] = {}
        for name, master in self.masters.items():
            state[f"weight/{name}"] = master
            state[f"average/{name}"] = self.average[name]
            for key, value in self.adam.state.get(master, {}).items():
                value = torch.as_tensor(value)
                own = value.shape == master.shape  # bitsandbytes' tables belong to all weights
                state[f"adam.{key}/{name}"] = value if own else value.clone()
        return state

    def unhealthy(self) -> str:
        """The first weight, average or moment with a value that is not finite, or ""."""
        return _not_finite(self.state())

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take a saved state over: every name must be there, in its shape and finite."""
        self._check(tensors)
        if name := _not_finite(tensors):
            raise SfumatoError(
                f"checkpoint: {name} holds values that are not finite, so nothing can go on from "
                "it; begin anew in another folder"
            )
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(tensors[f"weight/{name}"])
                self.average[name].copy_(tensors[f"average/{name}"])
            moments: dict[str, dict[str, Tensor]] = {}
            for full, value in tensors.items():
                key, _, name = full.removeprefix("adam.").partition("/")
                if full.startswith("adam."):
                    moments.setdefault(name, {})[key] = value
            for name, kept in moments.items():
                master = self.masters[name]
                self.adam.state[master] = {k: _like(v, master) for k, v in kept.items()}
        self.cast(self.masters)
