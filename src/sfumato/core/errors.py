"""The one exception for what a user can mend. Bugs raise Python's own exceptions instead."""


class SfumatoError(Exception):
    """One clear line: which input, what is wrong with it, what to do about it."""
