"""Sphinx's configuration; `python -m docsite` stages what it reads."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from sphinx.search import languages
from sphinx.search.en import SearchEnglish

import sfumato
from docsite import examples, prose, search

logging.getLogger("sfumato").setLevel(logging.WARNING)  # what examples notice on their way

project = "sfumato"
author = "the authors of sfumato"
copyright = author
version = release = sfumato.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_gallery.gen_gallery"]
language = "en"
highlight_language = "bash"
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types of signatures; of ours the public ones have pages
myst_heading_anchors = 4
suppress_warnings = ["config.cache", "misc.highlighting_failure"]

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"sfumato {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "examples",
    "filename_pattern": examples.pattern(),
    "within_subsection_order": "docsite.examples.place",
    "image_scrapers": ("docsite.examples.sheet",),
    "reset_modules": (),
    "notebook_extensions": set(),
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 1e9,
    "capture_repr": (),
    "abort_on_example_error": True,
}

linkcheck_anchors = False
linkcheck_timeout = 10


class Search(SearchEnglish):
    """English, and Korean words before their endings."""

    def split(self, text: str) -> list[str]:
        return search.beginnings(super().split(text))


languages["en"] = Search


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", plain_docstring)
    app.connect("autodoc-process-signature", readable_signature)
    app.connect("html-page-context", own_language)


def plain_docstring(
    app: Any, what: str, name: str, of: Any, options: Any, lines: list[str]
) -> None:
    """Docstrings are plain text."""
    lines[:] = prose.restructured("\n".join(lines))


def readable_signature(
    app: Any, what: str, name: str, of: Any, how: Any, arguments: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Defaults that are no Python, such as <factory>, which Sphinx could not read."""
    return arguments and re.sub(r"<[^<>]*>", "...", arguments), returns


def own_language(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Pages of another language say so, for readers and screen readers."""
    if page.startswith("ko/"):
        context["language"] = "ko"
