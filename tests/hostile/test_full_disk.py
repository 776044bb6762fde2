"""Disks that fill up in the middle of a write: one line that names the file, and no half of one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import PIL.Image
import pytest
import torch
from tokenizers import Tokenizer, models
from typer.testing import CliRunner

from sfumato.core.errors import SfumatoError
from sfumato.images import Picture
from sfumato.images.destination import check_file
from sfumato.images.writing import write_whole
from sfumato.measure import points, sweep
from sfumato.models import batch
from sfumato.models.loaders import export
from sfumato.models.result import save_new
from sfumato.train import checkpoint, exports, report, run_folder, warm_start
from sfumato.train.batches import Batches
from sfumato.train.data import build

resource = pytest.importorskip("resource")
ROOM = 4096
WORD = "x" * 100


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@contextmanager
def full() -> Iterator[None]:
    """While active, no file grows beyond ROOM bytes: a write ends in its middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def noise() -> PIL.Image.Image:
    return PIL.Image.effect_noise((128, 128), 90)


def table(rows: int) -> report.Log:
    log = report.Log(Path("log.csv"))
    for _ in range(rows):
        log.put({WORD + str(k): k for k in range(5)})
    return log


def tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Tokenizer(models.BPE({str(k): k for k in range(9999)}, []))
    monkeypatch.setattr(warm_start, "tokenizer", lambda *_: made)
    model = SimpleNamespace(tokenizer="", vocabulary=300)
    holder = SimpleNamespace(
        _folder=Path(),
        composer=SimpleNamespace(store=SimpleNamespace(concepts=())),
        config=SimpleNamespace(model=model),
    )
    Batches.tokenizer_file.func(holder)  # type: ignore[attr-defined]


def whole() -> None:
    source = Path("source")
    trainable: Any = SimpleNamespace(model=SimpleNamespace(folder=source, name="x"))
    exports._whole(trainable, Path(), {}, {})


def pickled() -> None:
    export.convert(Path("source/weights.pt"), Path("weights.safetensors"))


def packed() -> None:
    rows = {str(k): {"label": WORD} for k in range(99)}
    drawn = {style: dict.fromkeys(rows, noise()) for style in build.SOURCES}
    build.pack(Path(), rows, drawn)


def swept() -> None:
    sweep.OWNED.hold(Path(), None, b"x" * 99999)  # type: ignore[arg-type]


WRITES: dict[str, tuple[str, Callable[[], Any]]] = {
    "a picture": ("a.png", lambda: Picture.of(noise()).save("a.png")),
    "a result": ("a.png", lambda: save_new(Picture.of(noise()), Path("a.png"))),
    "a page": ("index.html", lambda: write_whole(Path("index.html"), b"x" * 99999)),
    "rows": ("pictures.csv", lambda: points._write_rows(Path("pictures.csv"), [{WORD * 99: 1}])),
    "a sweep": ("sweep.json", swept),
    "rows that failed": (
        "failed.jsonl",
        lambda: batch._write_note(Path(), [], [(batch.Row(1, "", {"a": WORD * 99}), "no")]),
    ),
    "weights": (
        "a.safetensors",
        lambda: checkpoint.put(Path("a.safetensors"), {"a": torch.ones(9999)}, {}),
    ),
    "weights in a new folder": (
        "new/a-1-of-1",
        lambda: checkpoint.write_shards(Path("new"), "a", {"a": torch.ones(9999)}),
    ),
    "a text": ("run.json", lambda: checkpoint.put_text(Path("run.json"), WORD * 99)),
    "a log": ("log.csv", lambda: table(999)),
    "a model": ("model", lambda: export.export("emoji", Path("model"))),
    "a pickle": ("weights.safetensors", pickled),
    "a trained model": ("model", whole),
    "a packed set": ("metadata.jsonl", packed),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_disk_that_fills_up_is_one_line(name: str) -> None:
    Path("source").mkdir()
    torch.save({"a": torch.ones(9999)}, "source/weights.pt")
    before = set(Path().rglob("*"))
    said, write = WRITES[name]
    with pytest.raises(SfumatoError) as error, full():
        write()
    line = str(error.value)
    assert said in line.partition(": ")[0]
    assert "could not be written" in line
    assert "File too large" in line
    left = {path for path in set(Path().rglob("*")) - before if path.is_file()}
    assert left <= {Path("log.csv")}, "half a file"


def test_a_runs_tokenizer_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SfumatoError, match=r"tokenizer\.json: could not be written"), full():
        tokenizer(monkeypatch)
    assert list(Path().iterdir()) == []
    tokenizer(monkeypatch)
    assert [file.name for file in Path().iterdir()] == ["tokenizer.json"]


def test_folders_that_cannot_be_made() -> None:
    Path("file").write_text("")
    for make in (
        lambda: run_folder.make_folder(Path("file/x")),
        lambda: build.build(Path("file/x")),
        lambda: checkpoint.put_text(Path("file/x/a.json"), "a"),
    ):
        with pytest.raises(SfumatoError, match="file/x"):
            make()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a system without it")
def test_devices_are_no_files_for_results(app: Any) -> None:
    with pytest.raises(SfumatoError, match="/dev/full: is a device or a pipe; give a file name"):
        check_file(Path("/dev/full"))
    said = CliRunner().invoke(app, ["eval", "-o", "/dev/full"])
    assert said.exit_code == 1
    assert "/dev/full: is a device" in said.stderr
    with pytest.raises(SfumatoError, match=r"/dev/full: could not be written \(No space"):
        write_whole(Path("/dev/full"), b"x" * 99999)


PROGRAM = """
import sys
from sfumato.cli import main
from sfumato.cli.verb import Verb
from sfumato.cli.verbs.shared import DEBUG
lines = int(sys.argv[1])
def body(**_):
    for k in range(lines):
        print("x" * 1000)
main.FIXED = (Verb("speak", body, "Speak.", (DEBUG,)),)
sys.argv = ["sfumato", "speak"]
main.main()
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a system without it")
@pytest.mark.parametrize("lines", [1, 100])  # less and more than a buffer holds
def test_a_stdout_that_takes_no_more_is_one_line(lines: int) -> None:
    with Path("/dev/full").open("wb") as nowhere:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(lines)], stdout=nowhere, stderr=subprocess.PIPE
        )
    line = "sfumato: stdout: No space left on device; what was made is kept\n"
    assert done.stderr.decode() == line
    assert done.returncode == 1
