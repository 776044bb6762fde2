"""Networks whose weights lie in main memory and are on the device only while they are used.

A parked network's own weights never move: for the length of a call, copies on the device stand in
their places. So whoever merges, copies or counts weights finds them where they were, a call that
breaks off leaves nothing behind, and nothing is ever written back, since weights are frozen.

Of a network that is parked whole the copies stay until another one of the same place is called. Of
one that is parked by layers each layer has its copies while it runs, and the one that ran after it
the last time is fetched meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, wraps
from itertools import chain
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from sfumato.models.movers import Mover, Plain, Streamed

SHARE = 1 / 16
"""Of a network's bytes a layer has at most so many, or is a module without parts."""
ATOMS = (nn.MultiheadAttention,)  # whose parts are not called
LISTS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
ENTRIES = ("forward", "encode", "decode")
LARGE = 1 << 30
"""Bytes from which a text encoder is parked by layers."""
Slot = tuple[dict[str, Any], str, Tensor]


@dataclass(eq=False)
class Place:
    """A device and what of parked networks is on it; one thread at a time calls them.

    held: weight -> copy, of the network that was called last. homes: copy -> weight. coming: a
    layer, its weights and their copies. running: networks and layers, the outermost first. after:
    which layer ran after another.
    """

    mover: Mover
    lock: Any = field(default_factory=RLock)
    held: Any = field(default_factory=WeakTensorKeyDictionary)
    homes: Any = field(default_factory=WeakTensorKeyDictionary)
    coming: tuple[nn.Module, list[Tensor], list[Tensor]] | None = None
    running: tuple[nn.Module, ...] = ()
    before: nn.Module | None = None
    after: WeakKeyDictionary[nn.Module, Any] = field(default_factory=WeakKeyDictionary)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """This thread alone is at work; whatever a signal broke off before has not been."""
        outermost = not self.lock._is_owned()
        with self.lock:
            if outermost:
                self.running, self.before, self.coming = (), None, None
            yield

    def call(
        self, net: nn.Module, layer: bool, method: Callable[..., Any], *args: Any, **named: Any
    ) -> Any:
        """method(net, ...) with the network's weights on the device."""
        with self.alone():
            weight = next(chain(net.parameters(), net.buffers()), None)
            if net in self.running or weight is None or weight.is_meta:
                return method(net, *args, **named)
            own = self.slots(net)
            weights = unique(own)
            if not self.running:
                args = tuple(self._moved(value) for value in args)
                named = {name: self._moved(value) for name, value in named.items()}
            fetch = self._layer if layer else self._whole
            copies = dict(zip(map(id, weights), fetch(net, weights), strict=True))
            outer = self.running
            try:
                self.running = (*outer, net)
                for values, name, weight in own:
                    values[name] = copies[id(weight)]
                return method(net, *args, **named)
            finally:
                for values, name, weight in own:
                    values[name] = weight
                self.running = outer
                del copies
                self._left(net, layer)

    def slots(self, net: nn.Module) -> list[Slot]:
        """Where a network's weights stand, and the weights, though copies may be in their places
        where a signal came before they were put back."""
        return [(values, name, self.homes.get(one, one)) for values, name, one in slots(net)]

    def _moved(self, value: Any) -> Any:
        return value.to(self.mover.device) if isinstance(value, Tensor) else value

    def _begin(self, weights: list[Tensor]) -> list[Tensor]:
        copies = self.mover.begin(weights)
        for weight, copy in zip(weights, copies, strict=True):
            if copy is not weight:
                self.homes[copy] = weight
        return copies

    def _whole(self, net: nn.Module, weights: list[Tensor]) -> list[Tensor]:
        """Those that are not there are fetched, after the others have gone."""
        if not self.running:
            needed = {id(weight) for weight in weights}
            for weight in [one for one in self.held if id(one) not in needed]:
                del self.held[weight]
        missing = [weight for weight in weights if weight not in self.held]
        copies = self._begin(missing)
        self.mover.wait(copies)
        for weight, copy in zip(missing, copies, strict=True):
            self.held[weight] = copy
        return [self.held[weight] for weight in weights]

    def _layer(self, net: nn.Module, weights: list[Tensor]) -> list[Tensor]:
        if not self.running:
            self.held.clear()
        if self.before is not None:
            self.after[self.before] = ref(net)
        self.before = net if self.running else None
        coming, self.coming = self.coming, None
        if coming is not None and coming[0] is net and same(coming[1], weights):
            copies = coming[2]
        else:
            del coming  # it came in vain, and goes first
            copies = self._begin(weights)
        self.mover.wait(copies)
        return copies

    def _left(self, net: nn.Module, layer: bool) -> None:
        """After a layer the next one is fetched; after a whole network none is."""
        if not self.running:
            self.before = self.coming = None
        elif layer:
            self.mover.ran()
            following = self.after[net]() if net in self.after else None
            if following is not None:
                weights = unique(self.slots(following))
                self.coming = (following, weights, self._begin(weights))


