"""The house itself: how far a call goes, how long files are, and that a method is one file."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import sfumato as sf
from helpers.installed import installed
from helpers.program import call
from sfumato import methods
from sfumato.core.context import Call, Restart
from sfumato.core.denoiser import Denoiser
from sfumato.core.guides import Guide
from sfumato.core.process import Process
from sfumato.core.schedule import linear
from sfumato.core.solvers import SOLVERS
from sfumato.core.taps import Site, Tap
from sfumato.models.cascade import Cascade

SOURCE = Path(sf.__file__).parent


class Watched:
    """A network in another's place, which says nothing and notes how deep in `sample` it is asked.

    out: its channels.
    """

    def __init__(self, net: Any, out: int) -> None:
        self.net, self.out = net, out
        self.depths: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.net, name)

    def __call__(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor], *taps: Any) -> Tensor:
        frame, names = inspect.currentframe(), []
        while frame is not None and frame.f_code.co_name != "sample":
            frame = frame.f_back
            names.append(frame.f_code.co_name if frame else "")
        self.depths.append(len(names) - 1)  # between the two
        return x.new_zeros(len(x), self.out, *x.shape[2:])


WRAPPER = 1
"""The frame between a Denoiser and a network of diffusers."""


class Inside(Tap):
    """Acts, and changes nothing."""

    name = "inside"

    def feature(self, h: Tensor, site: Site, call: Call) -> Tensor:
        return h


class Once(Guide):
    """Asks for another attempt, one time."""

    name = "once"
    asked = False

    def arrive(self, x: Tensor, s: float, call: Call) -> Tensor:
        if s == 0 and not self.asked:
            self.asked = True
            raise Restart(1.0)
        return x


def watched(process: Process) -> tuple[Process, Watched]:
    denoiser, channels = process.denoiser, process.denoiser.network.config.out_channels
    network = Watched(denoiser.network, channels)
    return replace(process, denoiser=replace(denoiser, network=network)), network


@cache
def bundled() -> sf.Model:
    return sf.load("emoji", dtype="float32")


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_an_evaluation_is_at_most_seven_frames_from_sample_to_the_network(solver: str) -> None:
    """Of a cascade too, in its upsamplers, with taps, guidance, a restart, a batch in pieces."""
    cascade = bundled().process("rose", n=2, steps=3, solver=solver)
    assert isinstance(cascade, Cascade)
    cascade = cascade | sf.CFG(scale=2.0)
    base, seen = watched(cascade.base)
    upsampler, more = watched(cascade.upsamplers[0])
    pieces = Cascade(replace(base, rows_max=1), (upsampler,))
    (pieces | Inside() | Once()).sample()
    scaled = Watched(None, 3)
    Process(Denoiser(scaled, linear(), "edm"), (3, 8, 8), n_steps=3, solver=solver).sample()
    deepest = max(seen.depths + more.depths + scaled.depths)
    assert deepest + WRAPPER <= 7


def lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(
    "file", sorted(SOURCE.rglob("*.py")), ids=lambda f: str(f.relative_to(SOURCE))
)
def test_a_file_holds_one_idea(file: Path) -> None:
    part = file.relative_to(SOURCE)
    most = 350
    if part == Path("core/loop.py"):
        most = 199
    elif part.parent == Path("methods") and part.name != "__init__.py":
        most = 199 if part.stem in ("sdedit", "ilvr", "inpaint", "diffstyler") else 149
    assert lines(file) <= most


def importers(package: str, module: str) -> set[Path]:
    """Files that import a module of methods/."""
    line = f"from sfumato.methods.{package}.{module} import"
    return {file for file in SOURCE.rglob("*.py") if line in file.read_text(encoding="utf-8")}


def test_what_is_common_serves_several_and_what_is_inner_serves_one_method() -> None:
    methods = SOURCE / "methods"
    for file in (methods / "common").glob("[a-z]*.py"):
        assert len(importers("common", file.stem)) > 1, file
    for file in (methods / "inner").glob("[a-z]*.py"):
        served = [user for user in importers("inner", file.stem) if user.parent == methods]
        assert len(served) == 1, file


def test_scripts_import_what_there_is() -> None:
    """They are run by hand, so that nobody else would notice."""
    root = SOURCE.parents[1]
    for script in (one for folder in SCRIPTS for one in root.glob(f"{folder}/*.py")):
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sfumato"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    inside = hasattr(module, alias.name)
                    assert inside or find_spec(f"{node.module}.{alias.name}"), (script, alias.name)


SCRIPTS = ("benchmarks", "examples", "tools")
TOP = {
    ".ci", ".dockerignore", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "NOTICE",
    "README.md",
    "benchmarks", "clients", "constraints.txt", "deploy", "docs", "examples", "pyproject.toml",
    "recipes", "src", "tests", "tools", "web",
}  # fmt: skip


def test_nothing_of_a_trial_is_kept() -> None:
    """Pictures, rows and folders that a command leaves behind where it was tried."""
    git = ("git", "-C", str(SOURCE.parents[1]), "ls-files", "-z")
    ran = subprocess.run(git, capture_output=True, text=True, check=False)
    if ran.returncode:
        pytest.skip("no checkout of git")
    assert {name.split("/")[0] for name in ran.stdout.split("\0") if name} <= TOP


METHOD = '''
"""Shift: a method of another package."""

from typing import Annotated, ClassVar

from sfumato.methods import Method, knob, method


@method
class Shift(Method):
    """Nothing but a number."""

    verb: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = ("--by 2",)

    by: Annotated[float, knob("how far", main=True, ge=0, le=9)] = 1.0

    def __call__(self, process):
        return process
'''


def test_a_method_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Found by its entry point: verb, help, schema, recipe; no other file is touched."""
    with installed("Shift", METHOD, tmp_path, monkeypatch) as shift:
        assert methods.schema(shift)["properties"]["by"]["maximum"] == 9
        assert "Shift" in json.dumps(methods.recipe_schema())
        again = methods.from_data(json.loads(json.dumps(methods.to_data(shift(by=2.0)))))
        assert again == shift(by=2.0)
        app = request.getfixturevalue("app")
        said = call(app, "shift", "--help").output
        assert "a method of another package" in said
        assert "how far" in said
        assert "shift" in call(app, "--help").output
