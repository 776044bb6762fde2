"""The public data set: a folder of photos for each subject, and one file of classes and prompts."""

from __future__ import annotations

import ast
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from sfumato.core.errors import SfumatoError, quoted
from sfumato.documents import expanded, is_folder

log = logging.getLogger("sfumato")

FILE = "prompts_and_classes.txt"
HEADINGS = ("classes", "prompts", "object prompts", "live subject prompts")
LIVE = ("cat", "dog")
"""Classes of the public set that get the prompts of live subjects; its file does not say which."""
LITERAL = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")


@dataclass(frozen=True)
class Subject:
    """name: of its folder; noun: its class; templates: its prompts, {0} its name, {1} its class."""

    name: str
    noun: str
    folder: Path
    templates: tuple[str, ...]

    def prompts(self, identifier: str = "") -> list[str]:
        """The prompts with what the subject is called, or without it."""
        filled = (t.replace("{0}", identifier).replace("{1}", self.noun) for t in self.templates)
        return [" ".join(text.split()) for text in filled]


def subjects(data: str | Path, omitted: list[str]) -> list[Subject]:
    """The subjects of a folder in the public layout; what is left out goes to `omitted`."""
    root = expanded(data)
    folder = root / "dataset" if is_folder(root / "dataset") else root
    if not is_folder(folder):
        raise SfumatoError(f"data {data}: no such folder; give the public data set's `dataset`")
    near = [folder / FILE, folder.resolve().parent / FILE]
    file = next((place for place in near if place.is_file()), None)
    if file is None:
        raise SfumatoError(f"data {data}: no {FILE} in it or beside it, which has the prompts")
    classes, lists = parsed(file.read_text(encoding="utf-8-sig", errors="replace"))
    present = []
    for name, noun in classes.items():
        kind = HEADINGS[3 if noun in LIVE else 2]
        if not (folder / name).is_dir():
            omit(omitted, f"{name}: no such folder in {folder}")
        elif not lists[kind]:
            raise SfumatoError(f"{FILE}: no {kind}, which {name} needs")
        else:
            present.append(Subject(name, noun, folder / name, tuple(lists[kind])))
    if not present:
        raise SfumatoError(f"data {data}: no folder there is a subject of {FILE}")
    return present


def omit(omitted: list[str], line: str) -> None:
    omitted.append(line)
    log.warning("%s; left out", line)


def parsed(text: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Classes by subject, and prompts by heading. What is written as code is read, never run."""
    classes: dict[str, str] = {}
    lists: dict[str, list[str]] = {heading: [] for heading in HEADINGS[2:]}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped, where = line.strip(), f"{FILE}, line {number}"
        heading = " ".join(stripped.lower().strip("#: ").split())
        if heading in HEADINGS:
            section = heading
        elif section == "classes" and stripped:
            name, _, noun = (part.strip() for part in stripped.partition(","))
            if not (name and noun) or Path(name).name != name or name == "..":
                raise SfumatoError(f"{where}: {quoted(stripped)} is not SUBJECT,CLASS")
            if name != "subject_name":
                classes[name] = noun
        elif section in lists and ("'" in stripped or '"' in stripped):
            lists[section] += templates(stripped, where)
    if not classes:
        raise SfumatoError(f"{FILE}: no lines SUBJECT,CLASS under a heading Classes")
    return classes, lists


def templates(line: str, where: str) -> list[str]:
    """The strings of a line of code, each with {0} and {1}."""
    try:
        literals = [str(ast.literal_eval(literal)) for literal in LITERAL.findall(line)]
    except (SyntaxError, ValueError):
        literals = []
    whole = bool(literals) and not re.search("['\"]", LITERAL.sub("", line))
    if not whole or any(sorted(re.findall(r"\{.*?\}", t)) != ["{0}", "{1}"] for t in literals):
        raise SfumatoError(f"{where}: {quoted(line)} has no prompt with {{0}} and {{1}} in quotes")
    return literals
