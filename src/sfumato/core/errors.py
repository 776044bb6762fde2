"""The one exception for what a user can mend, and how any other is said in one line.

Bugs raise Python's own exceptions instead.
"""

from __future__ import annotations

import re

_BREAK = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
# what would act on a console, reorder the letters around it, or be no text
_HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_QUOTE, _WORD, _LINE = 60, 400, 2000  # characters; longer ones are no names, and nobody reads them


def one_line(text: str) -> str:
    """The text without line breaks and control characters, what is very long shortened."""
    text = _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], _BREAK.sub(" ", text.strip()))
    text = re.sub(rf"\S{{{_WORD},}}", lambda found: f"{found[0][:100]}…{found[0][-60:]}", text)
    return text if len(text) <= _LINE else f"{text[: _LINE - 300]}…{text[-200:]}"


def quoted(text: str) -> str:
    """A user's text in a message: of a long one the beginning, and how long it is."""
    if len(text) <= _QUOTE:
        return repr(text)
    return f"{text[:_QUOTE]!r}… ({len(text):,} characters)"


def shortened(text: str) -> str:
    """The same without quotes, behind the name of an option."""
    return text if len(text) <= _QUOTE else f"{text[:_QUOTE]}… ({len(text):,} characters)"


class SfumatoError(Exception):
    """One clear line: which input, what is wrong with it, what to do about it."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))  # values that it shows may be of any length and form


class PictureWarning(UserWarning):
    """What a file does not hold of a picture, or a picture does not take from its file."""


def error_line(error: BaseException) -> str:
    """One line for an error of any kind."""
    text = one_line(str(error))
    if isinstance(error, SfumatoError):
        return text
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return "out of memory; take a smaller --size or -n"
    if isinstance(error, OSError):
        return one_line(f"{error.filename or 'file'}: {error.strerror or text}")
    return f"internal error: {type(error).__name__}: {text}"
