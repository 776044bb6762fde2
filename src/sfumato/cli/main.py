"""The program `sfumato`: one typer app, how it is built, and how errors become exit codes."""

from __future__ import annotations

from sfumato.cli import early

if __name__ == "__main__":
    early.hear()  # the other imports take a while

import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sfumato
from sfumato.cli import signals, streams
from sfumato.cli.makers import makers
from sfumato.cli.manual import all_options, command_class, group_class, refuse
from sfumato.cli.options import flags
from sfumato.cli.remote.chosen import SERVER, TOKEN_FILE, Detached, choose, chosen
from sfumato.cli.verb import Group, Verb
from sfumato.cli.verbs import batch, generate, sweep
from sfumato.cli.verbs.compare import COMPARE
from sfumato.cli.verbs.data import DATA
from sfumato.cli.verbs.doctor import DOCTOR
from sfumato.cli.verbs.dreambooth import DREAMBOOTH
from sfumato.cli.verbs.eval import EVAL
from sfumato.cli.verbs.info import INFO
from sfumato.cli.verbs.jobs import JOBS
from sfumato.cli.verbs.models import MODELS
from sfumato.cli.verbs.run import RUN
from sfumato.cli.verbs.serve import SERVE
from sfumato.cli.verbs.train import TRAIN
from sfumato.core.errors import SfumatoError, error_line
from sfumato.core.interrupts import Stopped
from sfumato.core.lazy import LazyModule

if TYPE_CHECKING:
    from sfumato.cli import show
else:  # help must not wait for rich
    show = LazyModule("sfumato.cli.show")

# libgomp's threads spin while they wait: with another process on a core that makes torch tens of
# times slower. Read when torch is first imported, which is later.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

HEADINGS = (
    ("Make pictures", ("generate", "sdedit", "inpaint", "ilvr", "diffstyler", "upscale")),
    ("Edit", ("prompt_to_prompt", "null_text", "sine")),
    ("Many at once", ("sweep", "batch", "compare")),
    ("What was made", ("run", "info")),
    ("Models", ("models", "doctor", "eval")),
    ("Teach", ("dreambooth", "train", "data")),
    ("Serve", ("serve", "jobs")),
)
EXAMPLES = (
    'generate "red apple" -n 4 --sheet',
    'sdedit painting.png -p "red apple" --t0 0.6',
    '--server http://gpu:8642 --detach sweep generate "red apple" --over steps=5,10,20',
)
FIXED: tuple[Verb | Group, ...] = (
    RUN,
    INFO,
    COMPARE,
    TRAIN,
    DREAMBOOTH,
    EVAL,
    DATA,
    MODELS,
    DOCTOR,
    SERVE,
    JOBS,
)
WITH_VALUE = ("--server", "--token-file")  # options before the verb that take a word
COMPLETES = "_SFUMATO_COMPLETE"  # what a shell that completes words sets

