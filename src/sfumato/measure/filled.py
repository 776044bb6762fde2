"""Methods of a way whose picture is the comparison's input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.core.errors import SfumatoError
from sfumato.methods import Method, described


def takes_image(cls: Any) -> bool:
    """Whether a method needs a picture by the name of image."""
    info = described(cls).get("image") if issubclass(cls, Method) else None
    return info is not None and info.is_required()


def check_fills(fills: Any, methods: Mapping[str, Any]) -> None:
    """Refuse what are no ids of a way's methods that take a picture. methods: id -> class."""
    if isinstance(fills, str) or not isinstance(fills, Sequence):
        raise SfumatoError(f"fills = {fills!r:.60}: give a tuple of ids of methods")
    able = [name for name, cls in methods.items() if takes_image(cls)]
    if odd := [one for one in fills if one not in able]:
        known = ", ".join(able) or "none"
        raise SfumatoError(f"fills: {odd[0]!r:.60} takes no picture in this way; {known} does")
