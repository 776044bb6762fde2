"""Checkpoints: tensors read from files without running code, and how they fit a network."""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from sfumato.core.errors import SfumatoError
from sfumato.documents import check_regular

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
    except READ_ERRORS as error:
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


# a damaged byte may say any version, and what comes of it is said in one line
warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)

READ_ERRORS = (  # what the readers raise on files that are cut, overwritten or something else
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)
STORED = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
"""What weights are stored as, and what is counted beside them."""
DIMENSIONS = 8  # of a tensor that a network has; torch's own arithmetic ends at 64


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


def read_pickled(file: Path) -> Any:
    """What a .pt or .ckpt file holds, read without running code."""
    check_regular(file)
    try:
        data = torch.load(file, "cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except PermissionError as error:
        raise SfumatoError(f"{file}: no permission to read it") from error
    except READ_ERRORS as error:
        if "Unsupported global" in str(error):
            raise SfumatoError(
                f"{file}: cannot be read as weights: holds Python objects besides tensors, which "
                "could run code; save its state dict as safetensors and load that"
            ) from error
        raise _damaged(file) from error
    for name, tensor in _tensors_in(data):
        _check_stored(name, tensor, file)
    return data


def is_float32(file: Path) -> bool:
    """Whether a safetensors file's weights are float32, by the first; no, where it is damaged."""
    if file.suffix != ".safetensors":
        return False
    try:
        with safe_open(file, "pt") as opened:
            return bool(opened.get_slice(next(iter(opened.keys()))).get_dtype() == "F32")
    except (*READ_ERRORS, StopIteration):
        return False


def _read(file: Path) -> dict[str, Tensor]:
    check_regular(file)
    if file.suffix == ".safetensors":
        try:
            tensors = load_file(file)
        except PermissionError as error:
            raise SfumatoError(f"{file}: no permission to read it") from error
        except READ_ERRORS as error:
            raise _damaged(file) from error
        for name, tensor in tensors.items():
            _check_stored(name, tensor, file)
        return tensors
    data = read_pickled(file)
    data = data.get("state_dict", data) if isinstance(data, dict) else None
    if not isinstance(data, dict):
        raise _damaged(file)
    tensors = {
        name: value
        for name, value in data.items()
        if isinstance(value, Tensor) and isinstance(name, str)
    }
    if not tensors:
        raise SfumatoError(f"{file}: holds no tensors; give a state dict")
    return tensors


def _damaged(file: Path) -> SfumatoError:
    return SfumatoError(
        f"{file}: cannot be read as weights: damaged, incomplete or no checkpoint; download or "
        "save it again"
    )


def _tensors_in(data: Any, name: str = "", depth: int = 4) -> Iterator[tuple[str, Tensor]]:
    """The tensors of plain data and their names; deeper down nobody looks for weights."""
    if isinstance(data, Tensor):
        yield name, data
    elif isinstance(data, dict) and depth:
        for key, value in data.items():
            yield from _tensors_in(value, f"{name}.{key}" if name else str(key), depth - 1)


def _check_stored(name: str, tensor: Tensor, file: Path) -> None:
    """A dense tensor of plain numbers that the file holds, not one that only says its size."""
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        raise SfumatoError(f"{file}: {name} is stored without plain numbers; save it dense")
    if tensor.dtype not in STORED:
        raise SfumatoError(
            f"{file}: {name} holds {tensor.dtype}, which no weights are; save it as floats"
        )
    if tensor.ndim > DIMENSIONS:
        raise SfumatoError(f"{file}: {name} has {tensor.ndim} dimensions, more than any weight")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise SfumatoError(
            f"{file}: {name} of {tuple(tensor.shape)} says more numbers than it holds; save a copy"
        )


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
