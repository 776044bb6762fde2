"""An evaluation that a server does: rows come as they are measured, then the report.

A user's own features stay here, and measure pictures that come from there.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from PIL import Image

from sfumato import documents
from sfumato.cli.remote.chosen import Chosen
from sfumato.cli.remote.connection import RefusedError
from sfumato.cli.remote.server import Server, done, server_of
from sfumato.measure import heldout
from sfumato.measure.evaluate import Answers, Own, line, loss_lines, pixels
from sfumato.metrics.kernel import Estimate
from sfumato.recipe.names import bare
from sfumato.server.events import AnyEvent, PictureMade
from sfumato.server.jobs import File

LIMIT = 64 << 20
REPORT = "report.json"


def evaluated(
    chosen: Chosen,
    model: str,
    *,
    own: Own | None,
    styles: Sequence[str],
    scales: Sequence[float | None],
    n: int,
    seed: int,
    dtype: str,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The report, as measure.evaluate gives it."""
    server = server_of(chosen)
    server.model(bare(model))
    asked = {
        "kind": "eval", "model": bare(model), "styles": list(styles), "scales": list(scales),
        "n": n, "seed": seed, "dtype": dtype, "pictures": own is not None,
    }  # fmt: skip
    (id,) = server.send([asked])
    rows = Rows(server, id, own, n, say)
    job = done(server.follow(id, rows.watch))
    report = next(file for file in job.results if file.name == REPORT)
    for file in job.results:  # those whose events were missed
        rows.take(file)
    evaluation = documents.parse_json(dict[str, Any], server.fetch(id, report), REPORT)
    losses = {t: {k: Estimate(**v) for k, v in parts.items()}
              for t, parts in evaluation["denoising"].items()}  # fmt: skip
    for text in loss_lines(losses):
        say(text)
    return {**evaluation, "answers": [asdict(answers) for answers in rows.answers]}


@dataclass
class Rows:
    """Rows as they come. files: of pictures, by the row that they are of."""

    server: Server
    id: str
    own: Own | None
    n: int
    say: Callable[[str], None]
    answers: list[Answers] = field(default_factory=list)
    files: dict[str, dict[str, File]] = field(default_factory=dict)

    def watch(self, event: AnyEvent) -> None:
        if isinstance(event, PictureMade):
            try:
                self.take(event.file)
            except RefusedError as error:
                if error.status != 404:  # of an attempt that was lost: it comes again
                    raise

    def take(self, file: File) -> None:
        """A picture, or a row, which is measured on and said; once, also of a second attempt."""
        place, _, name = file.name.rpartition("/")
        if place:
            self.files.setdefault(place, {})[name] = file
        elif file.name == f"row-{len(self.answers) + 1}.json":
            row = documents.parse_json(dict[str, Any], self._data(file), file.name)
            answers = answers_of(row)
            if self.own is not None:
                distance = self.own.distance(self._pictures(), self._asked(), answers.style)
                answers = replace(answers, own=distance)
            self.answers.append(answers)
            self.say(line(answers))

    def _pictures(self) -> torch.Tensor:
        """Those of the next row, (N, 3, h, w) in [-1, 1]."""
        files = self.files[f"{len(self.answers) + 1}"]
        data = (self._data(files[name]) for name in sorted(files))
        return torch.stack([pixels(Image.open(io.BytesIO(each))) for each in data])

    def _asked(self) -> Sequence[heldout.Question]:
        return heldout.asked(self.n)

    def _data(self, file: File) -> bytes:
        return self.server.fetch(self.id, file)


def answers_of(row: Mapping[str, Any]) -> Answers:
    """A row as it was before it was sent."""
    values: dict[str, Any] = {
        name: Estimate(**value) if isinstance(value, dict) else value for name, value in row.items()
    }
    return Answers(**values)
