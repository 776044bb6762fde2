"""`sfumato batch VERB`: a verb for every row of a folder or manifest."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from sfumato.cli.makers import Maker
from sfumato.cli.options import argument, keyword
from sfumato.cli.verb import Group, Verb
from sfumato.cli.verbs import many
from sfumato.cli.verbs.shared import NO_STORE, storing
from sfumato.core.errors import SfumatoError
from sfumato.methods import Method

if TYPE_CHECKING:
    from sfumato.cli.rows import CommandLine
    from sfumato.models.batch import Job, Row

ROWS = argument("source", "folder of pictures, or .csv, .jsonl, .txt; README says how")
OPTIONS = (
    keyword(
        "output",
        str,
        "batch/{name}-{seed}.png",
        "-o",
        "--output",
        text="pattern with {name} {row} {prompt} {seed} {i}; what exists is skipped",
    ),
    NO_STORE,
    keyword("ray", str | None, None, "--ray", text="cluster HOST:PORT or auto that makes them"),
)
EXAMPLES = (
    'sdedit paintings/ -p "{name}" -o "edited/{name}.png"',
    'generate prompts.csv --with cfg.scale=4 -o "out/{row}-{seed}.png"',
)


def group(makers: list[Maker]) -> Group:
    """`batch`: every verb that makes pictures is there again."""
    text = "A verb for every row of a folder or manifest."
    return Group("batch", text, EXAMPLES, lambda: tuple(verb(maker) for maker in makers))


def verb(maker: Maker) -> Verb:
    """`batch VERB`; the rows bring the picture."""

    def body(**values: Any) -> None:
        batch(maker.cls, values)

    fields = [field for field in maker.fields if field.kind is Parameter.KEYWORD_ONLY]
    return Verb(
        maker.name,
        body,
        maker.text,
        (ROWS, *fields, *many.options(maker, OPTIONS)),
        ("rows.csv", 'pictures/ -p "{name}" -o "made/{name}.png"'),
        maker.first,
    )


def made_of(
    address: str | None, line: CommandLine, rows: list[Row]
) -> AbstractContextManager[Callable[[Row], Job]]:
    """How each row's pictures are made: one by one here, or all by a cluster or a server."""
    from sfumato.cli.remote import batching
    from sfumato.cli.remote.chosen import chosen

    server = chosen()
    if server is not None and address is not None:
        raise SfumatoError("--ray: a server does this batch; leave --ray or --server out")
    if server is not None:
        return batching.sent(server, line, rows)
    if address is None:
        return nullcontext(line.job)
    from sfumato.cli.scaled import spread

    return spread(address, line, rows)


def batch(cls: type[Method] | None, values: dict[str, Any]) -> None:
    """Make every row's pictures; a row that fails is noted, and the others go on."""
    from sfumato.cli import show, signals
    from sfumato.cli.rows import CommandLine
    from sfumato.images.destination import Destination
    from sfumato.models import batch as batches

    target = Destination.of(values["output"], "name", "row")
    target.check([target.folder / "x"], embedded=0, makes=True)
    rows = batches.read_rows(values["source"])
    line = CommandLine(cls, values, target)
    with (
        storing(values),
        show.counted("pictures", len(rows), values["quiet"]) as update,
        signals.patient(),
        made_of(values["ray"], line, rows) as job,
    ):
        count = itertools.count(1)

        def done(row: Row, state: str) -> None:
            update(next(count))
            if state not in ("made", "skipped", batches.UNREACHED):
                show.errors.print(f"{row.where}: {state}")

        report = batches.run(rows, job, target.folder, notify=done)
    failures = [{"row": row.number, "where": row.where, "error": e} for row, e in report.failed]
    if values["as_json"]:
        print(json.dumps({"paths": [str(p) for p in report.made], "skipped": report.skipped,
                          "failed": failures}))  # fmt: skip
    else:
        for path in report.made:
            print(path)
    counts = f"{len(rows) - report.skipped - len(failures)} made, {report.skipped} there already"
    if failures:
        raise SfumatoError(
            f"{counts}, {len(failures)} failed; {report.note} has them, and can be run again"
        )
    if not values["quiet"]:
        show.errors.print(counts)
