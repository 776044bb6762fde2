"""What the parts of a process are: refused where a process is made, before anything asks them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import words

if TYPE_CHECKING:
    from sfumato.core.context import Step
    from sfumato.core.process import Process

PARTS: Mapping[str, tuple[str, ...]] = {
    "denoiser": ("schedule", "prepare"),
    "space": ("stride", "encode", "decode"),
    "start": ("level", "bind_start"),
    "canvas": ("path", "bind_canvas"),
    "cond": ("rows", "shapes"),
    "null": ("rows", "shapes"),
}
"""What the parts of a process have."""
ROWS: Mapping[str, tuple[str, ...]] = {
    "guides": ("bind_guide",),
    "taps": ("bind_tap",),
    "positives": ("weight", "feeds"),
    "aways": ("weight", "feeds"),
    "methods": ("__call__",),
    "within": ("__call__",),
    "prompts": (),
    "shape": (),
}
"""The same of the parts in its tuples."""
DEVICE = re.compile(r"[a-z]+(:\d+)?")


def check_rows(process: Process) -> None:
    """Refuse what is no tuple where a process has several of a kind."""
    for name in ROWS:
        row = getattr(process, name)
        if not isinstance(row, tuple | list):
            raise SfumatoError(f"{name} = {row!r:.60}: give a tuple")


def check_parts(process: Process) -> None:
    """Refuse what is no part of a process, before anything asks it."""
    words(process.prompt, "prompt")
    words(process.negative, "negative")
    for text in process.prompts:
        words(text, "prompts")
    for name, needed in PARTS.items():
        part = getattr(process, name)
        if part is not None:
            _check_part(name, part, needed)
    for name, needed in ROWS.items():
        for part in getattr(process, name):
            _check_part(name, part, needed)
    if not isinstance(process.device, str) or not DEVICE.fullmatch(process.device):
        raise SfumatoError(f"device = {process.device!r:.60}: give one such as cpu or cuda:0")


def tell(progress: Any, step: Step) -> None:
    """A step to whom it may concern."""
    if progress is None:
        return
    if not callable(progress) or isinstance(progress, type):
        raise SfumatoError(f"progress = {progress!r:.60}: give a function of a step")
    progress(step)


def _check_part(name: str, part: Any, needed: Sequence[str]) -> None:
    if isinstance(part, type) or (missing := [one for one in needed if not hasattr(part, one)]):
        what = "a class, not a value" if isinstance(part, type) else f"without {missing[0]}"
        raise SfumatoError(f"{name} = {part!r:.60}: is {what}, so it is none")
