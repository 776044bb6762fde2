"""The examples as sphinx-gallery takes them, and how it finds their pictures.

An example writes NAME.png beside itself. The quick ones are run by the build; of the others the
page shows the sheet that is kept in docs/gallery.
"""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path
from typing import Any

from docsite import EXAMPLES

sys.path.insert(0, str(EXAMPLES))
import gallery

HEADER = """Gallery
=======

Each method is a script of ten lines (DreamBooth, which teaches first, of thirty). Their pictures
are unselected, of the bundled model, which hardly knows scenes and company. What they begin from
lies in `strokes` and `pictures`, beside the scripts of the repository.
"""


def scripts() -> list[Path]:
    """The examples, each of which is a page."""
    return gallery.examples()


def caption(name: str) -> str:
    """What an example shows, in a line."""
    return gallery.caption(EXAMPLES / f"{name}.py")


def staged() -> dict[str, str]:
    """Scripts by their names, as sphinx-gallery wants them, and the text above them."""
    return {path.name: script(path) for path in scripts()} | {"GALLERY_HEADER.rst": HEADER}


def script(path: Path) -> str:
    """An example with a title; one that is not run shows its kept picture.

    sphinx-gallery has no __file__, and runs a script in its folder.
    """
    text = path.read_text(encoding="utf-8")
    written = ast.get_docstring(ast.parse(text)) or path.stem
    code = text.split('"""', 2)[2].replace("Path(__file__).parent", "Path.cwd()").lstrip("\n")
    title, _, rest = written.partition(":")
    caption, _, more = (rest or title).strip().partition("\n\n")
    lines = [title, "=" * len(title), "", caption[:1].upper() + caption[1:], ""]
    lines += [more, ""] if more else []
    if path.stem not in gallery.QUICK:
        lines += [f".. image:: /gallery/{path.stem}.webp", f"   :alt: {title}", ""]
    told = f"# sphinx_gallery_thumbnail_path = 'gallery/{path.stem}.webp'"
    return f'r"""\n{chr(10).join(lines)}"""\n\n{code}\n{told}\n'


def pattern() -> str:
    """Of the paths of scripts that the build runs."""
    return rf"[\\/]({'|'.join(gallery.QUICK)})\.py$"


def place(name: str) -> tuple[int, str]:
    """By which the gallery is sorted."""
    stem = Path(name).stem
    return gallery.place(stem), stem


def sheet(block: Any, variables: Any, conf: Any) -> str:
    """The picture that an example has written, as sphinx-gallery asks for it after a block."""
    source = Path(variables["src_file"])
    picture = source.with_suffix(".png")
    if not picture.is_file():
        return ""
    target = Path(next(variables["image_path_iterator"]))
    shutil.move(picture, target)
    at = target.relative_to(conf["src_dir"]).as_posix()
    return f"\n.. image:: /{at}\n   :alt: {source.stem.replace('_', ' ')}\n\n"
