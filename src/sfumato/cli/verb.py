"""A verb of the program as a value: its body beside its options and what its help says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter
from typing import Literal


@dataclass(frozen=True)
class Verb:
    """One verb. body takes the parameters' values by name, all but --debug.

    where: "anywhere", also on a server; or "machine", of which it is about.

    first: flags that its help shows first, None for all. Bodies import what they need when they
    run, so that help waits for nothing.
    """

    name: str
    body: Callable[..., None]
    text: str
    parameters: tuple[Parameter, ...]
    examples: tuple[str, ...] = ()
    first: frozenset[str] | None = None
    where: Literal["anywhere", "machine"] = "anywhere"


@dataclass(frozen=True)
class Group:
    """Verbs under one name. verbs: worked out when the group is called. alone: its own body."""

    name: str
    text: str
    examples: tuple[str, ...]
    verbs: Callable[[], tuple[Verb, ...]]
    alone: Verb | None = None
