"""Result: the pictures of a run with their recipe, and how they are saved and shown."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sfumato import images
from sfumato.core.errors import SfumatoError
from sfumato.images import Picture
from sfumato.images.picture import format_of
from sfumato.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Result:
    """images: one Picture for each of the batch, each carrying its recipe.

    trace: scalars of every transition. calls: network calls of each stage. scores: last
    log-probability of each guide, one value a picture. evaluations: what guides cost besides:
    passes "backward", of "features", and of a "clip" (of each cutout of a picture).
    """

    images: Sequence[Picture]
    recipe: Recipe
    trace: Sequence[Mapping[str, Any]] = ()
    calls: Sequence[int] = ()
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    evaluations: Mapping[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{image.width}x{image.height}" for image in self.images)
        return f"Result({sizes}; {self.cost})"

    @property
    def cost(self) -> str:
        """Network calls and evaluations, in words."""
        calls = f"{' + '.join(str(n) for n in self.calls)} network calls"
        return ", ".join([calls, *(f"{n} {name}" for name, n in self.evaluations.items())])

    def save(self, pattern: str | Path) -> list[Path]:
        """Save every picture; never overwrites: a taken name gets -2, -3, ...

        `pattern` may hold {i} (from 1), {seed} and {prompt}; several pictures without {i} or
        {seed} get -1, -2, ... before the suffix. A folder gets {prompt}-{seed}.png.
        """
        indices = [
            image.recipe.run.get("index", i) if image.recipe else i
            for i, image in enumerate(self.images)
        ]
        saved = []
        for image, path in zip(
            self.images, named(pattern, self.recipe.prompt, self.recipe.seed, indices), strict=True
        ):
            target = free(path)
            image.save(target)
            saved.append(target)
        return saved

    def descended(self, parents: Sequence[str]) -> Result:
        """The same result whose recipes name these parents."""
        recipe = replace(self.recipe, parents=tuple(parents))
        for image in self.images:
            image.recipe = replace(image.recipe, parents=tuple(parents))
        return replace(self, recipe=recipe)

    def sheet(self, before: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """A contact sheet of the pictures, captioned with their seeds.

        before: caption -> picture to show in front, such as what was edited. options: images.sheet.
        """
        shown = dict(before or {})
        shown |= {f"seed {self.recipe.seed + i}": image for i, image in enumerate(self.images)}
        return images.sheet(list(shown.values()), list(shown), **options)

    def _repr_html_(self) -> str:
        shown = "".join(
            f'<figure style="margin:4px"><img src="{data_url(image)}">'
            f"<figcaption>seed {self.recipe.seed + i}</figcaption></figure>"
            for i, image in enumerate(self.images)
        )
        return f'<div style="display:flex;flex-wrap:wrap">{shown}</div><p>{self.cost}</p>'


def named(
    pattern: str | Path, prompt: str, seed: int, indices: Sequence[int], **extra: str
) -> list[Path]:
    """A path for each picture of a batch, as Result.save says; extra: more {names}."""
    text = str(pattern)
    if Path(text).is_dir() or text.endswith("/"):
        text = str(Path(text) / "{prompt}-{seed}.png")
    path = Path(text)
    if len(indices) > 1 and "{i}" not in text and "{seed}" not in text:
        text = str(path.with_name(f"{path.stem}-{{i}}{path.suffix}"))
    slug = re.sub(r"\W+", "-", prompt.lower()).strip("-")[:40] or "picture"
    made = []
    for index in indices:
        name = text
        values = {"i": index + 1, "seed": seed + index, "prompt": slug, **extra}
        for key, value in values.items():
            name = name.replace(f"{{{key}}}", str(value))
        made.append(Path(name))
    return made


def checked(pattern: str | Path) -> str:
    """The pattern, if pictures can be saved under such names; called before anything is made."""
    text = str(pattern)
    if not (Path(text).is_dir() or text.endswith("/")):
        format_of(Path(text))
    return text


def folder_of(pattern: str) -> Path:
    """The folder of a pattern; the current one where the folder depends on the picture."""
    folder = Path(pattern) if pattern.endswith("/") else Path(pattern).parent
    return Path.cwd() if "{" in str(folder) else folder


def data_url(image: Any) -> str:
    """A picture as the address of an <img>."""
    buffer = io.BytesIO()
    image.copy().save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def free(path: Path) -> Path:
    """The path, or the first of path-2, path-3, ... that does not exist."""
    if not path.parent.exists():
        raise SfumatoError(f"{path}: the folder {path.parent} does not exist; make it first")
    k, candidate = 2, path
    while candidate.exists():
        candidate = path.with_name(f"{path.stem}-{k}{path.suffix}")
        k += 1
    return candidate
