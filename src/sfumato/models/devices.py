"""Which device and number format to run on, and why; how much memory a device has."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sfumato.core.errors import SfumatoError

DTYPES = {
    "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16,
    "int8": torch.bfloat16, "int4": torch.bfloat16,
}  # fmt: skip
"""What is multiplied in; weights of the last two are kept in fewer bits."""
BITS = {"int8": 8, "int4": 4}
SHARED = ("cpu", "mps")  # that have the memory in which pictures are


OFFLOADS = ("none", "modules", "layers")
"""What lies in main memory while it is not used: nothing, whole networks, layers of them."""


@dataclass(frozen=True)
class Choice:
    """device and dtype as names, each with the reason; offload: one of OFFLOADS."""

    device: str
    dtype: str
    device_reason: str
    dtype_reason: str
    offload: str = "none"

    @property
    def home(self) -> str:
        """Where a model's own weights lie."""
        return self.device if self.offload == "none" else "cpu"


def choose(device: str = "auto", dtype: str = "auto", offload: str = "none") -> Choice:
    """Resolve "auto": device cuda, mps, xpu, cpu in this order; dtype bfloat16 where it is fast."""
    for name, value in (("device", device), ("dtype", dtype)):
        if not isinstance(value, str):
            raise SfumatoError(f"{name} {value!r:.60}: give its name, or auto")
    if not isinstance(offload, str) or offload not in OFFLOADS:
        raise SfumatoError(f"offload {offload!r:.60}: must be {', '.join(OFFLOADS)}")
    resolved, reason = _device(device)
    if offload != "none" and torch.device(resolved).type in SHARED:
        raise SfumatoError(
            f"offload {offload}: the model is on the {resolved.upper()} already; leave it out, or "
            "give a device that has a memory of its own"
        )
    return replace(_choice(resolved, reason, dtype), offload=offload)


def _choice(resolved: str, reason: str, dtype: str) -> Choice:
    if dtype != "auto":
        if dtype not in DTYPES:
            raise SfumatoError(f"dtype {dtype!r}: must be auto, {', '.join(DTYPES)}")
        return Choice(resolved, dtype, reason, "asked for")
    dtype_name, dtype_reason = _dtype(resolved)
    return Choice(resolved, dtype_name, reason, dtype_reason)


def _available(kind: str) -> bool:
    module = getattr(torch, kind, None) or getattr(torch.backends, kind, None)
    return kind == "cpu" or bool(module and module.is_available())


def _device(device: str) -> tuple[str, str]:
    kinds = ("cuda", "mps", "xpu", "cpu")
    if device == "auto":
        return next(
            (k, "first of cuda, mps, xpu, cpu that is here") for k in kinds if _available(k)
        )
    kind = device.partition(":")[0]
    try:
        known = kind in kinds and torch.device(device).type == kind
    except RuntimeError:
        known = False
    if not known:
        raise SfumatoError(f"device {device!r:.60}: must be auto, {', '.join(kinds)}")
    if not _available(kind):
        raise SfumatoError(f"device {device!r}: not available here; use auto or cpu")
    return device, "asked for"


def _dtype(device: str) -> tuple[str, str]:
    kind = torch.device(device).type
    if kind == "cuda":
        if torch.cuda.get_device_capability(device)[0] >= 8:
            return "bfloat16", "the card has bfloat16 tensor cores"
        return "float32", "the card has no bfloat16 tensor cores"
    if kind == "cpu":
        flags = torch.cpu.get_capabilities()
        for flag in ("amx_bf16", "avx512_bf16"):
            if flags.get(flag):
                return "bfloat16", f"the processor has {flag}"
        return "float32", "the processor has no fast bfloat16"
    return "float32", f"bfloat16 on {kind} is not measured"


def capacity(device: str) -> float:
    """All the bytes of a device, of the processor's with what is swapped; infinite if unknown."""
    kind = torch.device(device).type
    if kind not in SHARED:
        module: Any = getattr(torch, kind)
        return float(module.get_device_properties(device).total_memory)
    try:
        installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        text = Path("/proc/meminfo").read_text()
    except (OSError, ValueError, AttributeError):  # elsewhere swap grows with the disk
        return math.inf
    swap = re.search(r"^SwapTotal: *([0-9]+) kB$", text, re.MULTILINE)
    return float(installed + (int(swap[1]) << 10 if swap else 0))
