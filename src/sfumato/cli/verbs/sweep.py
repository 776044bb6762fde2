"""`sfumato sweep VERB`: pictures, contact sheet, page and curve of a field over its values."""

from __future__ import annotations

import json
import re
from typing import Any

from sfumato.cli.fields import Wanted
from sfumato.cli.makers import Maker, prompted
from sfumato.cli.options import keyword
from sfumato.cli.verb import Group, Verb
from sfumato.cli.verbs import many
from sfumato.cli.verbs.generate import PROMPT
from sfumato.cli.verbs.shared import NO_STORE, storing
from sfumato.core.errors import SfumatoError
from sfumato.methods import Method

OPTIONS = (
    keyword(
        "over",
        str,
        ...,
        "--over",
        text="FIELD=LOW:HIGH:COUNT or FIELD=A,B,C; words FIELD=A|B; any method's",
    ),
    keyword("seeds", int, 3, "--seeds", text="pictures of each value and prompt"),
    keyword("prompts", list[str], [], "--prompts", text="sweep these too; repeatable"),
    keyword("choose", float | None, None, "--choose", text="value to mark; else the knee"),
    keyword("folder", str, "sweep", "-o", "--output", text="folder; a stopped sweep goes on in it"),
    NO_STORE,
)
EXAMPLES = (
    'sdedit painting.png -p "red apple" --over t0=0.2:0.8:7 -o t0/',
    'generate "red apple" --over cfg.scale=1,2,4,8 --seeds 4',
)


def group(makers: list[Maker]) -> Group:
    """`sweep`: every verb that makes pictures is there again."""
    text = "Vary one field: pictures, contact sheet, page, curve."
    return Group("sweep", text, EXAMPLES, lambda: tuple(verb(maker) for maker in makers))


def verb(maker: Maker) -> Verb:
    """`sweep VERB`."""

    def body(**values: Any) -> None:
        values = prompted(values)
        sweep(maker.cls, maker.methods(values), values)

    arguments = [PROMPT] if maker.cls is None else maker.fields
    options = [p for p in many.options(maker, OPTIONS) if p.name != "n"]
    example = maker.cls.examples[0] if maker.cls and maker.cls.examples else '-p "red apple"'
    example = re.sub(r" (-n \d+|--sheet|-o \S+)", "", example)  # a sweep has its own
    return Verb(
        maker.name,
        body,
        maker.text,
        (*arguments, *options),
        (f"{example} --over cfg.scale=1:8:5", f"{example} --over steps=5,10,20 -o sweep/"),
        maker.first,
    )


def sweep(cls: type[Method] | None, methods: list[Wanted], values: dict[str, Any]) -> None:
    """Sweep, and say where pictures, sheet, page and curve are."""
    from sfumato.cli import show
    from sfumato.cli.asked import check_base
    from sfumato.cli.compose import composed
    from sfumato.measure.axis import axis, said

    over = axis(values["over"], cls.id if cls else "")
    check_base(methods, values, over)
    run = composed(methods, values).with_numbers(values)
    total = len(over.values) * max(1, len(values["prompts"]))
    with storing(values), show.counted(over.name, total, values["quiet"]) as update:
        done = run.swept(over, values, update)
    if values["as_json"]:
        data = {"folder": str(done.folder), "axis": over.name, "chosen": done.chosen,
                "rule": done.rule, "curve": done.curve}  # fmt: skip
        print(json.dumps(data))
    else:
        print(done.folder / "index.html")
        if done.chosen is not None:
            show.errors.print(f"marked: {over.name} = {said(done.chosen)} ({done.rule})")
    if done.failed:
        raise SfumatoError(
            f"{len(done.failed)} of {done.cells} cells failed, the first: {done.failed[0]}"
        )
