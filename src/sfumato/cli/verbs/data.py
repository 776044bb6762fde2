"""`sfumato data`: build the packed training set."""

from __future__ import annotations

from pathlib import Path

from sfumato.cli.options import argument, keyword
from sfumato.cli.verb import Verb
from sfumato.cli.verbs.shared import DEBUG, QUIET, refuse_empty
from sfumato.core.errors import SfumatoError
from sfumato.documents import is_folder
from sfumato.home import home

OPTIONS = (
    argument("what", "build-emoji"),
    keyword("output", str | None, None, "-o", "--output", text="folder; SFUMATO_HOME/data/emoji"),
    keyword("packages", str | None, None, "--packages", text="folder of the unpacked packages"),
    QUIET,
    DEBUG,
)


def data(what: str, output: str | None, packages: str | None, quiet: bool) -> None:
    """Build it; its folder on stdout."""
    from sfumato.cli import show
    from sfumato.train.data import build

    refuse_empty(packages=packages)
    if packages is not None and not is_folder(Path(packages)):
        raise SfumatoError(
            f"--packages {packages}: no such folder; leave it out to fetch the packages"
        )
    if what != "build-emoji":
        raise SfumatoError(f"data {what}: unknown; there is build-emoji")
    target = Path(output) if output else home() / "data" / "emoji"
    source = None if packages is None else Path(packages)
    build.build(target, source, say=(lambda line: None) if quiet else show.errors.print)
    print(target)


DATA = Verb(
    "data",
    data,
    "Build the packed training set.",
    OPTIONS,
    ("build-emoji", "build-emoji -o emoji/"),
    where="machine",
)
