"""Words that a model's captions had, and a prompt's that they had not.

A small model draws something of any prompt. Its own CLIP cannot tell which of them it knows: texts
that it never read lie as near to some caption as those it learned (docs/decisions/models.md).
"""

from __future__ import annotations

import re
from collections.abc import Set
from pathlib import Path

from sfumato.documents import is_file, read_text

FILE = "words.txt"
"""In a model's folder: one word a line, in small letters; written by tools/bundle.py."""
_PLAIN = {
    *("a", "an", "and", "at", "by", "for", "from", "her", "his", "in", "is", "its", "my", "of"),
    *("on", "or", "our", "the", "to", "with", "your"),
}


def words_of(text: str) -> list[str]:
    """In small letters, without numbers, weights' brackets and marks."""
    return re.findall(r"[^\W\d_]+", text.lower())


def known_words(folder: Path) -> frozenset[str]:
    """Of the captions that the model in a folder was trained on; empty where that is not said."""
    file = folder / FILE
    return frozenset(read_text(file).split()) if is_file(file) else frozenset()


def unknown_words(prompt: str, known: Set[str]) -> list[str]:
    """Words of a prompt that no caption had, if they are half of what it says or more.

    Words that say nothing alone do not count; a plural is as its singular.
    """
    said = dict.fromkeys(word for word in words_of(prompt) if word not in _PLAIN)
    strange = [word for word in said if not {word, word.removesuffix("s")} & known]
    return strange if known and 2 * len(strange) >= len(said) else []
