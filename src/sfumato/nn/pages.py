"""Memory of mapped files: weights that were copied out of their file need not stay there too.

A file that is read through a mapping counts as memory of the process, page by page, from the first
reading of a page until the mapping ends, beside whatever was made of it. Pages that nobody wrote to
can be let go at any time: who reads them again finds the same bytes. Linux tells which pages those
are; elsewhere nothing happens.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

PRESENT, SWAPPED, FILED = 1 << 63, 1 << 62, 1 << 61
"""Bits of a page's entry in pagemap: in memory; in swap; a file's, and not written to."""
CHUNK = 64 << 20
"""Bytes that are let go together, or stay where one page among them is not the file's."""
PERIOD = 0.05
"""Seconds between two looks at files that are being read."""


def let_go(weight: Tensor) -> None:
    """Take a dense weight on the CPU out of memory where it lies in a file's mapping, unchanged."""
    if weight.device.type == "cpu" and weight.layout == torch.strided and weight.is_contiguous():
        _let_go(weight.data_ptr(), weight.nbytes)


@contextmanager
def passing(files: Iterable[Path]) -> Iterator[None]:
    """While it lasts, what is read of these files through mappings does not stay in memory."""
    names = {str(file.resolve()) for file in files}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(PERIOD):
            for start, size in _mappings(names):
                _let_go(start, size)

    watcher = threading.Thread(target=watch, name="sfumato-pages", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _mappings(names: set[str]) -> list[tuple[int, int]]:
    """Where files lie in memory: address and bytes of each mapping."""
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        addresses, *_, name = line.split(maxsplit=5)
        if name in names:
            start, stop = (int(part, 16) for part in addresses.split("-"))
            found.append((start, stop - start))
    return found


def _let_go(address: int, size: int) -> None:
    """Whole pages of [address, address + size)."""
    page = mmap.PAGESIZE
    first, last = -(-address // page), (address + size) // page
    each = CHUNK // page
    for begin in range(first, last, each):
        end = min(begin + each, last)
        if _unchanged(begin, end - begin):
            madvise = ctypes.CDLL(None).madvise
            madvise(ctypes.c_void_p(begin * page), ctypes.c_size_t((end - begin) * page),
                    mmap.MADV_DONTNEED)  # fmt: skip


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
