"""Tables of a training recipe as the TOML that its run folder keeps."""

from __future__ import annotations

import json
from typing import Any


def toml(data: dict[str, Any]) -> str:
    """Tables as TOML; strings, numbers and booleans are written alike in JSON."""
    tables = {name: table for name, table in data.items() if isinstance(table, dict)}
    top = {name: value for name, value in data.items() if name not in tables}
    lines = _pairs(top)
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_pairs(table)]
    return "\n".join(lines) + "\n"


def _pairs(table: dict[str, Any]) -> list[str]:
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in table.items()]
