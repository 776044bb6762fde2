"""The program `sfumato`: one typer app, its verbs, and how errors become exit codes."""

from __future__ import annotations

from sfumato.cli import early

if __name__ == "__main__":
    early.hear()  # the other imports take a while

import importlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sfumato
from sfumato.cli import signals, streams
from sfumato.cli.manual import MAIN, Manual, all_options, program, verb
from sfumato.cli.options import flags, main_field, method_parameters, methods_of, other_parameters
from sfumato.core.errors import SfumatoError, said
from sfumato.core.interrupts import Stopped
from sfumato.core.lazy import LazyModule
from sfumato.core.solvers import SOLVERS
from sfumato.core.spacing import NAMES
from sfumato.methods import Method, registry

if TYPE_CHECKING:
    from sfumato.cli import show
else:  # help must not wait for rich
    show = LazyModule("sfumato.cli.show")

# libgomp's threads spin while they wait: with another process on a core that makes torch tens of
# times slower. Read when torch is first imported, which is later.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

HEADINGS = (
    ("Make pictures", ("generate", "sdedit", "inpaint", "ilvr", "diffstyler", "upscale")),
    ("Many at once", ("sweep", "batch")),
    ("What was made", ("run", "info")),
    ("Models", ("models", "doctor", "eval")),
    ("Teach", ("dreambooth", "train", "data")),
)
EXAMPLES = (
    'generate "red apple" -n 4 --sheet',
    'sdedit painting.png -p "red apple" --t0 0.6',
)

