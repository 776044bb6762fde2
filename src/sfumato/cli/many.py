"""The bodies of `sfumato sweep VERB` and `sfumato batch VERB`: many runs of one command line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from sfumato.cli import show, signals
from sfumato.cli.compose import composed
from sfumato.cli.options import Wanted, methods_of, plain
from sfumato.core.errors import SfumatoError
from sfumato.home import unstored
from sfumato.images import ImageInput
from sfumato.images.destination import Destination
from sfumato.methods import Method, described, field_of
from sfumato.models import batch as batches


def sweep(cls: type[Method] | None, wanted: list[Wanted], values: dict[str, Any]) -> None:
    """`sfumato sweep VERB`: pictures, sheet, page and curve of a field over its values."""
    from sfumato.measure.sweep import axis
    from sfumato.measure.sweep import sweep as swept

    over = axis(values["over"], cls.id if cls else "")
    made = composed(wanted, values).found(values)
    store = unstored() if values["no_store"] else nullcontext()
    total = len(over.values) * max(1, len(values["prompts"]))
    with store, show.counted(over.name, total, values["quiet"]) as update:
        done = swept(
            made.process,
            over,
            values["folder"],
            seeds=values["seeds"],
            seed=made.seed,
            prompts=values["prompts"],
            choose=values["choose"],
            parents=made.parents,
            progress=lambda k, n: update(k),
        )
    if values["as_json"]:
        data = {"folder": str(done.folder), "axis": over.name, "chosen": done.curve.chosen,
                "rule": done.curve.rule, "curve": done.curve.to_csv()}  # fmt: skip
        print(json.dumps(data))
    else:
        print(done.folder / "index.html")
        if done.curve.chosen is not None:
            show.errors.print(f"marked: {over.name} = {done.curve.chosen:g} ({done.curve.rule})")
    failed = [cell for cell in done.cells if cell.error]
    if failed:
        raise SfumatoError(
            f"{len(failed)} of {len(done.cells)} cells failed, the first: {failed[0].error}"
        )


COLUMNS = ("prompt", "negative", "label", "seed", "name")


def batch(cls: type[Method] | None, values: dict[str, Any]) -> None:
    """`sfumato batch VERB SOURCE`: the verb for every row of a folder or manifest."""
    target = Destination.of(values["output"], "name", "row")
    target.check([target.folder / "x"], embedded=0, makes=True)
    given = batches.rows(values["source"])
    shared = Shared(cls, values, target)
    store = unstored() if values["no_store"] else nullcontext()
    with store, show.counted("pictures", len(given), values["quiet"]) as update:
        count = itertools.count(1)

        def done(row: batches.Row, state: str) -> None:
            update(next(count))
            if state not in ("made", "skipped"):
                show.errors.print(f"{row.where}: {state}")

        with signals.patient():
            report = batches.run(given, shared.compose, target.folder, done=done)
    failures = [{"row": row.number, "where": row.where, "error": e} for row, e in report.failed]
    if values["as_json"]:
        print(json.dumps({"paths": [str(p) for p in report.made], "skipped": report.skipped,
                          "failed": failures}))  # fmt: skip
    else:
        for path in report.made:
            print(path)
    counts = f"{len(given) - report.skipped - len(failures)} made, {report.skipped} there already"
    if failures:
        raise SfumatoError(
            f"{counts}, {len(failures)} failed; {report.note} has them, and can be run again"
        )
    if not values["quiet"]:
        show.errors.print(counts)


class Shared:
    """One command line for all rows: the model is loaded once, a row's columns go on top."""

    def __init__(
        self, cls: type[Method] | None, values: dict[str, Any], target: Destination
    ) -> None:
        self.cls = cls
        self.target = target
        self.values = values
        self.models: dict[str, Any] = {}

    def compose(self, row: batches.Row) -> batches.Job:
        """A row's paths, and how its pictures are made."""
        values, above = dict(self.values), []
        for name, value in row.values.items():
            if name in COLUMNS:
                values[name] = self.column(name, value, row)
            elif "." in name:
                above.append(f"{name}={self.text(name, value, row)}")
            else:
                known = ", ".join(("image", "row", *COLUMNS))
                raise SfumatoError(
                    f"{row.where}: unknown column {name!r}; there are {known}, and METHOD.FIELD"
                )
        values["prompt"] = self.prompt(row)
        wanted = methods_of(self.cls, values, values["extra"], values.get("preset"), above)
        picture = picture_field(self.cls)
        if self.cls is not None and picture is not None:
            wanted = [self.pictured(w, picture, row) for w in wanted]
        elif row.image is not None:
            raise SfumatoError(f"{row.where}: has a picture, which generate does not take")
        made = composed(wanted, values, self.models)
        base = made.base
        paths = self.target.paths(
            base.prompt, made.seed, range(base.n), name=row.name, row=str(row.number)
        )
        self.target.check(paths, size=made.size, makes=True)
        return batches.Job(paths, lambda: made.found(values).sample())

    def column(self, name: str, value: Any, row: batches.Row) -> Any:
        """A column of the run: text, or a whole number."""
        if name not in ("seed", "label"):
            return str(value)
        try:
            return int(str(value))
        except ValueError:
            raise SfumatoError(f"{row.where}: {name} = {value!r} is no whole number") from None

    def text(self, name: str, value: Any, row: batches.Row) -> str:
        """A METHOD.FIELD column as --with takes it; pictures are relative to the manifest."""
        method, _, field = name.partition(".")
        kind = plain(field_of(method, field, row.where).annotation)
        if isinstance(value, list):
            return ",".join(map(str, value))
        if kind is ImageInput:
            return str(row.folder / str(value))
        return str(value)

    def prompt(self, row: batches.Row) -> str | None:
        """-p, in which {prompt} and {name} stand for the row's own; else the row's prompt."""
        own = row.values.get("prompt")
        shared: str | None = self.values["prompt"]
        if shared is not None and "{" in shared:
            if "{prompt}" in shared and own is None:
                raise SfumatoError(f"{row.where}: -p asks for {{prompt}}, the row has none")
            return shared.replace("{prompt}", str(own)).replace("{name}", row.name)
        return shared if own is None else str(own)

    def pictured(self, wanted: Wanted, field: str, row: batches.Row) -> Wanted:
        """The verb's method with the row's picture."""
        if wanted.cls is not self.cls:
            return wanted
        if row.image is None:
            raise SfumatoError(f"{row.where}: has no picture; {wanted.cls.id} needs one (image)")
        image = ImageInput.of(row.image)
        return Wanted(wanted.cls, {**wanted.values, field: image}, wanted.preset)


def picture_field(cls: type[Method] | None) -> str | None:
    """The required picture of a verb's method, which the rows of a batch bring."""
    known: Mapping[str, Any] = {} if cls is None else described(cls)
    return next(
        (n for n, i in known.items() if i.is_required() and plain(i.annotation) is ImageInput), None
    )
