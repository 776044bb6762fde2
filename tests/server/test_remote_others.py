"""Verbs that learn and measure, on a server: what they leave and say is what they do here."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from helpers.pipelines import stable
from helpers.program import STROKES, call, fails, home
from helpers.remote import Program, Wire, start, until
from helpers.training import RECIPE, data

__all__ = ["data", "home"]

TIMED = ("log.csv", "curves.png", "state.safetensors")
"""Files of a run that tell how long it took."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of text and latents, which takes no time."""
    folder = tmp_path_factory.mktemp("models")
    stable(folder, "sd1")
    return folder / "pipeline"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("server")
    program = Program(folder, "--model", "emoji", "--model", str(tiny))
    program.start()
    yield program
    program.stop()


@pytest.fixture
def wire(server: Program) -> Iterator[Wire]:
    made = Wire(server.port)
    yield made
    made.close()


def files(folder: Path) -> dict[str, bytes]:
    """Of a run, without its times."""
    found = {f.relative_to(folder).as_posix(): f for f in folder.rglob("*") if f.is_file()}
    return {name: b"" if name in TIMED else untimed(file) for name, file in sorted(found.items())}


def untimed(file: Path) -> bytes:
    """Its bytes, without what tells a time; notes of weights have no order."""
    data = file.read_bytes()
    if file.suffix == ".safetensors":
        end = 8 + int.from_bytes(data[:8], "little")
        data = json.dumps(json.loads(data[8:end]), sort_keys=True).encode() + data[end:]
    return re.sub(rb'minutes[\\"]+: [0-9.]+', b"", data)


def both(app: Any, url: str, words: tuple[str, ...], *others: tuple[str, ...]) -> Any:
    """A run here and there, each of these command lines after the other, compared."""
    made = []
    for before in ((), ("--server", url)):
        shutil.rmtree("run", ignore_errors=True)
        said = []
        for line in (words, *others):
            done = call(app, *before, *line)
            said.append((done.exit_code, done.stdout))
            said[0][0] == 0 or pytest.fail(done.output)
        made.append((said, files(Path("run"))))
    (said, here), (_, there) = made
    assert made[1][0] == said
    assert list(there) == list(here)
    assert [name for name in here if here[name] != there[name]] == []
    return here


def small(steps: int, name: str = "recipe.toml") -> str:
    """A training recipe in the working folder."""
    text = RECIPE.replace("steps = 24", f"steps = {steps}").replace("log = 1\n", "log = 50\n")
    Path(name).write_text(text)
    return name


def test_training_leaves_what_it_leaves_here(app: Any, server: Program, data: Path) -> None:
    """By captions, in two parts: the second goes on from the first, here and there."""
    words = ("train", small(12), "--data", str(data), "-o", "run")
    made = both(app, server.url, (*words, "--until", "5"), words)
    assert "done.json" in made
    assert "state.safetensors" in made


@pytest.mark.slow
def test_a_cut_wire_changes_no_training(app: Any, server: Program, wire: Wire, data: Path) -> None:
    words = ("train", small(150), "--data", str(data), "-o", "run")
    program = start("--server", wire.url, *words)
    until(lambda: wire.seen.count(b"event: step") or program.poll() is not None)
    wire.drop(0.6)
    out, errors = program.communicate(timeout=600)
    assert (program.returncode, out) == (0, "run\n"), errors
    there = files(Path("run"))
    shutil.rmtree("run")
    assert call(app, *words).exit_code == 0
    assert files(Path("run")) == there


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on(
    app: Any, server: Program, wire: Wire, data: Path
) -> None:
    """ctrl-C leaves the checkpoint here too; the same command goes on from it, there."""
    words = ("train", small(150), "--data", str(data), "-o", "run")
    program = start("--server", wire.url, *words)
    until(lambda: wire.seen.count(b"event: step") or program.poll() is not None)
    program.send_signal(signal.SIGINT)
    out, errors = program.communicate(timeout=120)
    assert (program.returncode, out) == (130, ""), errors
    assert Path("run/state.safetensors").is_file()
    assert not Path("run/done.json").exists()
    again = call(app, "--server", wire.url, *words)
    assert (again.exit_code, again.stdout) == (0, "run\n"), again.output
    assert "resumed at step" in again.stderr
    there = files(Path("run"))
    shutil.rmtree("run")
    assert call(app, *words).exit_code == 0
    assert files(Path("run")) == there


def test_what_a_server_does_not_train(app: Any, server: Program, data: Path) -> None:
    """A run that is not there, another packed set, a device of its own."""
    away = ("--server", server.url)
    words = ("train", small(2), "--data", str(data), "-o", "run")
    assert "the server has its own" in fails(app, 1, *away, *words, "--device", "cpu")
    assert "--until 9" in fails(app, 1, *away, *words, "--until", "9")
    assert call(app, *words).exit_code == 0
    assert "does not have" in fails(app, 1, *away, *words)
    shutil.rmtree("run")
    Path("packed").mkdir()
    Path("packed/metadata.jsonl").write_text("{}\n")
    Path("packed/emoji-64.zip").write_bytes(b"")
    words = ("train", small(2), "--data", "packed", "-o", "run")
    assert "another packed set" in fails(app, 1, *away, *words)


