"""`sfumato info`: a picture's recipe, also of another program's, or a model's card."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from sfumato.cli.options import argument
from sfumato.cli.verb import Verb
from sfumato.cli.verbs.shared import AS_JSON, DEBUG, QUIET


def info(source: str, as_json: bool, quiet: bool) -> None:
    """A recipe as JSON, or a model's card."""
    from sfumato.models import replay
    from sfumato.models.loaders import library

    path = Path(source)
    if path.is_file() and path.suffix.lower() not in (".pt", ".pth", ".ckpt", ".safetensors"):
        print(replay.read_recipe(path).to_json(indent=None if as_json else 1))
        return
    model = library.load(source)
    data = {"name": model.name, **asdict(model.card), "weights": model.weights}
    print(json.dumps(data, indent=None if as_json else 1, ensure_ascii=False))


INFO = Verb(
    "info",
    info,
    "Show a picture's recipe, also of other programs, or a model's card.",
    (argument("source", "a picture, a recipe, or a model's name"), AS_JSON, QUIET, DEBUG),
    ("apple.png", "emoji"),
    where="machine",
)
