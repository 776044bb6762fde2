"""`sfumato compare`: several methods on the same inputs and seeds, one sheet and one table."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any

import typer

from sfumato.cli.fields import AUTO, Wanted, assignments
from sfumato.cli.options import keyword
from sfumato.cli.remote.chosen import chosen
from sfumato.cli.verb import Verb
from sfumato.cli.verbs.generate import RUN
from sfumato.cli.verbs.shared import COMMON, NO_STORE, storing
from sfumato.core.errors import SfumatoError, quoted, shortened
from sfumato.documents import is_file
from sfumato.methods import find

BASE = ("steps", "solver", "spacing", "size", "negative", "model", "stages")
"""What a way may say of its run, beside its methods."""

WAYS = Parameter(
    "ways",
    Parameter.POSITIONAL_OR_KEYWORD,
    annotation=Annotated[
        list[str],
        typer.Argument(
            metavar="WAY...",
            help="a recipe, a saved picture, or methods such as 'sdedit t0=0.4 cfg.scale=3'; "
            "'NAME: ...' names it",
        ),
    ],
)
OWN = tuple(p for p in RUN if p.name not in ("prompt", "recipe", "n", "seed", "target", "extra"))
OPTIONS = (
    keyword("inputs", list[str], [], "--input", text="picture that every way gets; repeatable"),
    keyword("prompts", list[str], [], "-p", "--prompt", text="prompt of every way; repeatable"),
    keyword("seeds", int, 3, "--seeds", text="pictures of each way, input and prompt"),
    keyword("seed", int, 0, "--seed", text="of the first picture, the next has one more"),
    *OWN,
    keyword("folder", str, "compare", "-o", "--output", text="folder; what is there goes on"),
    NO_STORE,
    *COMMON,
)
FIRST = frozenset(
    ("--input", "--prompt", "-p", "--seeds", "--seed", "--model", "--steps", "--output", "-o")
)


def compare(ways: list[str], **values: Any) -> None:
    """Compose every way, run them all, say where the sheet is and what the table says."""
    from sfumato.cli import show

    composed_ways: dict[str, Any] = {}
    models: dict[str, Any] = {}
    for text in ways:
        name, way = _composed(text, values, models)
        if name in composed_ways:
            raise SfumatoError(f"{quoted(name)}: is there twice; name one, as 'NAME: {name}'")
        composed_ways[name] = way
    rows = max(1, len(values["inputs"])) * max(1, len(values["prompts"]))
    total = rows * len(composed_ways)
    with storing(values), show.counted("ways", total, values["quiet"]) as update:
        done = _compared(composed_ways, values, update)
    if values["as_json"]:
        lines = [asdict(line) for line in done.table.lines]
        print(json.dumps({"folder": str(done.folder), "ways": done.table.ways, "lines": lines}))
    else:
        print(done.table)
        print(done.folder / "sheet.png")
    if done.failed:
        raise SfumatoError(f"{len(done.failed)} of {total} failed, the first: {done.failed[0]}")


def _compared(ways: dict[str, Any], values: dict[str, Any], update: Callable[[int], None]) -> Any:
    """Here, or by the server that the command line names."""
    asked = {name: values[name] for name in ("inputs", "prompts", "seeds", "seed")}
    if chosen() is None:
        from sfumato.measure.compare import compare as compared

        return compared(ways, values["folder"], progress=lambda k, n: update(k), **asked)
    from sfumato.cli.remote.comparing import compared as sent

    return sent(ways, values["folder"], update=update, **asked)


def _way(wanted: Any, run: dict[str, Any], models: dict[str, Any], fills: Any) -> Any:
    """What makes a way's pictures, here or there."""
    server = chosen()
    if server is None:
        from sfumato.cli.compose import composed_here
        from sfumato.measure.compare import Way

        return Way(composed_here(wanted, run, models).process, fills)
    from sfumato.cli.remote.comparing import SentWay
    from sfumato.cli.remote.sent import composed

    return SentWay(composed(server, wanted, run, {}), fills)


def _composed(text: str, values: dict[str, Any], models: dict[str, Any]) -> tuple[str, Any]:
    """The name of a way, and what makes its pictures."""
    from sfumato.cli.asked import asked
    from sfumato.images import ImageInput
    from sfumato.measure.filled import takes_image

    head, colon, rest = text.partition(": ")
    name, spec = (head.strip(), rest) if colon else (text.strip(), text)
    try:
        words = shlex.split(spec)
    except ValueError as error:
        raise SfumatoError(f"{quoted(text)}: {error}") from None
    if not words or not name:
        raise SfumatoError(f"{quoted(text)}: is empty; give a recipe, or methods")
    recipe = words.pop(0) if is_file(Path(words[0])) else None
    base, methods = _read(words, text)
    fills: list[str] = []
    wanted = []
    for method, knobs in methods.items():
        cls = find(method)
        if takes_image(cls) and "image" not in knobs and recipe is None:
            if not values["inputs"]:
                raise SfumatoError(f"{quoted(text)}: {method} needs a picture; give --input")
            knobs = {**knobs, "image": ImageInput.of(values["inputs"][0])}
            fills.append(method)
        wanted.append(Wanted(cls, knobs))
        if wanted[-1].searched:
            raise SfumatoError(f"{quoted(text)}: {AUTO} is not searched here; give a number")
    prompt = values["prompts"][0] if values["prompts"] else None
    run = {**values, **base, "prompt": prompt, "recipe": recipe, "n": None, "target": "rms"}
    name = Path(recipe).stem if recipe is not None and not colon and not words else name
    key = f"{run['model']}"  # ways of one model share its weights
    own = models if recipe is None else {}
    filled = None if recipe is not None else tuple(fills)
    return name, _way(asked(wanted, run), run, own.setdefault(key, {}), filled)


def _read(words: Sequence[str], text: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What a way says of its run, and its methods with their fields."""
    base: dict[str, Any] = {}
    methods: dict[str, dict[str, Any]] = {}
    last = None
    for word in words:
        target, equals, value = word.partition("=")
        if not equals:
            if word != "generate":
                find(word)
                methods.setdefault(word, {})
            last = word
        elif target in BASE:
            base[target] = _number(target, value) if target in ("steps", "stages") else value
        elif "." in target or last in (None, "generate"):
            if "." not in target:
                known = ", ".join(BASE)
                raise SfumatoError(
                    f"{quoted(text)}: {shortened(target)} is no METHOD.FIELD, nor {known}"
                )
            _add(methods, word)
        else:
            _add(methods, f"{last}.{word}")
    return base, methods


def _add(methods: dict[str, dict[str, Any]], word: str) -> None:
    for method, fields in assignments([word]).items():
        methods[method] = {**methods.get(method, {}), **fields}


def _number(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise SfumatoError(f"{name}={shortened(value)}: is no whole number") from None


COMPARE = Verb(
    "compare",
    compare,
    "Compare methods on the same inputs and seeds: a sheet, and a table with intervals.",
    (WAYS, *OPTIONS),
    (
        '"sdedit t0=0.4" "sdedit t0=0.7" "ilvr factor=8" --input painting.png -p "red apple"',
        'ours.json "plain: generate cfg.scale=4" -p "red apple" -p "rose" --seeds 8 -o table/',
    ),
    FIRST,
)
