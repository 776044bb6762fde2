"""What a built site would load from elsewhere. Links that a reader may follow are none of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

LOADS = {
    ".html": re.compile(
        r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc(?:set)?=["'](?:https?:)?//[^"']*"""
        r"""|<link\b[^>]*\bhref=["'](?:https?:)?//[^"']*"""
    ),
    ".css": re.compile(r"""url\(\s*["']?(?:https?:)?//[^)]*|@import[^;]*//[^;]*"""),
}


def loads(folder: Path) -> Iterator[str]:
    """File and what it loads, of each such place."""
    for file in sorted(folder.rglob("*")):
        if (pattern := LOADS.get(file.suffix)) is not None:
            for hit in pattern.findall(file.read_text(encoding="utf-8")):
                yield f"{file.relative_to(folder)}: {hit}"
