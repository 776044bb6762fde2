"""`sfumato run`: make a picture again from its recipe."""

from __future__ import annotations

from sfumato.cli.options import argument
from sfumato.cli.verb import Verb
from sfumato.cli.verbs.shared import COMMON, OUTPUT, SHEET


def replay(source: str, output: str, sheet: bool, as_json: bool, quiet: bool, **how: str) -> None:
    """Make the picture again and save it. how: device, dtype, offload."""
    from sfumato.cli import delivery
    from sfumato.cli.compose import replayed
    from sfumato.images.destination import Destination

    target = Destination.of(output)
    target.check([target.folder / "x"])
    run = replayed(source, how)
    delivery.check(target, run)
    with run.watched(quiet) as update:
        result = run.sample(update)
    delivery.deliver(result, target, sheet, as_json, run.methods)


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