def goes_by_layers(net: nn.Module, how: str, reads_text: bool) -> bool:
    """Whether a network, which is no autoencoder, is parked by layers; how: of devices.OFFLOADS."""
    return how == "layers" and (not reads_text or nbytes(net) >= LARGE)


@dataclass(frozen=True, eq=False)
class Parked:
    """How a network is parked; copies of the network share it."""

    place: Place
    layer: bool

    def __deepcopy__(self, memo: Any) -> Parked:
        return self


@cache
def place_of(device: str) -> Place:
    """Of a device there is one, whatever models are on it."""
    where = torch.device(device)
    return Place(Streamed(where) if where.type == "cuda" else Plain(where))


def park(net: nn.Module, place: Place, by_layers: bool) -> None:
    """From now on its weights, which lie in main memory, are at the place only while it is used."""
    if by_layers:
        place.mover.pin(net)
        for layer in layers(net):
            _mark(layer, Parked(place, layer=True))
    _mark(net, Parked(place, layer=False))


@contextmanager
def at_home(net: nn.Module) -> Iterator[None]:
    """While it lasts, no other thread calls the network, whose weights are its own."""
    parked: Parked | None = net.__dict__.get("_parked")
    if parked is None:
        yield
        return
    with parked.place.alone():
        if not parked.place.running:
            for one in (net, *layers(net)):
                for values, name, weight in parked.place.slots(one):
                    values[name] = weight
        yield


def layers(net: nn.Module) -> list[nn.Module]:
    """Modules that run one after the other and together have nearly all of a network's weights."""
    limit = nbytes(net) * SHARE
    found: dict[int, nn.Module] = {}

    def look(module: nn.Module) -> None:
        inner = list(module.children())
        small = nbytes(module) <= limit or not inner or isinstance(module, ATOMS)
        if module is not net and small and not isinstance(module, LISTS):
            found.setdefault(id(module), module)
            return
        for child in inner:
            look(child)

    look(net)
    return [module for module in found.values() if nbytes(module)]


def least_bytes(net: nn.Module) -> int:
    """Of a network parked by layers, what is on the device at once: what belongs to no layer, and
    the two largest."""
    sizes = sorted(map(nbytes, layers(net)), reverse=True)
    return nbytes(net) - sum(sizes[2:])


def nbytes(net: nn.Module) -> int:
    """Of all weights, each once."""
    tensors = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
    return sum(map(bytes_of, tensors.values()))


def bytes_of(tensor: Any) -> int:
    """Of a tensor, which may be put together of others when it is used (torchao's)."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return int(tensor.nbytes)
    inner, _ = tensor.__tensor_flatten__()
    return sum(bytes_of(getattr(tensor, name)) for name in inner)


def unique(own: Sequence[Slot]) -> list[Tensor]:
    """The weights, each once."""
    return list({id(weight): weight for *_, weight in own}.values())


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return [*map(id, one)] == [*map(id, other)]


def slots(net: nn.Module) -> list[Slot]:
    """Where tensors stand in a network, but for layers parked within."""
    return list(_slots(net, set()))


def _slots(module: nn.Module, seen: set[int]) -> Iterator[Slot]:
    if id(module) in seen:
        return
    seen.add(id(module))
    for values in (module._parameters, module._buffers):
        for name, tensor in values.items():
            if tensor is not None:
                yield values, name, tensor
    for child in module.children():
        if "_parked" not in child.__dict__:
            yield from _slots(child, seen)


def _mark(net: nn.Module, parked: Parked) -> None:
    net.__dict__["_parked"] = parked
    cls: Any = type(net)
    net.__class__ = _visiting(cls)


@cache
def _visiting(cls: Any) -> Any:
    """The same class, whose calls go by the place; copies of its modules are of it too."""
    body: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    for name in ENTRIES:
        if callable(method := getattr(cls, name, None)):
            body[name] = _entry(method)
    return type(cls.__name__, (cls,), body)


def _entry(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def visit(self: Any, *args: Any, **named: Any) -> Any:
        parked: Parked = self.__dict__["_parked"]
        return parked.place.call(self, parked.layer, method, *args, **named)

    return visit
