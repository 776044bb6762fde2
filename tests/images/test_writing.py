"""Writing results: many writers of one name, other disks, fallbacks, what stays of a batch."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

import sfumato as sf
from sfumato.images import Picture, writing
from sfumato.images.writing import write_new, write_safely
from sfumato.models import batch
from sfumato.models.result import Result, save_new
from sfumato.recipe import Recipe

WRITER = """
import sys, threading
from pathlib import Path
from sfumato.images.writing import write_new
assert not {"PIL", "torch"} & sys.modules.keys()
sys.stdin.read()
def write(k):
    write_new(Path(sys.argv[1]), f"{sys.argv[2]}-{k} ".encode() * 5000)
threads = [threading.Thread(target=write, args=(k,)) for k in range(50)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def whole(folder: Path) -> list[str]:
    """What the files of a folder hold, each of which must be whole."""
    texts = [file.read_text() for file in folder.iterdir()]
    assert all(text == text.split()[0].join(["", " "]) * 5000 for text in texts)
    return sorted({text.split()[0] for text in texts})


def test_two_hundred_writers_of_one_name(tmp_path: Path) -> None:
    """Four processes of fifty threads."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "x.png")]
    writers = [subprocess.Popen([*command, str(k)], stdin=subprocess.PIPE) for k in range(4)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert len(whole(tmp_path)) == 200
    names = {f"x-{k}.png" for k in range(2, 201)} | {"x.png"}
    assert {file.name for file in tmp_path.iterdir()} == names


@pytest.mark.parametrize("missing", ["unnamed files", "links too"])
def test_disks_without_links_are_exclusive_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(writing, "_OPENED", tmp_path / "none")
    if missing == "links too":
        monkeypatch.setattr(os, "link", refuse)

    def write(k: int) -> None:
        write_new(tmp_path / "x.png", f"{k} ".encode() * 5000)

    threads = [threading.Thread(target=write, args=(k,)) for k in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(whole(tmp_path)) == 60
    assert not list(tmp_path.glob(".*"))


def test_a_taken_name_is_whatever_has_it(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "elsewhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("folder", "link", "pipe"):
        assert write_new(tmp_path / f"{name}.png", b"x").name == f"{name}-2.png"
    assert not (tmp_path / "elsewhere.png").exists()
    long = tmp_path / ("각" * 83 + "a.png")
    assert write_new(long, b"1") == long
    second = write_new(long, b"2")
    assert second.name == "각" * 83 + "-2.png"
    assert len(os.fsencode(second.name)) == 255


def result(n: int = 1) -> Result:
    recipe = Recipe(model="emoji", prompt="rose", n=n)
    images = [Picture.of(PIL.Image.new("RGB", (8, 8), (k, 0, 0)), recipe=recipe) for k in range(n)]
    return Result(images, recipe)


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pictures go that cannot be written where they should."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def test_a_finished_picture_is_never_dropped(
    tmp_path: Path, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone" / "a.png"
    made = save_new(result().images[0], gone)
    assert made.path.parent.parent == room
    assert f"{gone}: could not be written (No such file or directory); it is in" in made.trouble
    assert PIL.Image.open(made.path).size == (8, 8)

    def full(path: Path, data: bytes) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, "write_new", full)
    with pytest.raises(sf.SfumatoError, match=r"No space left on device.*nor in any other"):
        write_safely(tmp_path / "a.png", b"x")


def test_what_cannot_be_encoded_becomes_a_png(tmp_path: Path) -> None:
    wide = Picture.of(PIL.Image.new("RGB", (17_000, 1)), recipe=Recipe(model="emoji"))
    made = save_new(wide, tmp_path / "a.webp")
    assert made.path == tmp_path / "a.png"
    assert "cannot be written as WEBP" in made.trouble
    wide.recipe = Recipe(model="emoji", seed=object())  # type: ignore[arg-type]
    assert save_new(wide, tmp_path / "b.png").path == tmp_path / "b.png"


def test_results_are_checked_and_numbered(
    tmp_path: Path, room: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(sf.SfumatoError, match="does not exist"):
        result().save(tmp_path / "none" / "a.png")
    with pytest.raises(sf.SfumatoError, match="is empty"):
        result().save("")
    assert result(2).save(tmp_path / "a.png") == [tmp_path / "a-1.png", tmp_path / "a-2.png"]
    assert result().save(tmp_path / "a-1.png") == [tmp_path / "a-1-2.png"]
    assert result().save(tmp_path) == [tmp_path / "rose-0.png"]
    sheet = result(2).sheet()
    sheet.save(tmp_path / "s.png")
    assert sf.images.read_metadata(tmp_path / "s.png")["sfumato"]


# a batch and its failures -----------------------------------------------------------------------


def rows(source: str, *names: str) -> list[batch.Row]:
    return [batch.Row(k, f"line {k}", {"name": n}, source=source) for k, n in enumerate(names, 1)]


def failing(error: BaseException) -> Any:
    def compose(row: batch.Row) -> batch.Job:
        if row.values["name"].startswith("bad"):
            raise error
        return batch.Job([], result)

    return compose


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            "out of memory",
        ),
        (ValueError("a\nb"), "internal error: ValueError: a b"),
        (RecursionError("deep"), "RecursionError"),
        (OSError(28, "No space left on device", "x.png"), "x.png: No space left"),
        (sf.SfumatoError("plain"), "plain"),
    ],
)
def test_any_error_is_one_rows(tmp_path: Path, error: Exception, line: str) -> None:
    report = batch.run(rows("s", "bad", "good", "bad2"), failing(error), tmp_path)
    assert [(row.number, line in text) for row, text in report.failed] == [(1, True), (3, True)]
    assert len((tmp_path / "failed.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_stops_the_program_stops_the_batch(tmp_path: Path, stop: Any) -> None:
    with pytest.raises(stop):
        batch.run(rows("s", "good", "bad", "good"), failing(stop()), tmp_path)
    found = [json.loads(line) for line in (tmp_path / "failed.jsonl").read_text().splitlines()]
    assert [row["row"] for row in found] == [2, 3]


def test_failures_of_two_sources_and_a_users_own_file(tmp_path: Path) -> None:
    own = '{"name": "bad", "prompt": "mine"}\n'
    (tmp_path / "failed.jsonl").write_text(own)
    error = failing(sf.SfumatoError("no"))
    first = batch.run(rows("one", "bad", "bad2"), error, tmp_path)
    second = batch.run(rows("two", "bad", "bad2"), error, tmp_path)
    assert [r.note and r.note.name for r in (first, second)] == ["failed-2.jsonl", "failed-3.jsonl"]
    assert len(batch.read_rows(tmp_path / "failed-2.jsonl")) == 2
    again = batch.run(rows("one", "good", "bad2"), error, tmp_path)
    assert again.note == tmp_path / "failed-2.jsonl"
    assert [row.name for row in batch.read_rows(again.note)] == ["bad", "bad2"]
    # its own rows, run again from it, leave it
    left = [row for row in batch.read_rows(again.note) if row.source == "one"]
    assert batch.run(left, lambda row: batch.Job([], result), tmp_path).note is None
    assert not (tmp_path / "failed-2.jsonl").exists()
    assert (tmp_path / "failed.jsonl").read_text() == own
    assert (tmp_path / "failed-3.jsonl").exists()


def test_any_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    kinds = [b"", b"\xff\xfe", b"{}\n", b"[1]\n", b"text", b'{"source": "s"}\n']
    for k, data in enumerate(kinds, 1):
        writing.numbered(tmp_path / "failed.jsonl", k).write_bytes(data)
    os.mkfifo(tmp_path / "failed-7.jsonl")
    report = batch.run(rows("s", "bad"), failing(sf.SfumatoError("no")), tmp_path)
    assert report.note == tmp_path / "failed-8.jsonl"
    for k, data in enumerate(kinds, 1):
        assert writing.numbered(tmp_path / "failed.jsonl", k).read_bytes() == data


def test_noted_lines_are_lines(tmp_path: Path) -> None:
    text = 'a\u2028b\x85c\x0bd\x1ce\nf "g" 각\udcff'
    row = batch.Row(1, "x", {"prompt": text, "name": "bad"}, tmp_path / "p.png", tmp_path, "s")
    batch.run([row], failing(sf.SfumatoError("no")), tmp_path)
    lines = (tmp_path / "failed.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1
    (found,) = batch.read_rows(tmp_path / "failed.jsonl")
    assert found.values["prompt"] == text.replace("\udcff", "?")
    assert (found.image, found.folder, found.source) == (row.image, tmp_path, "s")


def test_a_picture_that_goes_elsewhere_is_a_failure(tmp_path: Path, room: Path) -> None:
    (tmp_path / "file").write_text("")
    job = batch.Job([tmp_path / "file" / "a.png"], result)
    report = batch.run(rows("s", "good"), lambda row: job, tmp_path)
    (path,) = report.made
    assert path.parent.parent == room
    assert str(path) in report.failed[0][1]
