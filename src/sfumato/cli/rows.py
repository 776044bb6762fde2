"""One command line for every row of a batch: the row's columns go on top of its options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfumato.cli.compose import Run, composed
from sfumato.cli.fields import Wanted, methods_of, plain
from sfumato.core.errors import SfumatoError, quoted, shortened
from sfumato.images import ImageInput
from sfumato.images.destination import Destination
from sfumato.methods import Method, described, field_of
from sfumato.models import batch as batches

COLUMNS = ("prompt", "negative", "label", "seed", "name")
_PLACES = re.compile(r"\{([a-z_]+)\}")


class CommandLine:
    """One command line for all rows: the model is loaded once, a row's columns go on top."""

    def __init__(
        self, cls: type[Method] | None, values: dict[str, Any], target: Destination
    ) -> None:
        self.cls = cls
        self.target = target
        self.values = values
        self.models: dict[str, Any] = {}
        for word in _PLACES.findall(values["prompt"] or ""):
            if word not in ("prompt", "name"):
                raise SfumatoError(
                    f"-p: {{{word}}} stands for nothing of a row; {{prompt}} and {{name}} do"
                )

    def job(self, row: batches.Row) -> batches.Job:
        """A row's paths, and how its pictures are made."""
        paths, run = self.composed(row)
        return batches.Job(paths, lambda: run.with_numbers(self.values).sample())

    def composed(self, row: batches.Row) -> tuple[list[Path], Run]:
        """A row's paths, and what makes its pictures."""
        values, assigned = dict(self.values), []
        for name, value in row.values.items():
            if name in COLUMNS:
                values[name] = self.column(name, value, row)
            elif "." in name:
                assigned.append(f"{name}={self.text(name, value, row)}")
            else:
                known = ", ".join(("image", "row", *COLUMNS))
                raise SfumatoError(
                    f"{row.where}: unknown column {quoted(name)}; there are {known}, and "
                    "METHOD.FIELD"
                )
        values["prompt"] = self.prompt(row)
        wanted = methods_of(self.cls, values, values["extra"], values.get("preset"), assigned)
        picture = picture_field(self.cls)
        if self.cls is not None and picture is not None:
            wanted = [self.pictured(w, picture, row) for w in wanted]
        elif row.image is not None:
            raise SfumatoError(f"{row.where}: has a picture, which generate does not take")
        run = composed(wanted, values, self.models)
        paths = self.target.paths(
            run.prompt, run.seed, range(run.n), name=row.name, row=str(row.number)
        )
        self.target.check(paths, size=run.size, makes=True)
        return paths, run

    def column(self, name: str, value: Any, row: batches.Row) -> Any:
        """A column of the run: text, or a whole number."""
        if name not in ("seed", "label"):
            return str(value)
        try:
            return int(str(value))
        except ValueError:
            raise SfumatoError(
                f"{row.where}: {name} = {shortened(repr(value))} is no whole number"
            ) from None

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
            texts = {"prompt": str(own), "name": row.name}
            return _PLACES.sub(lambda place: texts[place[1]], shared)
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
