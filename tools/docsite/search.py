"""What the search index holds besides whole words: Korean words before their endings.

Sphinx splits at spaces and stems English alone, but in Korean particles stand at a word's end:
"마스크에서" must be found by "마스크".
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HANGUL = re.compile(r"[가-힣]{3,}")


def beginnings(words: Iterable[str]) -> list[str]:
    """The words, and of Korean ones all that begin them, of two syllables and more."""
    found = list(words)
    for word in list(found):
        for hangul in HANGUL.findall(word):
            found += [hangul[:k] for k in range(2, len(hangul) + 1) if hangul[:k] != word]
    return found
