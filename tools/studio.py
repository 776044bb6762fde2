"""The studio's page, built of web/ into the package: types of the API and the names of other
programs' samplers, then the page itself.

    python tools/studio.py [--types | --check]

--types writes types and names alone. --check builds anew elsewhere and says which of the
committed files differ. Needs node, and `npm ci` in web/, which `make studio` sees to.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from sfumato.core.spacing import RULES
from sfumato.recipe.foreign import samplers
from sfumato.server.api.app import routed

ROOT = Path(__file__).parents[1]
WEB = ROOT / "web"
PAGE = ROOT / "src" / "sfumato" / "server" / "page"
TYPES = WEB / "src" / "api" / "schema.d.ts"
NAMES = WEB / "src" / "png" / "samplers.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="build elsewhere and compare")
    parser.add_argument("--types", action="store_true", help="only the API's types")
    given = parser.parse_args()
    if not (WEB / "node_modules" / ".bin" / "vite").is_file():
        sys.exit("studio: vite is missing in web/node_modules; `npm ci --prefix web` installs it")
    with tempfile.TemporaryDirectory() as folder:
        page, types = (Path(folder) / "page", Path(folder) / "schema.d.ts")
        names = Path(folder) / "samplers.json"
        write_types(types if given.check else TYPES, Path(folder))
        write_names(names if given.check else NAMES)
        if given.types:
            return
        build(page if given.check else PAGE)
        if given.check:
            other = [*differing(page, PAGE)]
            pairs = ((types, TYPES), (names, NAMES))
            other += [old.relative_to(ROOT) for new, old in pairs if differ(new, old)]
            if other:
                which = ", ".join(map(str, other))
                sys.exit(f"studio: not as built: {which}; `make studio`, and commit them")


def write_types(target: Path, folder: Path) -> None:
    """TypeScript's types of the server's own document."""
    document = folder / "openapi.json"
    document.write_text(json.dumps(routed().openapi()))
    call("openapi-typescript", document, "--output", target, "--default-non-nullable", "false")


def write_names(target: Path) -> None:
    """What other programs call solvers and spacings, as the library reads them."""
    tables = {
        "samplers": samplers.SAMPLERS, "spacings": samplers.SPACINGS,
        "automatic": samplers.AUTOMATIC, "rules": [*RULES],
    }  # fmt: skip
    target.write_text(json.dumps(tables, indent=2) + "\n", encoding="utf-8")


def differ(new: Path, old: Path) -> bool:
    return not (old.is_file() and filecmp.cmp(new, old, shallow=False))


def build(target: Path) -> None:
    call("vite", "build", "--logLevel", "warn", "--outDir", target, "--emptyOutDir")


def differing(made: Path, kept: Path) -> list[Path]:
    """Files that are in one alone, or differ."""
    names = {
        file.relative_to(at) for at in (made, kept) for file in at.rglob("*") if file.is_file()
    }
    return sorted(
        PAGE.relative_to(ROOT) / name for name in names
        if not (made / name).is_file() or not (kept / name).is_file()
        or not filecmp.cmp(made / name, kept / name, shallow=False)
    )  # fmt: skip


def call(program: str, *words: str | Path) -> None:
    node = shutil.which("node")
    if node is None:
        sys.exit("studio: node is missing, which builds the page; Node 20 or newer is needed")
    path = WEB / "node_modules" / ".bin" / program
    made = subprocess.run([path, *words], cwd=WEB, check=False)
    if made.returncode:
        sys.exit(f"studio: {program} failed with status {made.returncode}")


if __name__ == "__main__":
    main()
