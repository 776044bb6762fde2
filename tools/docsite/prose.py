"""Docstrings as Markdown and as reStructuredText: plain text, of which `code` alone is markup.

Lines that are indented or aligned in columns are formulas or tables, and stay as they are.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from itertools import groupby

ALIGNED = re.compile(r"\s|[+-] \S.*\S {2,}\S")
CODE = re.compile(r"(`[^`\n]+`)")
ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
BULLET = re.compile(r"^([+#-]|\d+[.)])(?= )")


def paragraphs(text: str) -> Iterator[tuple[bool, str]]:
    """Whether it is kept as it is, and the text, of each paragraph of a docstring."""
    for part in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        for kept, lines in groupby(part.splitlines(), lambda line: bool(ALIGNED.match(line))):
            joined = "\n".join(lines)
            if joined.strip():
                yield kept, joined if kept else " ".join(joined.split())


def outside_code(text: str, change: Callable[[str], str], code: Callable[[str], str]) -> str:
    """The text with its parts outside and inside of backticks changed."""
    parts = CODE.split(text)
    return "".join(code(part) if k % 2 else change(part) for k, part in enumerate(parts))


def inline(text: str) -> str:
    """A line of plain text in Markdown, its papers as links."""

    def escaped(part: str) -> str:
        part = re.sub(r"([\\*<\[\]|{}$])", r"\\\1", part)
        return ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", part)

    return BULLET.sub(r"\\\1", outside_code(text, escaped, str))


def markdown(text: str) -> str:
    """A docstring in Markdown."""
    return "\n\n".join(
        f"```text\n{inspect.cleandoc(part)}\n```" if kept else inline(part)
        for kept, part in paragraphs(text)
    )


def cell(text: str) -> str:
    """A line of plain text in a cell of a Markdown table."""
    return outside_code(inline(text), str, lambda code: code.replace("|", r"\|"))


def restructured(text: str) -> list[str]:
    """A docstring's lines in reStructuredText."""

    def escaped(part: str) -> str:
        part = re.sub(r"([\\*|`])|_(?=\W|$)", lambda hit: f"\\{hit[0]}", part)
        return ARXIV.sub(r"`arXiv \1 <https://arxiv.org/abs/\1>`__", part)

    lines: list[str] = []
    for kept, part in paragraphs(text):
        if kept:
            literal = inspect.cleandoc(part).splitlines()
            lines += ["::", "", *(f"    {line}" for line in literal), ""]
        else:
            lines += [outside_code(part, escaped, lambda code: f"`{code}`"), ""]
    return lines
