"""How files get their names: whole or not at all, and results never over what is there.

Bytes and paths only. What a result's path may be is destination.py; encoding is the Picture's.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sfumato.core.errors import SfumatoError
from sfumato.core.interrupts import undisturbed
from sfumato.documents import is_folder

NAME_BYTES = 255
_OPENED = Path("/proc/self/fd")


@dataclass(frozen=True)
class Written:
    """Where a result is; trouble: why it is not where it was meant to be, empty if it is."""

    path: Path
    trouble: str = ""


def write_new(path: Path, data: bytes) -> Path:
    """Make the file, or where that name is taken path-2, path-3, ...; the one that was made.

    The name is taken and filled in one move, so that of any number of writers, threads or
    processes, each gets a name of its own and nobody ever sees half a file.
    """
    with undisturbed():
        if hasattr(os, "O_TMPFILE") and _OPENED.is_dir():
            # systems without it answer in several ways; the other way says what is wrong
            with suppress(OSError), _unnamed(path.parent, data) as source:
                return _first_free(source, path)
        with _hidden(path.parent, data) as part:
            return _first_free(part, path)


def write_safely(path: Path, data: bytes) -> Written:
    """write_new; where that fails, under a shorter name or in another folder.

    For what took long to make. Raises SfumatoError only when no folder takes it.
    """
    try:
        return Written(write_new(path, data))
    except (OSError, ValueError) as error:
        why = _reason(error)
    short = f"picture{path.suffix}" if len(os.fsencode(path.name)) > NAME_BYTES // 2 else path.name
    for folder in _elsewhere(path.parent):
        with suppress(OSError, ValueError):
            written = write_new(folder() / short, data)
            return Written(written, f"{path}: could not be written ({why}); it is in {written}")
    raise SfumatoError(
        f"{path}: could not be written ({why}), nor in any other folder; free some space"
    )


def write_whole(path: Path, data: bytes) -> None:
    """Replace the file at once, so that a full disk or a crash leaves the old one.

    For files that are meant to be written again, such as a sweep's own pages.
    """
    if is_folder(path):
        raise SfumatoError(f"{path}: is a folder; give a file name")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)  # a device such as /dev/stdout cannot be replaced
            return
        target = path.resolve()  # a link keeps pointing to its file
        with undisturbed(), _hidden(target.parent, data) as part:
            part.replace(target)
    except FileNotFoundError:
        raise SfumatoError(
            f"{path}: the folder {path.parent} does not exist; make it first"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise SfumatoError(
            f"{path}: could not be written ({_reason(error)}); free some space or choose "
            "another folder"
        ) from None


def make_folder(path: Path) -> None:
    """Make a folder with those above it, or take what is there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise SfumatoError(f"{path}: is a file where a folder is needed; move it away") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise SfumatoError(
            f"{path}: cannot be made ({_reason(error)}); free some space or choose another folder"
        ) from None


def try_folder(folder: Path) -> None:
    """Raises the OSError that making a file in the folder would; leaves nothing there."""
    if hasattr(os, "O_TMPFILE") and _OPENED.is_dir():
        with suppress(OSError), _unnamed(folder, b""):
            return
    with _hidden(folder, b""):
        pass


def numbered(path: Path, k: int) -> Path:
    """The k-th of path, path-2, path-3, ..."""
    return path if k == 1 else tailed(path, f"-{k}{path.suffix}")


def tailed(path: Path, tail: str) -> Path:
    """The path with another end, its stem cut where the name would be too long for a file."""
    stem = path.stem
    while stem and len(os.fsencode(stem + tail)) > NAME_BYTES:
        stem = stem[:-1]
    return path.with_name(stem + tail)


def _first_free(source: Path, path: Path) -> Path:
    """Give the file at `source` the first name of the row that nobody has."""
    for k in itertools.count(1):
        target = numbered(path, k)
        try:
            claim(source, target)
        except FileExistsError:
            continue
        return target
    raise AssertionError


def claim(source: Path, target: Path) -> None:
    """Name the file at `source` `target`, in one move; FileExistsError where that name is taken.

    The source's own name, if it has one, may stay.
    """
    try:
        if source.parent == _OPENED:  # linked by its descriptor, which needs any folder's
            os.link(source, target, src_dir_fd=0)
            return
        os.link(source, target)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError, AttributeError):
        if source.parent == _OPENED:
            raise
        # no links on this disk: take the name empty, which is exclusive too, then fill it
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            source.replace(target)
        except OSError:
            target.unlink(missing_ok=True)
            raise


@contextmanager
def _unnamed(folder: Path, data: bytes) -> Iterator[Path]:
    """A file that has no name yet: a process that is killed leaves nothing behind."""
    descriptor = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o666)
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(data)
        yield _OPENED / str(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _hidden(folder: Path, data: bytes) -> Iterator[Path]:
    """A file beside those to come, gone afterwards unless it was renamed."""
    part = folder / f".sfumato-{os.urandom(8).hex()}.part"
    try:
        part.write_bytes(data)
        yield part
    finally:
        part.unlink(missing_ok=True)


def _elsewhere(folder: Path) -> list[Callable[[], Path]]:
    """Where a result goes whose own name or folder does not take it, made when it is needed."""
    return [lambda: folder, lambda: _refuge(tempfile.gettempdir()), Path.cwd, Path.home]


@lru_cache
def _refuge(place: str) -> Path:
    """One folder of this process for all that finds no other."""
    return Path(tempfile.mkdtemp(prefix="sfumato-", dir=place))


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
