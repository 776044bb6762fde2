"""The documents as a site: what is staged for Sphinx, and the pages that the package tells itself.

`make docs` runs `python -m docsite`. The pages of docs/ are read as they are; a page for each
method, model family and example is made of the code, so that none can be forgotten.
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"
