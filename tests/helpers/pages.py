"""What pages of Markdown say of the program, checked against the program."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import typer
from typer.core import TyperCommand
from typer.testing import CliRunner

from sfumato.cli.fields import assignments
from sfumato.cli.main import WITH_VALUE

FENCE = re.compile(r"(?ms)^(<!-- not run: .+? -->\n)?```(\w*)\n(.*?)^```$")

command_of: Any = cache(typer.main.get_command)  # made once, not for every call


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", text)


def commands(text: str) -> Iterator[list[str]]:
    """Every command line of the program in a page's blocks, as a shell splits it."""
    for _, language, code in FENCE.findall(text):
        if not language:
            for line in code.replace("\\\n", " ").splitlines():
                if line.startswith("sfumato "):
                    yield shlex.split(line, comments=True)[1:]


def mentioned(text: str) -> Iterator[list[str]]:
    """The words of every `sfumato ...` inside a sentence."""
    for code in re.findall(r"`(sfumato [^`]+)`", prose(text)):
        yield code.split()[1:]


def verbs(app: Any) -> dict[str, Any]:
    """The program's verbs and groups of verbs, by name."""
    return dict(command_of(app).commands)


def read_commands(text: str, app: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the program reads of a page's command lines, none of which it carries out."""
    read: list[dict[str, Any]] = []
    monkeypatch.setattr("typer.testing._get_command", command_of)
    monkeypatch.setattr(TyperCommand, "invoke", lambda self, context: read.append(context.params))
    alone = "sfumato.cli.main.guarded"  # of groups that do something without a verb
    monkeypatch.setattr(alone, lambda body, values, debug: read.append(values))
    groups = {name for name, verb in verbs(app).items() if hasattr(verb, "commands")}
    for words in commands(text):
        if len(words) == 1 and words[0] in groups:  # it would list, and there is nothing to read
            continue
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (words, done.output)
    for values in read:
        assignments(values.get("extra") or [])
    return read


def check_sentences(text: str, app: Any, where: str) -> None:
    """Verbs and options that a page names inside its sentences are there."""
    for words in mentioned(text):
        known, flags = verbs(app), {"--help", "--help-all", "--version", *WITH_VALUE, "--detach"}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in flags, (where, words)
            elif known and word.strip(".").islower():
                assert word in known, (where, words)
                flags |= {flag for option in known[word].params for flag in option.opts}
                known = getattr(known[word], "commands", {})