app = typer.Typer(
    name="sfumato",
    cls=program(EXAMPLES, HEADINGS),
    rich_markup_mode=None,
    help="Guided image synthesis and editing with diffusion models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def not_empty(value: str | None) -> str | None:
    """The value of -o; an empty one would be the working folder."""
    if value is not None and not value.strip():
        raise typer.BadParameter("is empty; give a file or a folder")
    return value


def seeded(text: str | int) -> int | str:
    """The value of --seed."""
    if str(text) in ("random", "-1"):
        return "random"
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no whole number, nor random") from None


def keyword(
    name: str, kind: Any, default: Any, *flags: str, text: str, panel: str | None = None
) -> Parameter:
    option = typer.Option(
        *flags,
        help=text,
        rich_help_panel=panel,
        show_default=default is not None,
        callback=not_empty if "--output" in flags else None,
    )
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


RUN = [
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
]
WORDS = [
    Parameter(
        "words",
        Parameter.POSITIONAL_OR_KEYWORD,
        default=None,
        annotation=Annotated[
            list[str] | None, typer.Argument(metavar="PROMPT", help="what to show, as -p")
        ],
    )
]
OUT = [
    keyword(
        "output",
        str,
        "{prompt}-{seed}.png",
        "-o",
        "--output",
        text="file, folder or pattern; never overwrites",
    ),
    keyword("sheet", bool, False, "--sheet", text="also save a captioned contact sheet"),
    keyword("embed", bool, False, "--embed", text="put the inputs into the recipe"),
    keyword("no_store", bool, False, "--no-store", text="do not keep the inputs for `sfumato run`"),
]
COMMON = [
    keyword("device", str, "auto", "--device", text="auto, cuda, mps, xpu, cpu"),
    keyword("dtype", str, "auto", "--dtype", text="auto, float32, bfloat16, float16"),
    keyword("as_json", bool, False, "--json", text="results as one JSON object"),
    keyword("quiet", bool, False, "--quiet", "-q", text="no progress, no notices"),
    keyword("debug", bool, False, "--debug", text="show where an error came from"),
]
TRAIN_HELP = "Train by a recipe; started again, it goes on from its last checkpoint."
TRAIN = [
    keyword("data", str | None, None, "--data", text="packed set, or folder with captions"),
    keyword("output", str | None, None, "-o", "--output", text="run folder; runs/NAME"),
    keyword("steps", int | None, None, "--steps", text="replaces the recipe's optim.steps"),
    keyword("until", int | None, None, "--until", text="stop after this step, to go on later"),
]
DREAMBOOTH = [
    keyword(
        "noun",
        str | None,
        None,
        "--class",
        text="what it is, such as dog; else guessed",
    ),
    keyword("name", str | None, None, "--name", text="its identifier; else a rare word"),
    keyword("output", str, ..., "-o", "--output", text="run folder, later given to --adapt"),
    keyword("model", str | None, None, "--model", text="the model that learns; emoji"),
    keyword("steps", int | None, None, "--steps", text="120 of emoji, else 800"),
    keyword("rank", int | None, None, "--rank", text="of the adapter; 0 trains the whole network"),
    keyword("text", bool, False, "--text", text="train the text encoder too"),
    keyword("upsampler", bool, False, "--upsampler", text="train the model's upsampler too"),
    keyword("eight_bit", bool, False, "--eight-bit", text="AdamW's moments in 8 bits"),
    keyword("word", bool, False, "--word", text="learn a word alone (Textual Inversion)"),
    keyword("per_layer", bool, False, "--per-layer", text="a word for every layer apart (P+)"),
    keyword("vectors", int | None, None, "--vectors", text="of the learned word; 1"),
    keyword("rate", float | None, None, "--rate", text="learning rate; by model and rank"),
    keyword("batch", int | None, None, "--batch", text="pictures of the subject in a step"),
    keyword("prior", float | None, None, "--prior", text="of prior preservation, 1; 0 is none"),
    keyword("class_pictures", int | None, None, "--class-pictures", text="64, made once and kept"),
    keyword("class_folder", str | None, None, "--class-folder", text="class pictures of yours"),
    keyword("seed", int | None, None, "--seed", text="of everything that is drawn; 0"),
    keyword("resume", bool, False, "--resume", text="go on in the run folder; --steps for more"),
    keyword("plan", bool, False, "--plan", text="say what would run, and stop"),
]
TRAIN_EXAMPLES = ("recipes/base-32.toml", "mine.toml --data my-pictures/ --until 1000")
DREAMBOOTH_EXAMPLES = ("my-dog/ --class dog -o dog/", "my-dog/ --class dog -o dog/ --plan")
DREAMBOOTH_MAIN = frozenset(
    (
        "--class",
        "--name",
        "--output",
        "--model",
        "--steps",
        "--rank",
        "--seed",
        "--resume",
        "--plan",
    )
)
EVAL_EXAMPLES = ("--scales 1,2,3,4", "--model org/name -n 50 -o report.json")
EVAL_MAIN = frozenset(("--model", "--styles", "--scales", "-n", "--seed", "--output", "--protocol"))
EVAL = [
    keyword("model", str | None, None, "--model", text="emoji; of --runs the runs' own"),
    keyword("styles", str, "3d render", "--styles", text="styles that have a judge, a,b"),
    keyword("scales", str | None, None, "--scales", text="guidance scales, such as 1,2,3,4"),
    keyword("n", int | None, None, "-n", text="prompts, 200; of --runs pictures a prompt, 4"),
    keyword("seed", int, 0, "--seed", text="picture k has seed + k"),
    keyword("features", str | None, None, "--features", text="your Inception, DINO or CLIP"),
    keyword("data", str | None, None, "--data", text="packed set for --features, or the subjects"),
    keyword("output", str | None, None, "-o", "--output", text="JSON file; --protocol: folder"),
    keyword("protocol", str | None, None, "--protocol", text="dreambooth: its own benchmark"),
    keyword("runs", str | None, None, "--runs", text="a run of each subject, to make pictures"),
    keyword("generated", str | None, None, "--generated", text="SUBJECT/PROMPT/*.png instead"),
    keyword("dino", str | None, None, "--dino", text="folder of DINO, for DINO and PRES"),
    keyword("clip", str | None, None, "--clip", text="folder of a CLIP, for CLIP-I and CLIP-T"),
    keyword("lpips", str | None, None, "--lpips", text="TorchScript file of LPIPS, for DIV"),
    keyword("steps", int | None, None, "--steps", text="of the pictures of --runs"),
]
DATA = [
    keyword("output", str | None, None, "-o", "--output", text="folder; SFUMATO_HOME/data/emoji"),
    keyword("packages", str | None, None, "--packages", text="folder of the unpacked packages"),
]
SWEEP = [
    keyword("over", str, ..., "--over", text="FIELD=LOW:HIGH:COUNT or FIELD=A,B,C; any method's"),
    keyword("seeds", int, 3, "--seeds", text="pictures of each value and prompt"),
    keyword("prompts", list[str], [], "--prompts", text="sweep these too; repeatable"),
    keyword("choose", float | None, None, "--choose", text="value to mark; else the knee"),
    keyword("folder", str, "sweep", "-o", "--output", text="folder; a stopped sweep goes on in it"),
    OUT[3],
]
BATCH = [
    keyword(
        "output",
        str,
        "batch/{name}-{seed}.png",
        "-o",
        "--output",
        text="pattern with {name} {row} {prompt} {seed} {i}; what exists is skipped",
    ),
    OUT[3],
]
PLAN = keyword("plan", bool, False, "--plan", text="say what would run, and stop")
PROGRAM = [*RUN, *OUT, PLAN, *COMMON, *SWEEP, *BATCH]
VERBS = (
    "generate", "run", "info", "train", "dreambooth", "eval", "data", "models", "doctor", "sweep",
    "batch",
)  # fmt: skip


GROUPS = {
    "sweep": "Vary one field: pictures, contact sheet, page, curve.",
    "batch": "A verb for every row of a folder or manifest.",
}
GROUP_EXAMPLES = {
    "sweep": (
        'sdedit painting.png -p "red apple" --over t0=0.2:0.8:7 -o t0/',
        'generate "red apple" --over cfg.scale=1,2,4,8 --seeds 4',
    ),
    "batch": (
        'sdedit paintings/ -p "{name}" -o "edited/{name}.png"',
        'generate prompts.csv --with cfg.scale=4 -o "out/{row}-{seed}.png"',
    ),
}
MODELS_HELP = "List models; pull, export and convert them."
COMPLETES = "_SFUMATO_COMPLETE"  # what a shell that completes words sets


def guarded(body: Callable[..., None], values: dict[str, Any], debug: bool) -> None:
    """Run a verb; every failure is one line and an exit code."""
    try:
        with signals.working(), warnings.catch_warnings():
            show.listen(bool(values.get("quiet")))
            body(**values)
            streams.flush()
            signals.leave()
    except KeyboardInterrupt as stop:
        signals.leave()
        show.errors.print(early.LINE)
        raise typer.Exit(stop.code if isinstance(stop, Stopped) else 130) from None
    except BrokenPipeError:  # who reads has seen enough, such as `head`
        os._exit(141)
    except Exception as error:  # the edge of the program: a bug is one line here too
        line = said(error)
        fail(f"{line} (--debug shows where)" if line.startswith("internal") else line, debug)


def fail(line: str, debug: bool) -> None:
    """Print the error and leave with exit code 1."""
    if debug:
        show.errors.print_exception()
    show.errors.print(f"sfumato: {' '.join(line.split())}")
    raise typer.Exit(1) from None


def register(
    name: str,
    body: Callable[..., None],
    parameters: list[Parameter],
    text: str,
    group: typer.Typer | None = None,
    examples: tuple[str, ...] = (),
    main: frozenset[str] | None = None,
) -> None:
    """Make `body` a verb, or a verb of a group, whose options are the parameters.

    main: flags that its help shows first, None for all.
    """
    ordered = sorted(parameters, key=lambda p: p.kind)
    manual = Manual(text, tuple(ordered), examples, main)

    def command(**values: Any) -> None:
        values.pop("help_all")
        guarded(body, values, values.pop("debug"))

    command.__signature__ = Signature([*ordered, all_options()])  # type: ignore[attr-defined]
    command.__doc__ = text
    (group or app).command(name, cls=verb(manual))(command)


def mention(name: str, text: str) -> None:
    """Register a verb that is listed, and not called."""
    app.command(name, help=text)(lambda: None)


def prompted(values: dict[str, Any]) -> dict[str, Any]:
    """The values with the prompt that was given without -p."""
    words = values.pop("words", None)
    if not words:
        return values
    if len(words) == 1 and Path(words[0]).is_file():
        raise SfumatoError(
            f"{words[0]}: is a file, and generate takes a prompt; to begin from a picture: "
            f"sfumato sdedit {words[0]}"
        )
    if values["prompt"] is not None:
        raise SfumatoError(f"{' '.join(words)}: -p gives a prompt too; leave one of them out")
    return {**values, "prompt": " ".join(words)}


def maker(cls: type[Method] | None) -> Callable[..., None]:
    """The body of `generate` (no method) or of a method's verb."""

    def body(**values: Any) -> None:
        from sfumato.cli import verbs

        values = prompted(values)
        verbs.make(methods_of(cls, values, values["extra"], values.get("preset")), values)

    return body


def sweeper(cls: type[Method] | None) -> Callable[..., None]:
    """The body of `sweep VERB`."""

    def body(**values: Any) -> None:
        from sfumato.cli import many

        values = prompted(values)
        wanted = methods_of(cls, values, values["extra"], values.get("preset"))
        many.sweep(cls, wanted, values)

    return body


def batcher(cls: type[Method] | None) -> Callable[..., None]:
    """The body of `batch VERB`."""

    def body(**values: Any) -> None:
        from sfumato.cli import many

        many.batch(cls, values)

    return body


def later(name: str, module: str = "verbs") -> Callable[..., None]:
    """A verb's body, imported when it runs."""

    def body(**values: Any) -> None:
        getattr(importlib.import_module(f"sfumato.cli.{module}"), name)(**values)

    return body


def summary(cls: type[Method]) -> str:
    """The first line of the method's module: what it is, with its source."""
    text = sys.modules[cls.__module__].__doc__ or cls.__doc__ or ""
    return " ".join(text.split("\n\n")[0].split())


def preset(cls: type[Method]) -> list[Parameter]:
    """--preset with the method's presets."""
    known = ", ".join(cls.presets)
    if not known:
        return []
    return [keyword("preset", str | None, None, "--preset", text=f"named settings: {known}")]


def argument(name: str, text: str, default: Any = Parameter.empty) -> Parameter:
    declared = typer.Argument(help=text, show_default=False)
    kind = str if default is Parameter.empty else str | None
    return Parameter(
        name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=Annotated[kind, declared]
    )


def told(wanted: bool) -> None:
    """--version."""
    if wanted:
        print(sfumato.__version__)
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", help="print the version", is_eager=True, callback=told)
    ] = False,
) -> None:
    """Guided image synthesis and editing with diffusion models."""


