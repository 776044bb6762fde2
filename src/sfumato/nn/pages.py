"""Memory of mapped files: weights that were copied out of their file need not stay there too.

A file that is read through a mapping counts as memory of the process, page by page, from the first
reading of a page until the mapping ends, beside whatever was made of it. Pages that nobody wrote to
can be let go: who reads them again finds the file's bytes. Linux tells which pages those are;
elsewhere nothing happens.
"""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

PRESENT, SWAPPED, FILED = 1 << 63, 1 << 62, 1 << 61
"""Bits of a page's entry in pagemap: in memory; in swap; a file's, and not written to."""
CHUNK = 64 << 20
"""Bytes that are let go together, or stay where one page among them is not the file's."""


def let_go(weight: Tensor) -> None:
    """Take a dense weight on the CPU out of memory where it lies in a file's mapping, unchanged.

    The caller holds it, so that nothing else can come to lie there, and nobody writes to it
    meanwhile.
    """
    if weight.device.type != "cpu" or weight.layout != torch.strided:
        return
    if not weight.is_contiguous():
        return
    page, each = mmap.PAGESIZE, CHUNK // mmap.PAGESIZE
    address = weight.data_ptr()
    first, last = -(-address // page), (address + weight.nbytes) // page
    for begin in range(first, last, each):
        end = min(begin + each, last)
        if _unchanged(begin, end - begin):
            madvise = ctypes.CDLL(None).madvise
            madvise(ctypes.c_void_p(begin * page), ctypes.c_size_t((end - begin) * page),
                    mmap.MADV_DONTNEED)  # fmt: skip


def cast(net: nn.Module, dtype: torch.dtype) -> None:
    """net.to(dtype) of a frozen network, of whose weights those in a mapped file do not stay."""
    made: dict[int, nn.Parameter] = {}  # layers may share one
    for layer in net.modules():
        for weight in layer._parameters.values():
            if weight is None or not weight.is_floating_point() or id(weight) in made:
                continue
            made[id(weight)] = nn.Parameter(weight.to(dtype), requires_grad=False)
            let_go(weight)
    for layer in net.modules():
        for name, weight in layer._parameters.items():
            if id(weight) in made:
                layer._parameters[name] = made[id(weight)]
    net.to(dtype)  # buffers


def _unchanged(first: int, count: int) -> bool:
    """Whether the pages that are there at all are a file's; of others the content would be lost.

    No, where the system does not say.
    """
    try:
        with Path("/proc/self/pagemap").open("rb", buffering=0) as pages:
            pages.seek(first * 8)
            entries = np.frombuffer(pages.read(count * 8), np.uint64)
    except OSError:
        return False
    there = entries & np.uint64(PRESENT | SWAPPED)
    own = (there == np.uint64(PRESENT)) & ((entries & np.uint64(FILED)) != 0)
    return len(entries) == count and bool((own | (there == 0)).all()) and bool(own.any())
