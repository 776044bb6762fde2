"""The program `sfumato`: one typer app, its verbs, and how errors become exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Annotated, Any

import typer

import sfumato
from sfumato.cli import show
from sfumato.cli.options import method_parameters, methods_of, other_parameters
from sfumato.core.errors import SfumatoError
from sfumato.core.solvers import SOLVERS
from sfumato.core.spacing import RULES
from sfumato.methods import Method, registry

# libgomp's threads spin while they wait: with another process on a core that makes torch tens of
# times slower. Read when torch is first imported, which is later.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

app = typer.Typer(
    name="sfumato",
    help="Guided image synthesis and editing with diffusion models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def keyword(
    name: str, kind: Any, default: Any, *flags: str, text: str, panel: str | None = None
) -> Parameter:
    option = typer.Option(
        *flags, help=text, rich_help_panel=panel, show_default=default is not None
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
        text="transitions of the base; --plan counts network calls",
    ),
    keyword("solver", str | None, None, "--solver", text=f"one of {', '.join(SOLVERS)}"),
    keyword("spacing", str | None, None, "--spacing", text=f"{', '.join(RULES)}; or ddim50, 27"),
    keyword("size", str | None, None, "--size", text="N, WxH, input or native"),
    keyword("stages", int | None, None, "--stages", text="1 stops after the base"),
    keyword("seed", int | None, None, "--seed", text="picture j of a batch has seed + j; 0"),
    keyword("n", int | None, None, "-n", text="pictures in one batch; 1"),
    keyword(
        "target",
        str,
        "rms",
        "--target",
        text="what a field given as auto is searched by: MEASURE or MEASURE=NUMBER",
    ),
    keyword("extra", list[str], [], "--with", text="METHOD.FIELD=VALUE of any method; repeatable"),
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
    keyword("name", str, "", "--name", text="its identifier; a rare word if none is given"),
    keyword("output", str, ..., "-o", "--output", text="run folder, later given to --adapt"),
    keyword("model", str, "emoji", "--model", text="the model that learns"),
    keyword("steps", int | None, None, "--steps", text="120 of emoji, else 800"),
    keyword("rank", int | None, None, "--rank", text="of the adapter; 0 trains the whole network"),
    keyword("text", bool, False, "--text", text="train the text encoder too"),
    keyword("upsampler", bool, False, "--upsampler", text="train the model's upsampler too"),
    keyword("eight_bit", bool, False, "--eight-bit", text="AdamW's moments in 8 bits"),
    keyword("word", bool, False, "--word", text="learn a word alone (Textual Inversion)"),
    keyword("per_layer", bool, False, "--per-layer", text="a word for every layer apart (P+)"),
    keyword("vectors", int, 1, "--vectors", text="of the learned word"),
    keyword("rate", float | None, None, "--rate", text="learning rate; by model and rank"),
    keyword("batch", int | None, None, "--batch", text="pictures of the subject in a step"),
    keyword("prior", float, 1.0, "--prior", text="strength of prior preservation; 0 is none"),
    keyword("class_pictures", int, 64, "--class-pictures", text="made once, kept and reused"),
    keyword("class_folder", str, "", "--class-folder", text="class pictures of yours instead"),
    keyword("seed", int, 0, "--seed", text="of everything that is drawn"),
    keyword("resume", bool, False, "--resume", text="go on in the run folder, nothing else given"),
    keyword("plan", bool, False, "--plan", text="say what would run, and stop"),
]
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


def guarded(body: Callable[..., None], values: dict[str, Any], debug: bool) -> None:
    """Run a verb; every failure is one line and an exit code."""
    try:
        show.listen(bool(values.get("quiet")))
        body(**values)
    except KeyboardInterrupt:
        show.errors.print("cancelled; finished pictures are kept")
        raise typer.Exit(130) from None
    except SfumatoError as error:
        fail(str(error), debug)
    except BrokenPipeError:  # who reads has seen enough, such as `head`
        os._exit(141)
    except OSError as error:
        fail(f"{error.filename or 'file'}: {error.strerror or error}", debug)
    except MemoryError:
        fail("out of memory; take a smaller --size or -n", debug)
    except Exception as error:  # the edge of the program: a bug is one line here too
        fail(f"internal error: {type(error).__name__}: {error} (--debug shows where)", debug)


def fail(line: str, debug: bool) -> None:
    """Print the error and leave with exit code 1."""
    if debug:
        show.errors.print_exception()
    show.errors.print(f"sfumato: {' '.join(line.split())}", markup=False)
    raise typer.Exit(1) from None


def register(
    name: str,
    body: Callable[..., None],
    parameters: list[Parameter],
    text: str,
    group: typer.Typer | None = None,
) -> None:
    """Make `body` a verb, or a verb of a group, whose options are the parameters."""

    def command(**values: Any) -> None:
        guarded(body, values, values.pop("debug"))

    command.__signature__ = Signature(sorted(parameters, key=lambda p: p.kind))  # type: ignore[attr-defined]
    command.__doc__ = text
    (group or app).command(name)(command)


def maker(cls: type[Method] | None) -> Callable[..., None]:
    """The body of `generate` (no method) or of a method's verb."""

    def body(**values: Any) -> None:
        from sfumato.cli import verbs

        verbs.make(methods_of(cls, values, values["extra"], values.get("preset")), values)

    return body


