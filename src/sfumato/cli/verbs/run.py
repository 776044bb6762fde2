"""`sfumato run`: make a picture again from its recipe."""

from __future__ import annotations

from sfumato.cli.options import argument
from sfumato.cli.verb import Verb
from sfumato.cli.verbs.shared import COMMON, OUTPUT, SHEET


def replay(
    source: str, output: str, sheet: bool, device: str, dtype: str, as_json: bool, quiet: bool
) -> None:
    """Make the picture again and save it."""
    from sfumato.cli import delivery
    from sfumato.cli.compose import Composed
    from sfumato.images.destination import Destination
    from sfumato.models.replay import Replay

    target = Destination.of(output)
    target.check([target.folder / "x"])
    again = Replay.of(source, device=device, dtype=None if dtype == "auto" else dtype)
    delivery.check(target, Composed(again.process, again.recipe.seed))
    with delivery.watched(again.process, quiet) as update:
        result = again.sample(update)
    delivery.deliver(result, target, sheet, as_json, again.process.methods)


RUN = Verb(
    "run",
    replay,
    "Make a picture again, bit for bit.",
    (
        argument("source", "a recipe (.json) or a picture that sfumato saved"),
        OUTPUT,
        SHEET,
        *COMMON,
    ),
    ("apple.png", "recipe.json -o again.png"),
)