def first(cls: type[Method]) -> frozenset[str]:
    """Flags that the help of a method's verb shows first; its pictures are always there."""
    return MAIN | {f"--{main_field(cls)}".replace("_", "-")}


def taken() -> set[str]:
    """Flags that no field of a method may have."""
    return flags([*PROGRAM, *other_parameters(flags(PROGRAM))]) | {"--preset"}


def own_verbs() -> dict[str, type[Method]]:
    """Methods that are a verb; one that is called like a verb of the program is left to --with."""
    return {name: cls for name, cls in sorted(registry().items()) if cls.verb and name not in VERBS}


def grouped(group: str, text: str) -> None:
    """`sweep` or `batch`: a group in which every verb that makes pictures is there again."""
    verbs: dict[str, type[Method] | None] = {"generate": None}
    verbs |= own_verbs()
    shared = [*RUN, *COMMON, *other_parameters(flags(PROGRAM))]
    made = typer.Typer(help=text, cls=program(GROUP_EXAMPLES[group]), rich_markup_mode=None)
    fill = sweeps if group == "sweep" else batches
    for name, cls in verbs.items():
        fill(made, name, cls, shared)
    app.add_typer(made, name=group, no_args_is_help=True)


def sweeps(
    group: typer.Typer, name: str, cls: type[Method] | None, shared: list[Parameter]
) -> None:
    """Register `sweep VERB`."""
    own = method_parameters(cls, taken()) if cls else []
    named = preset(cls) if cls else []
    text = summary(cls) if cls else "Make pictures from a prompt."
    main = first(cls) if cls else MAIN
    swept = [*own, *(p for p in shared if p.name != "n"), *SWEEP, *named]
    given = cls.examples[0] if cls and cls.examples else '-p "red apple"'
    given = re.sub(r" (-n \d+|--sheet|-o \S+)", "", given)  # a sweep has its own
    shown = (f"{given} --over cfg.scale=1:8:5", f"{given} --over steps=5,10,20 -o sweep/")
    register(name, sweeper(cls), swept if cls else [*WORDS, *swept], text, group, shown, main)


