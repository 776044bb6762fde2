"""`sfumato generate`, and the verb of every method that has one: make pictures."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import Parameter
from typing import Annotated, Any

import typer

from sfumato.cli.fields import Wanted
from sfumato.cli.makers import Maker, prompted
from sfumato.cli.options import keyword
from sfumato.cli.verb import Verb
from sfumato.cli.verbs.shared import COMMON, EMBED, NO_STORE, OUTPUT, PLAN, SHEET, storing
from sfumato.core.errors import quoted
from sfumato.core.solvers import SOLVERS
from sfumato.core.spacing import NAMES


def seeded(text: str | int) -> int | str:
    """The value of --seed."""
    if str(text) in ("random", "-1"):
        return "random"
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{quoted(str(text))} is no whole number, nor random") from None


RUN = (
    keyword("prompt", str | None, None, "-p", "--prompt", text="what to show"),
    keyword("negative", str | None, None, "--negative", text="what to stay away from"),
    keyword(
        "recipe",
        str | None,
        None,
        "--recipe",
        text="begin with a recipe or a saved picture; options and methods go on top",
    ),
    keyword("label", int | None, None, "--label", text="class of a class-conditional model"),
    keyword(
        "model",
        str | None,
        None,
        "--model",
        text="bundled name, folder, checkpoint file, or org/name that was pulled; emoji if none",
    ),
    keyword(
        "download", bool, False, "--download", text="fetch org/name from the hub if it is not here"
    ),
    keyword(
        "adapt",
        list[str],
        [],
        "--adapt",
        text="LoRA, learned word or autoencoder: name or FILE, maybe =STRENGTH; repeatable",
    ),
    keyword(
        "steps",
        int | None,
        None,
        "--steps",
        text="transitions of the base; the model's own if not given (emoji: 30)",
    ),
    keyword("solver", str | None, None, "--solver", text=f"one of {', '.join(SOLVERS)}"),
    keyword(
        "spacing",
        str | None,
        None,
        "--spacing",
        text=f"{', '.join(NAMES)}; or ddim50, 27, or times 0.9,0.5,0",
    ),
    keyword("size", str | None, None, "--size", text="N, WxH, input or native"),
    keyword("stages", int | None, None, "--stages", text="1 stops after the base"),
    Parameter(
        "seed",
        Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            Any,
            typer.Option(
                "--seed",
                parser=seeded,
                metavar="N|random",
                help="of the first picture, the next has one more; -1 is random too",
                show_default="0",
            ),
        ],
    ),
    keyword("n", int | None, None, "-n", text="pictures in one batch [default 1]"),
    keyword(
        "target",
        str,
        "rms",
        "--target",
        text="what a field given as auto is searched by: MEASURE or MEASURE=NUMBER",
    ),
    keyword("extra", list[str], [], "--with", text="METHOD.FIELD=VALUE of any method; repeatable"),
)
PROMPT = Parameter(
    "words",
    Parameter.POSITIONAL_OR_KEYWORD,
    default=None,
    annotation=Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT", help="what to show, as -p")
    ],
)
OPTIONS = (*RUN, OUTPUT, SHEET, EMBED, NO_STORE, PLAN, *COMMON)
EXAMPLES = ('"red apple" -n 4 --sheet', '"blue heart, flat" --cfg 4 --seed 7 -o heart.png')


def verb(maker: Maker) -> Verb:
    """`generate`, or a method's verb."""

    def body(**values: Any) -> None:
        values = prompted(values)
        make(maker.methods(values), values)

    arguments = [PROMPT] if maker.cls is None else maker.fields
    return Verb(
        maker.name,
        body,
        maker.text,
        (*arguments, *OPTIONS, *maker.others.parameters, *maker.preset),
        maker.cls.examples if maker.cls else EXAMPLES,
        maker.first,
    )


def make(methods: Sequence[Wanted], values: dict[str, Any]) -> None:
    """Compose, run, save."""
    from sfumato import images
    from sfumato.cli import delivery
    from sfumato.cli.compose import composed
    from sfumato.images.destination import Destination

    target = Destination.of(values["output"])
    target.check([target.folder / "x"])  # before a model is loaded
    run = composed(methods, values)
    delivery.check(target, run, values["embed"])
    run = run.with_numbers(values)
    if values["plan"]:
        print(run.plan(values["as_json"]))
        return
    with storing(values), run.watched(values["quiet"]) as update:
        result = run.sample(update)
    if values["embed"]:
        inputs = [i for m in run.methods for i in images.inputs_of(m)]
        result = delivery.embedded(result, inputs)
    delivery.deliver(result, target, values["sheet"], values["as_json"], run.methods)
