"""Weights that another library has quantised: which of them are read, and what that needs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError
from sfumato.documents import is_there, read_json

PACKAGES = {"bitsandbytes": "bitsandbytes", "gguf": "gguf", "torchao": "torchao"}
"""What reads a method's weights, by the method's name in files; accelerate besides."""


def quantisation(path: Path) -> dict[str, Any] | None:
    """What a part's configuration says of how its weights are quantised, None of plain ones."""
    if not is_there(path):
        return None
    told = read_json(dict[str, Any], path).get("quantization_config")
    if told is None:
        return None
    method = told.get("quant_method") if isinstance(told, dict) else None
    if method not in ("bitsandbytes", "torchao"):
        raise SfumatoError(
            f"{path}: weights quantised by {method!s:.40} are not read; bitsandbytes' and "
            "torchao's are, and files of GGUF"
        )
    needed(method, path)
    settings: dict[str, Any] = told
    return settings


def needed(method: str, path: Path) -> None:
    """SfumatoError where a package is missing without which the weights cannot be read."""
    missing = [name for name in (PACKAGES[method], "accelerate") if find_spec(name) is None]
    if missing:
        raise SfumatoError(
            f"{path}: its weights are quantised by {method}; pip install {' '.join(missing)}"
        )


def method_of(net: Any) -> str:
    """By what a network's weights were quantised before they were read, "" where they were not."""
    method = getattr(net, "quantization_method", None)
    if method is None:
        held = getattr(net, "hf_quantizer", None)
        method = None if held is None else held.quantization_config.quant_method
    return "" if method is None else str(getattr(method, "value", method))


def refuse_quantised(nets: Sequence[Any], bits: int | None, what: str) -> None:
    """SfumatoError where one of them is quantised already, or by us to so many bits; what: asks for
    plain weights."""
    if bits is not None:
        raise SfumatoError(f"{what}: weights in {bits} bits take none; load the model in bfloat16")
    if method := next(filter(None, map(method_of, nets)), ""):
        raise SfumatoError(f"{what}: weights quantised by {method} take none; load plain ones")