app = typer.Typer(
    name="sfumato",
    cls=group_class(EXAMPLES, HEADINGS),
    rich_markup_mode=None,
    help="Guided image synthesis and editing with diffusion models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def guarded(verb: Verb, values: dict[str, Any], debug: bool) -> None:
    """Run a verb; every failure is one line and an exit code."""
    try:
        with signals.working(), warnings.catch_warnings():
            show.listen(bool(values.get("quiet")))
            check_folder()
            check_place(verb)
            with suppress(Detached):
                verb.body(**values)
            streams.flush()
            signals.leave()
    except KeyboardInterrupt as stop:
        signals.leave()
        show.errors.print(early.LINE)
        raise typer.Exit(stop.code if isinstance(stop, Stopped) else 130) from None
    except BrokenPipeError:  # who reads has seen enough, such as `head`
        os._exit(141)
    except Exception as error:  # the edge of the program: a bug is one line here too
        line = error_line(error)
        fail(f"{line} (--debug shows where)" if line.startswith("internal") else line, debug)


def check_folder() -> None:
    """Whether there is a working folder, without which libraries end the process."""
    try:
        Path.cwd()
    except OSError:
        raise SfumatoError(
            "the working folder does not exist any more; change to one that does"
        ) from None


def check_place(verb: Verb) -> None:
    """Whether the verb may run where the command line says."""
    server = chosen()
    if server is None or verb.where == "anywhere":
        return
    if server.typed:
        raise SfumatoError(f"{verb.name}: is about this machine; leave --server out")


def fail(line: str, debug: bool) -> None:
    """Print the error and leave with exit code 1."""
    if debug:
        show.errors.print_exception()
    show.errors.print(f"sfumato: {' '.join(line.split())}")
    raise typer.Exit(1) from None


def register(verb: Verb, group: typer.Typer) -> None:
    """Make a verb a command of the group."""

    def command(**values: Any) -> None:
        values.pop("help_all")
        guarded(verb, values, values.pop("debug"))

    # typer makes options of a signature, in its order
    parameters = [*sorted(verb.parameters, key=lambda p: p.kind), all_options()]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = verb.text
    group.command(verb.name, cls=command_class(verb))(command)


def register_group(group: Group) -> None:
    """Make a group and its verbs commands of the program."""
    members = typer.Typer(help=group.text, cls=group_class(group.examples), rich_markup_mode=None)
    for verb in group.verbs():
        register(verb, members)
    if group.alone is not None:
        register_alone(group.alone, members)
    app.add_typer(members, name=group.name, no_args_is_help=group.alone is None)


def register_alone(verb: Verb, group: typer.Typer) -> None:
    """What the group does when none of its verbs is called."""

    def command(context: typer.Context, **values: Any) -> None:
        if context.invoked_subcommand is None:
            guarded(verb, values, values.pop("debug"))

    context = Parameter("context", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    command.__signature__ = Signature([context, *verb.parameters])  # type: ignore[attr-defined]
    group.callback(invoke_without_command=True)(command)


def mention(name: str, text: str) -> None:
    """Register a verb that is listed, and not called."""
    app.command(name, help=text)(lambda: None)


def print_version(wanted: bool) -> None:
    """--version."""
    if wanted:
        print(sfumato.__version__)
        raise typer.Exit


def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="print the version", is_eager=True, callback=print_version),
    ] = False,
    server: Annotated[
        str | None, typer.Option("--server", help=f"URL of the server that does it; {SERVER}")
    ] = None,
    token_file: Annotated[
        str | None, typer.Option("--token-file", help=f"file with its token; {TOKEN_FILE}")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="with --server: submit, print the job's id, and go")
    ] = False,
) -> None:
    """Guided image synthesis and editing with diffusion models."""
    if wrong := choose(server, token_file, detach):
        refuse(context, wrong)


def build(words: Sequence[str] | None = None) -> typer.Typer:
    """Register every verb: the installed methods' own, then the fixed ones.

    words: of the command line, of whose verb alone the options are needed; None: of all.
    """
    named = None if words is None else verb_among(words)
    program = flags([*generate.OPTIONS, *sweep.OPTIONS, *batch.OPTIONS])
    verbs = ["generate", "sweep", "batch", *(verb.name for verb in FIXED)]
    making = makers(program, verbs)
    for maker in making:
        if named in (None, maker.name):
            register(generate.verb(maker), app)
        else:
            mention(maker.name, maker.text)
    for verb in (sweep.group(making), batch.group(making), *FIXED):
        if named not in (None, verb.name):
            mention(verb.name, verb.text)
        elif isinstance(verb, Group):
            register_group(verb)
        else:
            register(verb, app)
    app.callback()(root)
    return app


def verb_among(words: Sequence[str]) -> str:
    """The first word that is neither an option nor the value of one."""
    rest = iter(words)
    for word in rest:
        if word in WITH_VALUE:
            next(rest, None)
        elif not word.startswith("-"):
            return word
    return ""


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
        show.errors.print(f"sfumato: {error_line(error)}")
        sys.exit(1)
    finally:
        signals.leave()


if __name__ == "__main__":
    main()
