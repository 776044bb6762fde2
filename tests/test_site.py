"""The site's pages: made of the code they tell of, complete, and alike in every language."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sfumato as sf
from helpers.pages import FENCE, check_sentences, prose, read_commands
from sfumato.methods import registry
from sfumato.models.loaders import diffusers, flows

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "tools"))
from docsite import api, contents, examples, families, foreign, methods, search, stage  # noqa: E402
from docsite import prose as texts  # noqa: E402

KOREAN = sorted((DOCS / "ko").glob("*.md"))
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def choices(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [DOCS / "choose.md", DOCS / "ko" / "choose.md"], ids=("en", "ko"))
def test_every_method_can_be_chosen(page: Path, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in the table with a link and a command that the program reads."""
    text = choices(page)
    named = set(re.findall(r"\[\w+\]\((?:\.\./)+src/sfumato/methods/(\w+)\.py\)", text))
    assert named == set(registry())
    code = re.findall(r"`((?:sfumato|--)[^`]*)`", text)
    whole = [one if one.startswith("sfumato") else f"sfumato generate {one}" for one in code]
    lines = [line for line in whole if line != "sfumato compare" and line != "sfumato sweep"]
    assert len(lines) > len(registry())
    read = read_commands("```\n" + "\n".join(lines) + "\n```\n", app, monkeypatch)
    assert len(read) == len(lines)


@pytest.mark.parametrize("page", KOREAN, ids=lambda page: page.stem)
def test_languages_say_the_same(page: Path) -> None:
    """Code, commands, links and tables are those of the English page of the same name."""
    ours, theirs = (choices(file) for file in (page, DOCS / page.name))

    def code(text: str) -> list[str]:
        blocks = [block for _, _, block in FENCE.findall(text)]
        return [re.sub(r" +#.*", "", block) for block in blocks]

    def commands(text: str) -> list[str]:
        return sorted(re.findall(r"`((?:sfumato|--)[^`]*)`", prose(text)))

    def links(text: str, file: Path) -> list[Path]:
        return sorted((file.parent / path).resolve() for path, _ in LINK.findall(prose(text)))

    def shape(text: str) -> list[int]:
        counted = (r"(?m)^#", r"(?m)^\|", r"(?m)^- ")
        return [len(re.findall(pattern, prose(text))) for pattern in counted]

    assert code(ours) == code(theirs)
    assert commands(ours) == commands(theirs)
    assert shape(ours) == shape(theirs)
    here = {DOCS / "ko" / name.name for name in KOREAN}
    mine = [DOCS / link.name if link in here else link for link in links(ours, page)]
    other = [DOCS / link.name if link in here else link for link in links(theirs, DOCS / page.name)]
    assert sorted(mine) == sorted(other)


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the pictures that examples name."""
    monkeypatch.chdir(tmp_path)
    for name in ("photo.png", "edges.png", "mask.png"):
        Image.new("RGB", (8, 8), "white").save(name)
    return tmp_path


def test_methods_pages_are_true(app: Any, monkeypatch: pytest.MonkeyPatch, pictures: Path) -> None:
    """Their commands are read, their Python makes the method, their tables have every field."""
    made = methods.pages()
    for name, cls in registry().items():
        page = made[f"methods/{name}.md"]
        assert read_commands(page, app, monkeypatch), name
        check_sentences(page, app, name)
        (line,) = (code for _, language, code in FENCE.findall(page) if language == "python")
        composed = eval(line.partition(" | ")[2], {"sf": sf})
        assert type(composed) is cls
        for field in methods.described(cls):
            assert f"\n| `{field}` |" in page, (name, field)
        assert f"](methods/{name}.md)" in made["methods/index.md"]


def test_a_fields_row_says_what_it_takes() -> None:
    page = methods.page(sf.SDEdit)
    assert "| `t0` | `--t0` | 0 to 1 |  | start level, 0.5 if none is given |" in page
    assert "| `image` | `IMAGE` | a picture | required |" in page
    assert "| `alpha_bar` | `--alpha-bar` | above 0, at most 1 |" in page
    assert "| `composite` | `--composite` | `level`, `reference` | `level` |" in page
    assert "| `window` | `--with cfg.window=` | 2 numbers (t) | `0 1` |" in methods.page(sf.CFG)


def test_every_family_has_a_page() -> None:
    """Each line of docs/models.md's table, each loader of a transformer."""
    told = [row for family in families.FAMILIES for row in families.rows_of(family)]
    assert set(families.rows()) == set(told)
    loaders = {load.__module__.rpartition(".")[2] for load in flows.FAMILIES.values()}
    loaders |= {load.__module__.rpartition(".")[2] for load in diffusers.TRANSFORMERS.values()}
    assert loaders <= {name for family in families.FAMILIES for name in family.loaders}
    for family in families.FAMILIES:
        assert len(families.rows_of(family)) == len(family.rows), family.name
        page = families.page(family)
        assert all(f"## {title}" in page for title in family.sections)


