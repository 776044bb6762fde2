"""Result: the pictures of a run with their recipe, and how they are saved and shown."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sfumato import images
from sfumato.core.errors import SfumatoError, error_line
from sfumato.core.interrupts import undisturbed
from sfumato.images import Picture
from sfumato.images.destination import Destination
from sfumato.images.metadata import lost
from sfumato.images.picture import format_of, keeps_alpha
from sfumato.images.writing import Written, write_safely
from sfumato.recipe import Recipe

log = logging.getLogger("sfumato")


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
        {seed} get -1, -2, ... before the suffix. A folder gets {prompt}-{seed}.png. A picture that
        cannot be written there is put elsewhere, and a warning says where.
        """
        target = Destination.of(pattern)
        target.check(self.paths(target))
        written = self.write(target)
        for file in written:
            if file.trouble:
                log.warning("%s", file.trouble)
        return [file.path for file in written]

    def paths(self, target: Destination) -> list[Path]:
        """Where the pictures go, as long as nobody has those names."""
        indices = [
            image.recipe.run.get("index", i) if image.recipe else i
            for i, image in enumerate(self.images)
        ]
        return target.paths(self.recipe.prompt, self.recipe.seed, indices)

    def write(self, target: Destination) -> list[Written]:
        """Write every picture, whatever happens to some; nothing is checked before."""
        with undisturbed():
            pairs = zip(self.images, self.paths(target), strict=True)
            return [save_new(image, path) for image, path in pairs]

    def descended(self, parents: Sequence[str]) -> Result:
        """The same result whose recipes name these parents."""
        recipe = replace(self.recipe, parents=tuple(parents))
        for image in self.images:
            image.recipe = replace(image.recipe, parents=tuple(parents))
        return replace(self, recipe=recipe)

    def sheet(self, before: Mapping[str, Any] | None = None, **options: Any) -> Picture:
        """A contact sheet of the pictures, captioned with their seeds; it carries their recipe.

        before: caption -> picture to show in front, such as what was edited. options: images.sheet.
        """
        pictures = dict(before or {})
        pictures |= {f"seed {self.recipe.seed + i}": image for i, image in enumerate(self.images)}
        contact_sheet = images.sheet(list(pictures.values()), list(pictures), **options)
        run = self.recipe.run.copy()
        if len(self.images) > 1:  # of all of them, not of one
            run.pop("index", None)
        composite = bool(before) or any(image.composite for image in self.images)
        return Picture.of(contact_sheet, recipe=replace(self.recipe, run=run), composite=composite)

    def _repr_html_(self) -> str:
        figures = "".join(
            f'<figure style="margin:4px"><img src="{data_url(image)}">'
            f"<figcaption>seed {self.recipe.seed + i}</figcaption></figure>"
            for i, image in enumerate(self.images)
        )
        return f'<div style="display:flex;flex-wrap:wrap">{figures}</div><p>{self.cost}</p>'


def save_new(picture: Picture, path: Path) -> Written:
    """Write a result under its name or the next free one; a finished picture is never dropped.

    Transparent parts go onto the run's background where the format has none; what cannot be
    encoded in the format becomes a PNG; what cannot be written there goes to another folder.
    """
    kind = format_of(path)
    if not keeps_alpha(picture, kind):
        background = _background(picture.recipe)
        lost(f"{path}: {kind} files hold no such transparency; it was laid on {background}")
        picture = Picture.of(
            images.flattened(picture, background), recipe=picture.recipe, name=picture.name,
            composite=picture.composite,
        )  # fmt: skip
    attempts = [(path, picture), (path.with_suffix(".png"), picture)]
    attempts.append((path.with_suffix(".png"), Picture.of(picture, recipe=None)))
    trouble: list[str] = []
    for target, candidate in attempts:
        try:
            data = candidate.encode(format_of(target), name=str(target))
        except Exception as error:  # of a format, or of a recipe that is no JSON
            trouble.append(error_line(error))
            continue
        written = write_safely(target, data)
        if trouble and not written.trouble:
            written = replace(written, trouble=f"{trouble[0]}; it is in {written.path}")
        return written
    raise SfumatoError(f"{path}: {trouble[-1]}")


def _background(recipe: Any) -> str:
    """The colour that the run laid behind transparent parts."""
    entries = getattr(recipe, "methods", ())
    return next((str(entry["background"]) for entry in entries if "background" in entry), "white")


def data_url(image: Any) -> str:
    """A picture as the address of an <img>."""
    buffer = io.BytesIO()
    image.copy().save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
