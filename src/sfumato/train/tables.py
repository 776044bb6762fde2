"""Tables of a training recipe as the TOML that its run folder keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def toml(data: dict[str, Any]) -> str:
    """Tables as TOML, tables in them too; all other values are written alike in JSON."""
    return "\n".join(_lines(data, "")).lstrip("\n") + "\n"


def _lines(table: dict[str, Any], path: str) -> Iterator[str]:
    """Its values first, then each table under its full name."""
    for name, value in table.items():
        if not isinstance(value, dict):
            yield f"{name} = {json.dumps(value, ensure_ascii=False)}"
    for name, value in table.items():
        if isinstance(value, dict):
            yield f"\n[{path}{name}]"
            yield from _lines(value, f"{path}{name}.")
