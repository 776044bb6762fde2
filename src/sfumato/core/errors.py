"""The one exception for what a user can mend, and how any other is said in one line.

Bugs raise Python's own exceptions instead.
"""


class SfumatoError(Exception):
    """One clear line: which input, what is wrong with it, what to do about it."""


class PictureWarning(UserWarning):
    """What a file does not hold of a picture, or a picture does not take from its file."""


def said(error: BaseException) -> str:
    """One line for an error of any kind."""
    text = " ".join(str(error).split())
    if isinstance(error, SfumatoError):
        return text
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return "out of memory; take a smaller --size or -n"
    if isinstance(error, OSError):
        return f"{error.filename or 'file'}: {error.strerror or text}"
    return f"internal error: {type(error).__name__}: {text}"
