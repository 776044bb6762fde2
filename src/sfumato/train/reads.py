"""Which tables of a recipe a tuner reads: each says it in its own file, as READS.

A table or field that a recipe gives and its tuner does not read is refused.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass

TUNERS = "sfumato.train.tuners"
NEED = "reads."


@dataclass(frozen=True)
class Reads:
    """packed: a packed set or a folder with captions: [data], [mix], [wording]. network: one that
    the recipe describes, not a model's that stays as it is: model.network, its vocabulary and
    tokenizer. levels: of that network's noise: model.schedule, model.table.

    times: at which levels it learns: [objective]; denoiser: with what loss besides: its weighting,
    norm and vb. adapter: low-rank factors instead of the weights: [adapter].

    subject: a few pictures of one: [subject]; classes: that it may keep a class what it was; word:
    that it learns one, of so many vectors.
    """

    packed: bool = False
    network: bool = False
    levels: bool = False
    times: bool = False
    denoiser: bool = False
    adapter: bool = False
    subject: bool = False
    classes: bool = False
    word: bool = False


def names() -> tuple[str, ...]:
    """All tuners."""
    package = importlib.import_module(TUNERS)
    return tuple(module.name for module in pkgutil.iter_modules(package.__path__))


def reads_of(tuner: str) -> Reads:
    """What a tuner reads; nothing that others read too, where it says nothing or is not known."""
    if tuner not in names():
        return Reads()
    reads: Reads = getattr(importlib.import_module(f"{TUNERS}.{tuner}"), "READS", Reads())
    return reads


def said_by_tuners(need: str) -> str:
    """A need of something read, such as reads.packed, by the names of the tuners that read it."""
    if not need.startswith(NEED):
        return need
    asked = [part.removeprefix(NEED) for part in need.split("|")]
    able = [name for name in names() if any(getattr(reads_of(name), one) for one in asked)]
    return f"tuner={','.join(able)}"
