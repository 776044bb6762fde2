"""The documents are true of the program: code runs, commands are read, links and files exist."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.core import TyperCommand
from typer.testing import CliRunner

import sfumato as sf
from sfumato.cli.fields import assignments
from sfumato.cli.main import WITH_VALUE

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))
import gallery  # noqa: E402

FOLDERS = ("*.md", "docs/**/*.md", "benchmarks/*.md", "tests/**/*.md")
PAGES = sorted(
    (file for pages in FOLDERS for file in ROOT.glob(pages)),
    key=lambda page: str(page.relative_to(ROOT)),
)
RUN = [ROOT / "README.md", ROOT / "docs" / "architecture.md"]
FENCE = re.compile(r"(?ms)^(<!-- not run: .+? -->\n)?```(\w*)\n(.*?)^```$")
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
NAMED = re.compile(r"(?<![\w./*<{])((?:[\w-]+/)+[\w.-]+\.(?:py|toml|md|csv|ipynb|txt))(?![\w/])")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def commands(page: Path) -> Iterator[list[str]]:
    """Every command line of the program in a page's blocks, as a shell splits it."""
    for _, language, code in FENCE.findall(page.read_text(encoding="utf-8")):
        if not language:
            for line in code.replace("\\\n", " ").splitlines():
                if line.startswith("sfumato "):
                    yield shlex.split(line, comments=True)[1:]


def mentioned(page: Path) -> Iterator[list[str]]:
    """The words of every `sfumato ...` inside a sentence."""
    for code in re.findall(r"`(sfumato [^`]+)`", prose(page)):
        yield code.split()[1:]


command_of: Any = cache(typer.main.get_command)  # made once, not for every call


def verbs(app: Any) -> dict[str, Any]:
    """The program's verbs and groups of verbs, by name."""
    return dict(command_of(app).commands)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("page", RUN, ids=name)
def test_code_runs_as_printed(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: Any
) -> None:
    """One after the other, in a folder with the pictures that they name; two steps, the base."""
    blocks = FENCE.findall(page.read_text(encoding="utf-8"))
    codes = [code for unrun, language, code in blocks if language == "python" and not unrun]
    assert codes
    monkeypatch.chdir(tmp_path)
    painting = Image.open(ROOT / "examples" / "strokes" / "red-apple.png")
    for file in ("strokes.png", "photo.png"):
        painting.save(file)
    process = sf.Model.process

    def small(self: sf.Model, prompt: str = "", **given: Any) -> Any:
        return process(self, prompt, **{"steps": 2, "stages": 1, **given})

    monkeypatch.setattr(sf.Model, "process", small)
    Path("page.py").write_text("\n".join(codes), encoding="utf-8")
    runpy.run_path("page.py", run_name="page")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_code_that_is_not_run_can_be_read(page: Path) -> None:
    """And names only what there is."""
    for _, language, code in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            compile(code, name(page), "exec")
            for public in re.findall(r"\bsf\.(\w+)", code):
                assert hasattr(sf, public), (name(page), public)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_scripts_and_targets_exist(page: Path) -> None:
    """Of `python FILE` and `make TARGET`, in blocks and in sentences."""
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"))
    for script in re.findall(r"(?m)(?:^|`)python3? ([\w/.-]+\.py)", text):
        assert (ROOT / script).is_file(), (name(page), script)
    for target in re.findall(r"(?m)(?:^|`)make (\w+)", text):
        assert target in targets, (name(page), target)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_are_read(page: Path, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[dict[str, Any]] = []
    monkeypatch.setattr("typer.testing._get_command", command_of)
    monkeypatch.setattr(TyperCommand, "invoke", lambda self, context: read.append(context.params))
    alone = "sfumato.cli.main.guarded"  # of groups that do something without a verb
    monkeypatch.setattr(alone, lambda body, values, debug: read.append(values))
    groups = {name for name, verb in verbs(app).items() if hasattr(verb, "commands")}
    for words in commands(page):
        if len(words) == 1 and words[0] in groups:  # it would list, and there is nothing to read
            continue
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (words, done.output)
    for values in read:
        assignments(values.get("extra") or [])
    assert name(page) not in ("README.md", "docs/command-line.md") or len(read) > 10


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_sentences_exist(page: Path, app: Any) -> None:
    for words in mentioned(page):
        known, flags = verbs(app), {"--help", "--help-all", "--version", *WITH_VALUE, "--detach"}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in flags, (name(page), words)
            elif known and word.strip(".").islower():
                assert word in known, (name(page), words)
                flags |= {flag for option in known[word].params for flag in option.opts}
                known = getattr(known[word], "commands", {})


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        path, _, section = link.partition("#")
        if ":" in path:
            continue
        target = (page.parent / path).resolve()
        assert target.exists(), (name(page), link)
        assert target.is_relative_to(ROOT), (name(page), link)
        if section:
            heads = re.findall(r"(?m)^#+ (.+)$", target.read_text(encoding="utf-8"))
            slugs = {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}
            assert section in slugs, (name(page), link)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_named_are_there(page: Path) -> None:
    """By their path from the repository's root, the package, or the page's folder."""
    text = LINK.sub("", prose(page))
    for path in NAMED.findall(text):
        places = (ROOT, ROOT / "src" / "sfumato", page.parent)
        assert any((place / path).exists() for place in places), (name(page), path)
    assert not re.search(r"\b(specs|shared)/", text), name(page)


def test_the_gallery_is_that_of_the_examples() -> None:
    assert gallery.PAGE.read_text(encoding="utf-8") == gallery.page()
    assert {script.stem for script in gallery.examples()} == set(gallery.ORDER)
