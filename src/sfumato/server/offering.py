"""Offerings: files and folders of weights that methods may name at a server, and by what fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfumato import methods
from sfumato.core.errors import SfumatoError
from sfumato.core.synonyms import hinted
from sfumato.documents import expanded, is_there
from sfumato.methods.common.kinds import DENOISER
from sfumato.methods.common.named import weights_fields
from sfumato.recipe.names import HUB, WEIGHTS, is_weights


@dataclass(frozen=True)
class Offering:
    """source: a path of this machine, or the hub's org/name. fields: METHOD.FIELD of each field
    that may name it."""

    source: str
    fields: tuple[str, ...]

    @property
    def name(self) -> str:
        """What recipes call it."""
        return Path(self.source).name if is_there(Path(self.source)) else self.source

    @classmethod
    def of(cls, text: str) -> Offering:
        """From METHOD=PATH, METHOD.FIELD=PATH, or several methods with commas between them."""
        target, equals, source = text.partition("=")
        if not equals or not source:
            raise SfumatoError(
                f"--weights {text}: write METHOD=FILE, such as controlnet=edges.safetensors"
            )
        fields = tuple(field for part in target.split(",") for field in _fields(part, text))
        path = expanded(source)
        if is_there(path):
            if not is_weights(path):
                raise SfumatoError(f"--weights {text}: files end in {', '.join(WEIGHTS)}")
            source = str(path.parent.resolve() / path.name)
        elif not HUB.fullmatch(source):
            raise SfumatoError(f"--weights {text}: no such file or folder; check the path")
        return cls(source, tuple(dict.fromkeys(fields)))


def _fields(text: str, option: str) -> list[str]:
    """Of a method all that name weights, else the one that is named."""
    name, dot, field = text.partition(".")
    known = {id for id, cls in methods.registry().items() if weights_fields(cls)}
    if name not in known:
        raise SfumatoError(
            f"--weights {option}: {name!r:.60} is no method with weights{hinted(name, known)}; "
            f"there are {', '.join(sorted(known))}"
        )
    own = weights_fields(methods.find(name))
    if dot and field not in own:
        raise SfumatoError(f"--weights {option}: {name} names weights by {', '.join(own)}")
    return [f"{name}.{one}" for one in ([field] if dot else own)]


def offerings(texts: Sequence[str], adapters: Sequence[Path]) -> tuple[Offering, ...]:
    """Of the command line. An adapter may be named wherever a model or an adapter may.

    Given several times, with the same fields or others, it is one. SfumatoError where two have one
    name.
    """
    anywhere = tuple(
        f"{id}.{name}"
        for id, cls in methods.registry().items()
        for name, field in weights_fields(cls).items()
        if field.format == DENOISER
    )
    offered = [Offering.of(text) for text in texts]
    offered += [Offering(str(file), anywhere) for file in adapters]
    fields: dict[str, tuple[str, ...]] = {}
    for one in offered:
        fields[one.source] = (*fields.get(one.source, ()), *one.fields)
    merged = tuple(Offering(source, tuple(dict.fromkeys(of))) for source, of in fields.items())
    names: dict[str, str] = {}
    for one in merged:
        if names.setdefault(one.name, one.source) != one.source:
            raise SfumatoError(f"--weights {one.source}: another is called {one.name} too; "
                               "rename one")  # fmt: skip
    return merged