def pictures() -> None:
    Path("in").mkdir()
    for file in sorted(STROKES.glob("*.png"))[:2]:
        Path("in", file.name).write_bytes(file.read_bytes())


def test_a_plan_of_a_training_and_a_guess(app: Any, server: Program) -> None:
    """The class by the server's CLIP, in the same words, then the plan."""
    pictures()
    words = ("dreambooth", "in", "--name", "zwx", "-o", "run", "--plan")
    here, there = call(app, *words), call(app, "--server", server.url, *words)
    assert here.exit_code == 0, here.output
    assert (there.exit_code, there.stdout) == (0, here.stdout), there.output
    assert "by the model's CLIP" in here.stderr
    assert there.stderr == here.stderr
    assert not Path("run").exists()


@pytest.mark.slow
def test_a_subject_is_taught_with_a_prior(app: Any, server: Program, tiny: Path) -> None:
    """Class pictures are children there; then --resume with more steps."""
    pictures()
    shutil.copytree(tiny, tiny.name)  # a server knows models by their own names alone
    words = ("dreambooth", "in", "--class", "apple", "--name", "zwx", "--batch", "2", "--rank", "2",
             "--class-pictures", "3", "--model", tiny.name, "-o", "run")  # fmt: skip
    made = both(app, server.url, (*words, "--steps", "2"),
                ("dreambooth", "-o", "run", "--resume", "--steps", "3"))  # fmt: skip
    assert json.loads(made["done.json"])["step"] == 3
    children = [job["children"] for job in server.ask("/v1/jobs?kind=train")["jobs"]]
    assert any({"done": 2, "failed": 0}.items() <= one.items() for one in children)


@pytest.mark.slow
def test_evaluation_says_what_it_says_here(app: Any, server: Program) -> None:
    """Rows, report, and a user's own features, which stay here."""
    import torch

    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(x, 8).flatten(1)

    torch.jit.script(Mean()).save("features.pt")  # type: ignore[no-untyped-call]
    words = ("eval", "-n", "5", "--features", "features.pt", "-o")
    here = call(app, *words, "here.json")
    there = call(app, "--server", server.url, *words, "there.json")
    assert here.exit_code == 0, here.output
    assert there.exit_code == 0, there.output
    assert there.stdout == here.stdout
    assert "by your features" in here.stdout
    assert Path("there.json").read_bytes() == Path("here.json").read_bytes()
    assert "leave --server out" in fails(app, 1, "--server", server.url, "eval", "--protocol",
                                         "dreambooth")  # fmt: skip


def test_a_comparison_leaves_what_it_leaves_here(app: Any, server: Program) -> None:
    """Pictures, sheet, tables but for their seconds, and it goes on in its folder."""
    words = ("compare", "far: sdedit t0=0.9", "sdedit t0=0.2", "generate cfg.scale=2",
             "--input", str(STROKES / "hamburger.png"), "-p", "rose", "--steps", "1", "--stages",
             "1", "--size", "native", "--seeds", "2", "-o")  # fmt: skip
    here = call(app, *words, "here")
    there = call(app, "--server", server.url, *words, "there")
    assert here.exit_code == 0, here.output
    assert there.exit_code == 0, there.output
    known, found = files(Path("here")), files(Path("there"))
    assert list(found) == list(known)
    assert len([name for name in known if name.startswith("pictures/")]) == 6
    assert [n for n in known if found[n] != known[n]] in ([], ["table.csv"])
    untimed = [line for line in known["table.csv"].decode().splitlines() if ",seconds," not in line]
    assert len(untimed) > 10
    assert untimed == [
        line for line in found["table.csv"].decode().splitlines() if ",seconds," not in line
    ]
    picture = Path("there/pictures/1-1-1.png")
    picture.unlink()
    again = call(app, "--server", server.url, *words, "there")
    assert again.exit_code == 0, again.output
    assert picture.read_bytes() == known["pictures/1-1-1.png"]
    other = (*words[:-2], "1", *words[-1:])
    assert "of other seeds" in fails(app, 1, "--server", server.url, *other, "there")
    assert "leave it out" in fails(app, 1, "--server", server.url, *words, "new", "--device", "cpu")
    (job,) = server.ask("/v1/jobs?kind=compare&limit=1")["jobs"]
    fetched = call(app, "--server", server.url, "jobs", "fetch", job["id"], "-o", "fetched")
    assert fetched.stdout == "fetched/sheet.png\n", fetched.output