def batches(
    group: typer.Typer, name: str, cls: type[Method] | None, shared: list[Parameter]
) -> None:
    """Register `batch VERB`."""
    own = method_parameters(cls, taken()) if cls else []
    named = preset(cls) if cls else []
    text = summary(cls) if cls else "Make pictures from a prompt."
    main = first(cls) if cls else MAIN
    rows = argument("source", "folder of pictures, or .csv, .jsonl, .txt; README says how")
    fields = [p for p in own if p.kind is Parameter.KEYWORD_ONLY]
    shown = ("rows.csv", 'pictures/ -p "{name}" -o "made/{name}.png"')
    made = [rows, *fields, *shared, *BATCH, *named]
    register(name, batcher(cls), made, text, group, shown, main)


def modelled() -> None:
    """`models` alone lists; its verbs fetch, copy and convert."""
    group = typer.Typer(
        help=MODELS_HELP,
        cls=program(("", "pull stable-diffusion-v1-5/stable-diffusion-v1-5")),
        rich_markup_mode=None,
    )
    several = Parameter(
        "names",
        Parameter.POSITIONAL_OR_KEYWORD,
        annotation=Annotated[list[str], typer.Argument(help="org/name or org/name@revision")],
    )
    name = argument("name", "bundled name, folder, file or org/name")
    file = argument("file", "a .pt, .ckpt or .bin file")
    own = COMMON[2:]
    text = "Fetch from the hub: goes on where it stopped, verifies every file."
    shown = ("org/name", "org/name@revision another/name")
    register("pull", later("pull", "models"), [several, *own], text, group, shown)
    text = "Copy a model into a new folder that loads anywhere, without a network."
    folder = argument("folder", "a new folder")
    shown = ("emoji carried/", "org/name carried/")
    register("export", later("export", "models"), [name, folder, *own], text, group, shown)
    text = "A pickled checkpoint as safetensors; nothing in it is run."
    target = argument("target", "a new .safetensors file")
    shown = ("model.ckpt model.safetensors", "vae.pt vae.safetensors --json")
    register("convert", later("convert", "models"), [file, target, *own], text, group, shown)

    def listing(context: typer.Context, **values: Any) -> None:
        if context.invoked_subcommand is None:
            guarded(later("listed", "models"), values, values.pop("debug"))

    first = Parameter("context", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    listing.__signature__ = Signature([first, *own])  # type: ignore[attr-defined]
    group.callback(invoke_without_command=True)(listing)
    app.add_typer(group, name="models")


def build(words: Sequence[str] | None = None) -> typer.Typer:
    """Register every verb: the installed methods' own, then the fixed ones.

    words: of the command line, of whose verb alone the options are needed; None: of all.
    """
    named = None if words is None else next((w for w in words if not w.startswith("-")), "")

    def wanted(*names: str) -> bool:
        return named is None or named in names

    def add(
        name: str,
        body: Callable[..., None],
        parameters: list[Parameter],
        text: str,
        examples: tuple[str, ...] = (),
        main: frozenset[str] | None = None,
    ) -> None:
        if wanted(name):
            register(name, body, parameters, text, examples=examples, main=main)
        else:
            mention(name, text)

    makers = own_verbs()
    run: list[Parameter] = []
    if wanted("generate", *makers):
        run = [*RUN, *OUT, PLAN, *COMMON, *other_parameters(flags(PROGRAM))]
    text = "Make pictures from a prompt."
    shown = ('"red apple" -n 4 --sheet', '"blue heart, flat" --cfg 4 --seed 7 -o heart.png')
    add("generate", maker(None), [*WORDS, *run], text, examples=shown, main=MAIN)
    for name, cls in makers.items():
        fields = method_parameters(cls, taken()) if wanted(name) else []
        own = [*fields, *run, *preset(cls)]
        add(name, maker(cls), own, summary(cls), examples=cls.examples, main=first(cls))
    for name, text in GROUPS.items():
        if wanted(name):
            grouped(name, text)
        else:
            mention(name, text)
    again = argument("source", "a recipe (.json) or a picture that sfumato saved")
    text, shown = "Make a picture again, bit for bit.", ("apple.png", "recipe.json -o again.png")
    add("run", later("replay"), [again, *OUT[:2], *COMMON], text, examples=shown)
    seen = argument("source", "a picture, a recipe, or a model's name")
    text, shown = "Show a picture's recipe or a model's card.", ("apple.png", "emoji")
    add("info", later("info"), [seen, *COMMON[2:]], text, examples=shown)
    recipe = argument("recipe", "a training recipe; recipes/ holds the project's own")
    own, shown = [recipe, *TRAIN, *COMMON[:1], *COMMON[3:]], TRAIN_EXAMPLES
    add("train", later("train"), own, TRAIN_HELP, examples=shown)
    pictures = argument("pictures", "folder with 3 to 5 pictures of the subject", None)
    text = "Teach a model a subject from a few pictures (DreamBooth, arXiv 2208.12242)."
    own, shown = [pictures, *DREAMBOOTH, *COMMON[:1], *COMMON[3:]], DREAMBOOTH_EXAMPLES
    body = later("dreambooth", "dreambooth")
    add("dreambooth", body, own, text, examples=shown, main=DREAMBOOTH_MAIN)
    text, shown = "Measure a text-to-image model.", EVAL_EXAMPLES
    add("eval", later("evaluate"), [*EVAL, *COMMON], text, examples=shown, main=EVAL_MAIN)
    what = argument("what", "build-emoji")
    text = "Build the packed training set."
    shown = ("build-emoji", "build-emoji -o emoji/")
    add("data", later("data"), [what, *DATA, *COMMON[3:]], text, examples=shown)
    if wanted("models"):
        modelled()
    else:
        mention("models", MODELS_HELP)
    text, shown = "Versions, what is missing, device, and a self-test.", ("", "--device cpu --json")
    add("doctor", later("doctor"), COMMON, text, examples=shown)

    app.callback()(root)
    return app


def main() -> None:
    """Entry point of the program."""
    early.hear()
    signals.listen()
    streams.adapt()
    try:
        try:
            build(None if COMPLETES in os.environ else sys.argv[1:])()
        finally:
            streams.flush()
    except BrokenPipeError:
        os._exit(141)
    except (OSError, SfumatoError) as error:  # of help and the like, which are no verbs
        show.errors.print(f"sfumato: {said(error)}")
        sys.exit(1)
    finally:
        signals.leave()


if __name__ == "__main__":
    main()
