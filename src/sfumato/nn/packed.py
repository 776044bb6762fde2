"""Linear layers and convolutions whose frozen weights lie in oneDNN's own layout, on the CPU.

Otherwise oneDNN brings a weight into its layout at every call, and float32 products go to a library
that is slower on some processors. A weight is dense or packed, never both: calls without gradients
pack it, whoever reads `weight` finds it dense again. Which kernel runs depends on the call alone,
so no bit depends on the calls before it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.nn.blocks import onednn
from sfumato.nn.pages import let_go

KERNELS = ((1, 1), (3, 3))


class Held:
    """A frozen weight, dense or packed for inputs of one kind. Layers may share it.

    It says its sizes as a tensor does, so that weights can be counted.
    """

    def __init__(self, weight: Tensor) -> None:
        if not isinstance(weight, nn.Parameter):
            weight = nn.Parameter(weight, requires_grad=False)
        self._now: tuple[Hashable, Tensor] = (None, weight)  # both at once, for other threads

    def dense(self) -> nn.Parameter:
        """The weight itself: what is changed in it before the next call is what that call reads."""
        kind, weight = self._now
        if kind is not None:
            with torch.inference_mode(False), torch.no_grad():
                weight = nn.Parameter(weight.to_dense(), requires_grad=False)
            self._now = (None, weight)
        assert isinstance(weight, nn.Parameter)
        return weight

    def packed(self, kind: Hashable, pack: Callable[[Tensor], Tensor]) -> Tensor:
        """In the layout that `pack` makes for inputs of this kind."""
        now, weight = self._now
        if now != kind:
            with torch.inference_mode(False), torch.no_grad():
                dense = weight if now is None else weight.to_dense()
                weight = pack(dense)
            self._now = (kind, weight)
            let_go(dense)
        return weight

    def packs(self, x: Tensor) -> bool:
        """Whether it is frozen, and a product with x is one for oneDNN."""
        _, weight = self._now
        return x.is_cpu and weight.is_cpu and not weight.requires_grad and x.dtype == weight.dtype

    @property
    def ndim(self) -> int:
        return self._now[1].ndim

    @property
    def nbytes(self) -> int:
        return self._now[1].nbytes

    def numel(self) -> int:
        return self._now[1].numel()

    def __len__(self) -> int:
        return len(self._now[1])

    def on_meta(self) -> Held:
        """One that has sizes alone; this one may be at work meanwhile."""
        _, weight = self._now
        return Held(torch.empty(weight.shape, dtype=weight.dtype, device="meta"))

    def __reduce__(self) -> tuple[Any, ...]:  # packed tensors can neither be copied nor pickled
        return Held, (self.dense(),)


class Packed(nn.Module):
    """A layer that holds its weight; it is no parameter."""

    held: Held

    @property
    def weight(self) -> nn.Parameter:
        """Dense. Read it anew after each call: it is the layer's until then."""
        return self.held.dense()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight" and name not in self._parameters:
            self.held = Held(value)
        else:
            super().__setattr__(name, value)

    def packs(self, x: Tensor) -> bool:
        """No gradient through it, and of a type that oneDNN takes."""
        bias: Any = self.bias
        gradient = torch.is_grad_enabled() and (
            x.requires_grad or (bias is not None and bias.requires_grad)
        )
        return (
            self.held.packs(x) and not gradient and x.numel() > 0 and onednn(x.dtype)
            and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()
        )  # fmt: skip

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        with as_parameter(self):
            super()._save_to_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        with as_parameter(self):
            super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:  # to another type or device
        with as_parameter(self):
            return super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]


class PackedLinear(Packed, nn.Linear):  # type: ignore[misc]  # a parameter there
    """A linear layer; one row goes as two, since oneDNN adds up a single one in another order."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.packs(x):
            return super().forward(x)
        weight = self.held.packed("rows", torch.ops.mkldnn._reorder_linear_weight)
        alone = x.numel() == self.in_features
        rows = x.reshape(1, -1).repeat(2, 1) if alone else x
        out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, self.bias, "none", [], "")
        return out[0].view(*x.shape[:-1], self.out_features) if alone else out


class PackedConv2d(Packed, nn.Conv2d):  # type: ignore[misc]  # a parameter there
    """A convolution, whose layout goes by the size of the maps; its maps lie as they came."""

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or not self.packs(x):
            return super().forward(x)
        args = (self.padding, self.stride, self.dilation, self.groups)
        weight = self.held.packed(
            x.shape[2:],
            lambda dense: torch.ops.mkldnn._reorder_convolution_weight(dense, *args, x.shape),
        )
        conv = torch.ops.mkldnn._convolution_pointwise
        out: Tensor = conv(x, weight, self.bias, *args, "none", [], "")  # in channels_last
        return out if x.is_contiguous(memory_format=torch.channels_last) else out.contiguous()


PACKED: dict[type[nn.Module], type[Packed]] = {nn.Linear: PackedLinear, nn.Conv2d: PackedConv2d}


def pack(net: nn.Module) -> None:
    """Let every plain layer of a frozen network hold its weight; it is packed when it is used.

    What stays dense and is small lies in memory of its own, so that a file whose weights have all
    been packed is let go.
    """
    kept: dict[int, Held] = {}
    apart: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}  # what was there, and its copy
    for layer in net.modules():
        for name, value in layer._parameters.items():
            if value is not None and value.ndim == 1 and value.is_cpu and not value.requires_grad:
                if id(value) not in apart:
                    apart[id(value)] = (value, nn.Parameter(value.clone(), requires_grad=False))
                layer._parameters[name] = apart[id(value)][1]
        if not _fits(layer):
            continue
        weight = layer._parameters.pop("weight")
        assert weight is not None
        layer.__class__ = PACKED[type(layer)]
        assert isinstance(layer, Packed)
        layer.held = kept.setdefault(id(weight), Held(weight))


def unpack(net: nn.Module) -> None:
    """Make weights parameters again, which can be trained."""
    for layer in net.modules():
        if isinstance(layer, Packed):
            _give_back(layer)
            del layer.held
            layer.__class__ = nn.Linear if type(layer) is PackedLinear else nn.Conv2d  # type: ignore[assignment]


def weights(net: nn.Module) -> Iterator[Tensor | Held]:
    """Parameters, and what packed layers hold, each once."""
    seen: set[int] = set()
    for module in net.modules():
        held = [module.held] if isinstance(module, Packed) else []
        for weight in (*held, *module._parameters.values()):
            if weight is not None and id(weight) not in seen:
                seen.add(id(weight))
                yield weight


@contextmanager
def as_parameter(layer: Packed) -> Iterator[None]:
    """While it lasts, the held weight is a parameter, for torch's own functions."""
    _give_back(layer)
    try:
        yield
    finally:
        weight = layer._parameters.pop("weight")
        assert weight is not None
        if weight is not layer.held.dense():
            layer.held = Held(weight)


def _give_back(layer: Packed) -> None:
    layer._parameters = {"weight": layer.held.dense(), **layer._parameters}  # in torch's order


def _fits(layer: nn.Module) -> bool:
    """Plain, frozen and on the CPU."""
    weight = layer._parameters.get("weight")
    if type(layer) not in PACKED or type(weight) is not nn.Parameter or weight.requires_grad:
        return False  # torchao's weights have a type of their own
    if not weight.is_cpu or not onednn(weight.dtype):
        return False
    return not isinstance(layer, nn.Conv2d) or (
        layer.kernel_size in KERNELS and layer.groups == 1 and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )  # fmt: skip
