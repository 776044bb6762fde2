"""What the verbs that make pictures have in common: `generate`, and those of the methods."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter
from pathlib import Path
from typing import Any

from sfumato.cli.fields import Wanted, method_parameters, methods_of, other_parameters
from sfumato.cli.manual import MAIN
from sfumato.cli.options import flags, keyword
from sfumato.core.errors import SfumatoError, quoted
from sfumato.methods import Method, main_field, registry


@dataclass(frozen=True)
class Others:
    """Options for the methods that are no verb, worked out when first asked for.

    program: flags of the program's own options.
    """

    program: frozenset[str]

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(other_parameters(self.program))

    @cached_property
    def taken(self) -> frozenset[str]:
        """Flags that no field of a verb's method may have."""
        return self.program | flags(self.parameters) | {"--preset"}


@dataclass(frozen=True)
class Maker:
    """A verb that makes pictures, alone, in a sweep or in a batch. cls: None for `generate`."""

    name: str
    cls: type[Method] | None
    others: Others

    @property
    def text(self) -> str:
        """The first line of the method's module: what it is, with its source."""
        if self.cls is None:
            return "Make pictures from a prompt."
        text = sys.modules[self.cls.__module__].__doc__ or self.cls.__doc__ or ""
        return " ".join(text.split("\n\n")[0].split())

    @property
    def fields(self) -> list[Parameter]:
        """Options of the method's own fields."""
        return [] if self.cls is None else method_parameters(self.cls, self.others.taken)

    @property
    def preset(self) -> list[Parameter]:
        """--preset, where the method has presets."""
        known = ", ".join(self.cls.presets) if self.cls else ""
        if not known:
            return []
        return [keyword("preset", str | None, None, "--preset", text=f"named settings: {known}")]

    @property
    def first(self) -> frozenset[str]:
        """Flags that the verb's help shows first; its pictures are always there."""
        if self.cls is None:
            return MAIN
        return MAIN | {f"--{main_field(self.cls)}".replace("_", "-")}

    def methods(self, values: Mapping[str, Any]) -> list[Wanted]:
        """The methods that the values ask for."""
        return methods_of(self.cls, values, values["extra"], values.get("preset"))


def makers(program: Collection[str], verbs: Collection[str]) -> list[Maker]:
    """`generate`, then the installed methods' own verbs.

    program: flags of the program's own options. verbs: its own verbs; a method that is called like
    one of them is left to --with.
    """
    others = Others(frozenset(program))
    own = [
        Maker(name, cls, others)
        for name, cls in sorted(registry().items())
        if cls.verb and name not in verbs
    ]
    return [Maker("generate", None, others), *own]


NAME = 255
"""Bytes of a file's name that systems take; a longer text is no path to one here."""


def _is_file(text: str) -> bool:
    return len(text.encode("utf-8", "surrogatepass")) <= NAME and Path(text).is_file()


def prompted(values: dict[str, Any]) -> dict[str, Any]:
    """The values with the prompt that was typed without -p."""
    words = values.pop("words", None)
    if not words:
        return values
    if len(words) == 1 and _is_file(words[0]):
        raise SfumatoError(
            f"{words[0]}: is a file, and generate takes a prompt; to begin from a picture: "
            f"sfumato sdedit {words[0]}"
        )
    if values["prompt"] is not None:
        raise SfumatoError(
            f"{quoted(' '.join(words))}: -p gives a prompt too; leave one of them out"
        )
    return {**values, "prompt": " ".join(words)}