def sweeper(cls: type[Method] | None) -> Callable[..., None]:
    """The body of `sweep VERB`."""

    def body(**values: Any) -> None:
        from sfumato.cli import many

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


def grouped() -> None:
    """`sweep` and `batch`: groups in which every verb that makes pictures is there again."""
    verbs: dict[str, type[Method] | None] = {"generate": None}
    verbs |= {name: cls for name, cls in sorted(registry().items()) if cls.verb}
    shared = [*RUN, *COMMON, *other_parameters()]
    sweeps = typer.Typer(help="Vary one field: pictures, contact sheet, page, curve.")
    batches = typer.Typer(help="A verb for every row of a folder or manifest.")
    rows = argument("source", "folder of pictures, or .csv, .jsonl, .txt; README says how")
    single = [p for p in shared if p.name != "n"]
    for name, cls in verbs.items():
        own = method_parameters(cls) if cls else []
        named = preset(cls) if cls else []
        text = summary(cls) if cls else "Make pictures from a prompt."
        register(name, sweeper(cls), [*own, *single, *SWEEP, *named], text, sweeps)
        fields = [p for p in own if p.kind is Parameter.KEYWORD_ONLY]
        register(name, batcher(cls), [rows, *fields, *shared, *BATCH, *named], text, batches)
    app.add_typer(sweeps, name="sweep", no_args_is_help=True)
    app.add_typer(batches, name="batch", no_args_is_help=True)


def modelled() -> None:
    """`models` alone lists; its verbs fetch, copy and convert."""
    group = typer.Typer(help="List models; pull, export and convert them.")
    several = Parameter(
        "names",
        Parameter.POSITIONAL_OR_KEYWORD,
        annotation=Annotated[list[str], typer.Argument(help="org/name or org/name@revision")],
    )
    name = argument("name", "bundled name, folder, file or org/name")
    file = argument("file", "a .pt, .ckpt or .bin file")
    own = COMMON[2:]
    text = "Fetch from the hub: goes on where it stopped, verifies every file."
    register("pull", later("pull", "models"), [several, *own], text, group)
    text = "Copy a model into a new folder that loads anywhere, without a network."
    folder = argument("folder", "a new folder")
    register("export", later("export", "models"), [name, folder, *own], text, group)
    text = "A pickled checkpoint as safetensors; nothing in it is run."
    target = argument("target", "a new .safetensors file")
    register("convert", later("convert", "models"), [file, target, *own], text, group)

    def listing(context: typer.Context, **values: Any) -> None:
        if context.invoked_subcommand is None:
            guarded(later("listed", "models"), values, values.pop("debug"))

    first = Parameter("context", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    listing.__signature__ = Signature([first, *own])  # type: ignore[attr-defined]
    group.callback(invoke_without_command=True)(listing)
    app.add_typer(group, name="models")


def build() -> typer.Typer:
    """Register every verb: the installed methods' own, then the fixed ones."""
    run = [*RUN, *OUT, PLAN, *COMMON, *other_parameters()]
    register("generate", maker(None), run, "Make pictures from a prompt.")
    for name, cls in sorted(registry().items()):
        if cls.verb:
            register(name, maker(cls), [*method_parameters(cls), *run, *preset(cls)], summary(cls))
    grouped()
    again = argument("source", "a recipe (.json) or a picture that sfumato saved")
    text = "Make a picture again, bit for bit."
    register("run", later("replay"), [again, *OUT[:2], *COMMON], text)
    shown = argument("source", "a picture, a recipe, or a model's name")
    text = "Show a picture's recipe or a model's card."
    register("info", later("info"), [shown, *COMMON[2:]], text)
    recipe = argument("recipe", "a training recipe; recipes/ holds the project's own")
    register("train", later("train"), [recipe, *TRAIN, *COMMON[:1], *COMMON[3:]], TRAIN_HELP)
    pictures = argument("pictures", "folder with 3 to 5 pictures of the subject", None)
    text = "Teach a model a subject from a few pictures (DreamBooth, arXiv 2208.12242)."
    own = [pictures, *DREAMBOOTH, *COMMON[:1], *COMMON[3:]]
    register("dreambooth", later("dreambooth", "dreambooth"), own, text)
    register("eval", later("evaluate"), [*EVAL, *COMMON], "Measure a text-to-image model.")
    what = argument("what", "build-emoji")
    register("data", later("data"), [what, *DATA, *COMMON[3:]], "Build the packed training set.")
    modelled()
    register("doctor", later("doctor"), COMMON, "Versions, device, number format, and a self-test.")

    app.callback()(root)
    return app


def main() -> None:
    """Entry point of the program."""
    build()()


if __name__ == "__main__":
    main()
