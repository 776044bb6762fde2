"""Checkpoints: tensors read from files without running code, and how they fit a network."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sfumato.core.errors import SfumatoError

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class LoadReport:
    """Keys found in file and network, only in the network, only in the file."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    @classmethod
    def of(cls, expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> LoadReport:
        """expected: the network's tensors; weights: the file's."""
        return cls(
            matched=tuple(name for name in expected if name in weights),
            missing=tuple(name for name in expected if name not in weights),
            unexpected=tuple(name for name in weights if name not in expected),
        )

    def __str__(self) -> str:
        missing = f"missing: {_abridged(self.missing)}" if self.missing else "none missing"
        unexpected = (
            f"unexpected: {_abridged(self.unexpected)}" if self.unexpected else "none unexpected"
        )
        return f"{len(self.matched)} tensors matched, {missing}, {unexpected}"


def _abridged(names: Sequence[str], n: int = 3) -> str:
    others = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + others


def meta_network(make: Callable[[], Net], name: str) -> Net:
    """A network without memory for its weights; numbers that make none are one line."""
    try:
        with torch.device("meta"):
            return make()
    except (*READ_ERRORS, AssertionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SfumatoError(f"{name}: its numbers make none ({reason:.120})") from None


def compare(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], allow_missing: bool
) -> LoadReport:
    """How a file's weights fit the network's; those that do not are one line."""
    report = LoadReport.of(expected, weights)
    if not report.matched:
        raise SfumatoError(
            f"weights: none of their {len(weights)} keys ({_abridged(report.unexpected)}) is one "
            f"of the network's ({_abridged(report.missing)})"
        )
    wrong = [
        f"{name} is {tuple(weights[name].shape)} in the file, {tuple(expected[name].shape)} here"
        for name in report.matched
        if weights[name].shape != expected[name].shape
    ]
    if wrong:
        raise SfumatoError(
            f"weights: {len(wrong)} shapes differ from the configuration: {_abridged(wrong)}"
        )
    if report.missing and not allow_missing:
        raise SfumatoError(f"weights: {report}")
    return report


READ_ERRORS = (  # what the readers raise on files that are cut, overwritten or something else
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


def read_state_dict(path: str | Path | Sequence[str | Path]) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, of its shards, or of a .pt or .ckpt file.

    Tensors stay mapped to the file where its format allows. Pickled files are read with
    weights_only=True, so they cannot run code.
    """
    files = [path] if isinstance(path, str | Path) else list(path)
    tensors: dict[str, Tensor] = {}
    for file in map(Path, files):
        part = _read(file)
        if repeated := sorted(tensors.keys() & part.keys()):
            raise SfumatoError(f"{file}: {_abridged(repeated)} is in another shard too")
        tensors |= part
    return tensors


def _read(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise SfumatoError(f"{file}: no such file")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        data = torch.load(file, "cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
        data = data.get("state_dict", data)
        tensors = {name: value for name, value in data.items() if isinstance(value, Tensor)}
    except PermissionError as error:
        raise SfumatoError(f"{file}: no permission to read it") from error
    except READ_ERRORS as error:
        if "Unsupported global" in str(error):
            raise SfumatoError(
                f"{file}: holds Python objects besides tensors, which could run code; "
                "save its state dict as safetensors and load that"
            ) from error
        raise SfumatoError(
            f"{file}: damaged, incomplete or no checkpoint; download or save it again"
        ) from error
    if not tensors:
        raise SfumatoError(f"{file}: holds no tensors; give a state dict")
    return tensors


def load_network(make: Callable[[], Net], files: Mapping[str, Sequence[Path]], device: str) -> Net:
    """The network of a card with its weights. files: by what their names get in front."""
    weights = {
        f"{prefix}{name}": value.float()
        for prefix, shards in files.items()
        for name, value in read_state_dict(shards).items()
    }
    first = next(iter(files.values()))[0]
    expected = meta_network(make, f"{first.name}: the card's network").state_dict()
    for name, value in expected.items():  # before memory is asked for
        if name not in weights or weights[name].shape != value.shape:
            actual = tuple(weights[name].shape) if name in weights else "missing"
            raise SfumatoError(
                f"{first.name}: does not fit the card ({name} is {actual}, {tuple(value.shape)} "
                "by the card)"
            )
    net = make()
    fit_weights(net, weights, first.name, "the card")
    return net.to(device)


def fit_weights(net: nn.Module, weights: Mapping[str, Tensor], name: str, layout: str) -> None:
    """The weights in the network, frozen."""
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise SfumatoError(
            f"{name}: does not fit {layout} ({' '.join(str(error).split())[:200]})"
        ) from None
    net.eval().requires_grad_(False)
