"""The documents are true of the program: code runs, commands are read, links and files exist."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sfumato as sf
from helpers.pages import FENCE, check_sentences, prose, read_commands

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))
import gallery  # noqa: E402

FOLDERS = ("*.md", "docs/**/*.md", "benchmarks/*.md", "tests/**/*.md")
PAGES = sorted(
    (file for pages in FOLDERS for file in ROOT.glob(pages)),
    key=lambda page: str(page.relative_to(ROOT)),
)
RUN = [ROOT / "README.md", ROOT / "docs" / "architecture.md"]
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
NAMED = re.compile(r"(?<![\w./*<{])((?:[\w-]+/)+[\w.-]+\.(?:py|toml|md|csv|ipynb|txt))(?![\w/])")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


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
    read = read_commands(page.read_text(encoding="utf-8"), app, monkeypatch)
    assert name(page) not in ("README.md", "docs/command-line.md") or len(read) > 10


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_sentences_exist(page: Path, app: Any) -> None:
    check_sentences(page.read_text(encoding="utf-8"), app, name(page))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page.read_text(encoding="utf-8"))):
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
    text = LINK.sub("", prose(page.read_text(encoding="utf-8")))
    for path in NAMED.findall(text):
        places = (ROOT, ROOT / "src" / "sfumato", page.parent)
        assert any((place / path).exists() for place in places), (name(page), path)
    assert not re.search(r"\b(specs|shared)/", text), name(page)


def test_the_gallery_is_that_of_the_examples() -> None:
    assert gallery.PAGE.read_text(encoding="utf-8") == gallery.page()
    assert {script.stem for script in gallery.examples()} == set(gallery.ORDER)
