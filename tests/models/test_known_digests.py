"""Digests of large files are found without reading, and never those of another content."""

import os
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from sfumato.home import home, unstored
from sfumato.models.files import known_digests
from sfumato.models.files.hashes import file_digest

PLANTED = "ab" * 32


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As large as need be, all zeros, and as if it had been there for a while."""
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(known_digests, "SETTLED", -1.0)
    path = tmp_path / "weights.safetensors"
    with path.open("wb") as stream:
        stream.truncate(known_digests.LARGE)
    return path


def kept() -> list[Path]:
    folder = home() / known_digests.FOLDER
    return list(folder.iterdir()) if folder.is_dir() else []


def plant(text: str = PLANTED) -> None:
    """In the place of what was kept: who is told this has not read the file."""
    (one,) = kept()
    one.write_text(text)


def test_a_second_time_it_is_known(file: Path) -> None:
    digest = file_digest(file)
    assert digest == sha256(file.read_bytes()).hexdigest()
    plant()
    assert file_digest(file) == PLANTED


def test_any_writing_makes_it_unknown(file: Path) -> None:
    """Even of the same size, and with its time put back."""
    before, status = file_digest(file), file.stat()
    plant()
    with file.open("r+b") as stream:
        stream.write(b"x")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_digest(file) not in (before, PLANTED)


def test_another_file_in_its_place_is_another(file: Path) -> None:
    file_digest(file)
    plant()
    other = file.with_name("other")
    other.write_bytes(b"y" * known_digests.LARGE)
    other.replace(file)
    assert file_digest(file) == sha256(b"y" * known_digests.LARGE).hexdigest()


@pytest.mark.parametrize("text", ["", "ab", "zz" * 32, "ä" * 64])
def test_what_is_damaged_is_found_again(file: Path, text: str) -> None:
    digest = file_digest(file)
    plant(text)
    assert file_digest(file) == digest


def test_what_may_still_change_is_not_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_digests, "SETTLED", 3600.0)
    file_digest(file)
    assert kept() == []


def test_nothing_is_kept_of_small_files_nor_where_nothing_may_be(file: Path) -> None:
    with unstored():
        file_digest(file)
    with file.open("r+b") as stream:
        stream.truncate(known_digests.LARGE - 1)
    file_digest(file)
    assert kept() == []


def test_nothing_is_kept_where_times_are_whole_seconds(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in images that are made reproducibly, where another content may have the same times."""
    status = file.stat()
    told = {name: getattr(status, name) for name in dir(status) if name.startswith("st_")}
    whole = SimpleNamespace(**told | {"st_ctime_ns": int(status.st_ctime) * 10**9})
    monkeypatch.setattr(os, "fstat", lambda _: whole)
    file_digest(file)
    assert kept() == []


def test_what_changes_while_it_is_read_is_not_kept(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fstat, looks = os.fstat, []

    def looked(handle: int) -> os.stat_result:
        looks.append(handle)
        if len(looks) == 2:
            with file.open("r+b") as stream:
                stream.write(b"x")
        return fstat(handle)

    monkeypatch.setattr(os, "fstat", looked)
    file_digest(file)
    assert kept() == []


def test_the_oldest_go(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_digests, "MOST", 2)
    for size in range(4):
        with file.open("r+b") as stream:
            stream.truncate(known_digests.LARGE + size)
        file_digest(file)
    assert len(kept()) == 2