def test_a_familys_page_tells_of_that_family() -> None:
    flux = next(family for family in families.FAMILIES if family.name == "flux")
    told = families.page(flux).partition("## Flow models")[2]
    assert "**Kontext** reads a picture" in told
    assert "**Times**" in told
    assert "Flux.2 Klein**" not in told
    released = {name for name in ("openai", "vdiffusion") for name in families.loader(name).PRESETS}
    made = "".join(families.pages().values())
    assert all(made.count(f"| `{name}` |") == 1 for name in released)


def test_families_commands_are_read(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for where, page in families.pages().items():
        assert where == "families/index.md" or read_commands(page, app, monkeypatch)


def test_every_public_name_is_on_the_page_of_python() -> None:
    listed = [name for names in api.GROUPS.values() for name in names]
    assert sorted(listed) == sorted(sf._HOME)


def test_staged_pages_lead_to_each_other(tmp_path: Path) -> None:
    """And every page is somewhere in the navigation."""
    source = stage.Stage(tmp_path / "source")
    source.fill()
    scripts = {f"examples/{path.stem}.rst" for path in examples.scripts()}
    there = {file.relative_to(source.folder).as_posix() for file in files(source.folder)}
    there |= {"examples/index.rst", *scripts}
    for page in source.folder.rglob("*.md"):
        at = page.relative_to(source.folder).as_posix()
        for link, _ in LINK.findall(prose(page.read_text(encoding="utf-8"))):
            if ":" not in link:
                target = stage.relative((Path("/") / at).parent.joinpath(link).as_posix(), "/x")
                assert target in there, (at, link)
    pages = {name.removesuffix(".md") for name in there if name.endswith(".md")}
    listed = {name for names in contents.CONTENTS.values() for name in names}
    made = {name for name in pages if name.startswith(("methods/", "families/", "decisions/"))}
    assert pages - made - listed == {"index"}


def test_staging_again_writes_nothing(tmp_path: Path) -> None:
    """So that Sphinx reads again only what has changed."""
    source = stage.Stage(tmp_path)
    source.fill()
    (tmp_path / "gone.md").write_text("a page of before")
    before = {file: file.stat().st_mtime_ns for file in files(tmp_path)}
    again = stage.Stage(tmp_path)
    again.fill()
    after = {file: file.stat().st_mtime_ns for file in files(tmp_path)}
    assert before.keys() - after.keys() == {tmp_path / "gone.md"}
    assert all(before[file] == time for file, time in after.items())


def test_an_example_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    """sphinx-gallery would leave its page, which no navigation holds."""
    kept, gone = tmp_path / "examples" / "sdedit.rst", tmp_path / "examples" / "gone.rst"
    kept.parent.mkdir()
    kept.write_text("a page of before")
    stage.Stage(tmp_path).forget_examples()
    assert kept.is_file()
    gone.write_text("a page of before")
    stage.Stage(tmp_path).forget_examples()
    assert not kept.is_file()


def files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file())


def test_examples_are_staged_with_a_title_and_a_picture() -> None:
    staged = examples.staged()
    quick, slow = staged["sdedit.py"], staged["outpaint.py"]
    assert quick.startswith('r"""\nSDEdit, strokes to picture\n====')
    assert ".. image:: /gallery/outpaint.webp" in slow
    assert ".. image::" not in quick
    for name, text in staged.items():
        if name.endswith(".py"):
            compile(text, name, "exec")
            assert "__file__" not in text


@pytest.mark.parametrize(
    ("plain", "markdown", "restructured"),
    [
        ("|eps| of *all* x_0", r"\|eps\| of \*all\* x_0", r"\|eps\| of \*all\* x_0"),
        ("`a|b` of <x>", r"`a|b` of \<x>", "``a|b`` of <x>"),
        ("- no list", r"\- no list", "- no list"),
    ],
)
def test_docstrings_are_plain_text(plain: str, markdown: str, restructured: str) -> None:
    assert texts.markdown(plain) == markdown
    assert texts.restructured(plain)[0] == restructured


def test_formulas_stay_as_they_are() -> None:
    text = "one of\n  content    cos(E(x), E(y))\n  style      -|G|^2\nand no more."
    assert texts.markdown(text) == (
        "one of\n\n```text\ncontent    cos(E(x), E(y))\nstyle      -|G|^2\n```\n\nand no more."
    )


def test_papers_are_links() -> None:
    assert texts.inline("SDEdit (arXiv 2108.01073)") == (
        "SDEdit ([arXiv 2108.01073](https://arxiv.org/abs/2108.01073))"
    )


def test_korean_words_are_found_before_their_endings() -> None:
    assert search.beginnings(["마스크에서", "mask"]) == [
        "마스크에서", "mask", "마스", "마스크", "마스크에",
    ]  # fmt: skip


def test_what_a_page_loads_from_elsewhere_is_found(tmp_path: Path) -> None:
    """A link that a reader may follow is not loaded."""
    (tmp_path / "page.html").write_text(
        '<a href="https://arxiv.org">x</a><script async src="https://cdn.example/m.js"></script>'
        '<link rel="stylesheet" href="//fonts.example/a.css"><img src="a.png">'
    )
    (tmp_path / "a.css").write_text('b { background: url("https://x.example/a.png") }')
    assert [text.partition(": ")[0] for text in foreign.loads(tmp_path)] == [
        "a.css", "page.html", "page.html",
    ]  # fmt: skip
