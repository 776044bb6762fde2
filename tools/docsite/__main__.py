"""Build the site: `python -m docsite [--to FOLDER] [--no-figures | --links]`, from tools/.

--no-figures runs no example and shows the pictures that are kept. --links asks every foreign host
whether what is linked is there. A warning of Sphinx is an error.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sphinx.cmd.build import main as sphinx

from docsite import ROOT, foreign
from docsite.stage import Stage


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=ROOT / "out" / "docs", help="its folder")
    parser.add_argument("--no-figures", action="store_true", help="run no example")
    parser.add_argument("--links", action="store_true", help="ask whether foreign links lead on")
    given = parser.parse_args()
    source, target = given.to / "source", given.to / ("links" if given.links else "html")
    Stage(source).fill()
    Stage(given.to / "examples").fill_examples()
    figures = not (given.no_figures or given.links)
    words = [
        "-b", "linkcheck" if given.links else "html", "-W", "--keep-going", "-q",
        "-c", str(Path(__file__).parent), "-d", str(given.to / "doctrees"),
        "-D", f"plot_gallery={int(figures)}", str(source), str(target),
    ]  # fmt: skip
    code = int(sphinx(words))
    if code or given.links:
        return code
    if elsewhere := list(foreign.loads(target)):
        sys.exit("docsite: loads from elsewhere: " + "; ".join(elsewhere))
    print(target / "index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
