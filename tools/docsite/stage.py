"""The folder that Sphinx reads: the pages of docs/, those made of the code, the examples.

Links lead to what they mean in the site: those between pages stay, those to a method's source lead
to its page, those to other files of the repository to a copy of the file.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from docsite import DOCS, ROOT, api, contents, examples, families, methods
from sfumato.methods import registry

PARTS = re.compile(r"(?ms)(^(`{3,}).*?^\2$|`[^`\n]+`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = ROOT / "src" / "sfumato"
PLACES = {
    ROOT / "README.md": "index.md",
    ROOT / "CHANGELOG.md": "changes.md",
    ROOT / "benchmarks" / "README.md": "benchmarks.md",
    ROOT / "examples": "examples/index.rst",
    DOCS / "gallery.md": "examples/index.rst",
    CODE / "__init__.py": "api.md",
    CODE / "methods": "methods/index.md",
    CODE / "models" / "loaders": "families/index.md",
}
"""Where in the site something of the repository is that is elsewhere, or goes by another name."""
OTHERS = ("CHANGELOG.md", "benchmarks/README.md")
"""Pages outside of docs/."""


@dataclass
class Stage:
    """A folder for Sphinx. written: what belongs there, relative to it."""

    folder: Path
    written: set[Path] = field(default_factory=set)

    def fill(self) -> None:
        """Write all, and leave nothing of before but what sphinx-gallery keeps."""
        below = contents.trees()
        for file in sorted(DOCS.rglob("*")):
            where = file.relative_to(DOCS).as_posix()
            if file.suffix == ".md" and file not in PLACES:
                text = self.linked(file.read_text(encoding="utf-8"), file, where)
                self.write(where, "\n\n".join(filter(None, [text, below.get(where)])))
            elif file.is_file() and file.suffix != ".md":
                self.copy(file, where)
        for name in OTHERS:
            text = (ROOT / name).read_text(encoding="utf-8")
            self.write(PLACES[ROOT / name], self.linked(text, ROOT / name, PLACES[ROOT / name]))
        for made in (methods.pages(), families.pages(), api.pages()):
            for where, text in made.items():
                self.write(where, self.linked(text, DOCS / "made.md", where))
        self.sweep("examples")
        self.forget_examples()

    def fill_examples(self) -> None:
        """Scripts for sphinx-gallery, with the pictures that they read."""
        for name, text in examples.staged().items():
            self.write(name, text)
        for name in ("strokes", "pictures"):
            for file in sorted((ROOT / "examples" / name).glob("*.png")):
                self.copy(file, f"{name}/{file.name}")
        self.sweep()

    def linked(self, text: str, source: Path, where: str) -> str:
        """The text of a file of the repository, its links as they lead from a place of the site."""

        def led(hit: re.Match[str]) -> str:
            return f"]({self.led(hit[1], source, where)})"

        parts = PARTS.split(text)
        for k in range(0, len(parts), 3):  # the others are code, and its fence
            parts[k] = LINK.sub(led, parts[k])
        return "".join(part for k, part in enumerate(parts) if k % 3 != 2)

    def led(self, link: str, source: Path, where: str) -> str:
        path, mark, section = link.partition("#")
        if ":" in path or not path:
            return link
        target = Path(os.path.normpath(source.parent / path))
        return f"{relative(self.place(target, where), where)}{mark}{section}"

    def place(self, target: Path, where: str) -> str:
        """Where in the site a file of the repository is; one that has no page is copied."""
        if target in PLACES:
            return PLACES[target]
        if target.parent == CODE / "methods" and target.stem in registry():
            return f"methods/{target.stem}.md"
        if target.parent == ROOT / "examples" and target in examples.scripts():
            return f"examples/{target.stem}.rst"
        if target.is_relative_to(DOCS):
            return target.relative_to(DOCS).as_posix()
        if not target.is_file():
            raise SystemExit(f"docsite: {where}: a link leads to {target}, which is no file")
        copied = f"files/{target.relative_to(ROOT).as_posix()}"
        self.copy(target, copied)
        return copied

    def write(self, where: str, text: str) -> None:
        """A file, left alone where it says so already, so that Sphinx need not read it again."""
        path = self._belongs(where)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")

    def copy(self, file: Path, where: str) -> None:
        path = self._belongs(where)
        if not path.is_file() or path.read_bytes() != file.read_bytes():
            shutil.copyfile(file, path)

    def _belongs(self, where: str) -> Path:
        self.written.add(Path(where))
        path = self.folder / where
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def sweep(self, kept: str = "") -> None:
        """Delete what was staged once and is no more. kept: a folder that is not ours."""
        for file in [path for path in self.folder.rglob("*") if path.is_file()]:
            own = file.relative_to(self.folder)
            if own not in self.written and own.parts[0] != kept:
                file.unlink()

    def forget_examples(self) -> None:
        """Make sphinx-gallery begin anew where an example is no more."""
        folder = self.folder / "examples"
        there = {page.stem for page in folder.glob("*.rst")} - {"index"}
        if there - {path.stem for path in examples.scripts()}:
            shutil.rmtree(folder)


def relative(target: str, where: str) -> str:
    """A path of the site as it leads from a page."""
    return PurePosixPath(os.path.relpath(target, PurePosixPath(where).parent)).as_posix()
