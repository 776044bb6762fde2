"""Start levels beside explicit times: each says where a run starts, so only one may be set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfumato.core.errors import SfumatoError

if TYPE_CHECKING:
    from sfumato.core.process import Process
    from sfumato.methods import Method


def explicit(method: Method) -> list[str]:
    """The fields of a method that set the start level and are not left open."""
    return [name for name in method.levels if getattr(method, name) is not None]


def alone(method: Method, level: float, process: Process) -> float:
    """The level, unless it was set beside a tuple of times, which would leave it without effect.

    0 may stand beside them: the picture is the result, whatever the times.
    """
    names = explicit(method)
    if names and level > 0 and isinstance(process.spacing, tuple):
        raise SfumatoError(
            f"{method.id}: {names[0]} and times as spacing both set the start level; leave out "
            f"{names[0]} to start at the first time, or the times to start at {names[0]}"
        )
    return level
