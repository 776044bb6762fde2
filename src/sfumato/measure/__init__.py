"""What good means: distances, agreement with words, faithfulness, all with intervals.

`sfumato eval` runs a model through these; `sfumato sweep` draws them over a field; `auto` finds a
number on such a curve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfumato.measure.search import auto


def __getattr__(name: str) -> Any:
    if name == "auto":  # imported when asked for: this package needs torch
        from sfumato.measure.search import auto

        return auto
    raise AttributeError(f"module 'sfumato.measure' has no attribute {name!r}")


__all__ = ["auto"]
