"""StoreError: the disk or the database does not do what it is asked, now or for good."""

from __future__ import annotations

import sqlite3

from sfumato.core.errors import SfumatoError


class StoreError(SfumatoError):
    """What cannot be kept or read at the moment; the same may work later."""


def trouble(error: sqlite3.Error | OSError) -> StoreError:
    """In a line, with what to do."""
    text = str(error)
    if isinstance(error, OSError):
        text = error.strerror or text
    if "full" in text or "No space" in text or "quota" in text:
        return StoreError("the server's disk is full; free some space on it")
    if "locked" in text:
        return StoreError("the server's database is locked by another program; close that one")
    if "malformed" in text or "not a database" in text or "disk image" in text:
        return StoreError(
            "the server's database is damaged; stop it, and give `sfumato serve restore` a backup"
        )
    return StoreError(f"the server's database or disk cannot be used ({text})")
