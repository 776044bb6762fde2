"""Instruction loss: how far a CLIP finds the picture from a text (DiffStyler, arXiv 2211.10682).

Forms: squared geodesic distance (what DiffStyler's program uses), cosine distance (its paper), and
two that compare with the content picture, direction and angle (DiffusionCLIP, arXiv 2110.02711).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from sfumato.core.errors import SfumatoError
from sfumato.core.idle import Needs
from sfumato.core.lazy import torch
from sfumato.images import Image
from sfumato.methods import knob, method
from sfumato.methods.common.kinds import Text
from sfumato.methods.common.loss import CLIPLoss
from sfumato.methods.common.penalty import Measure, View

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.context import Run

COMPARING = Needs("form=directional,angle")


@method
class Instruction(CLIPLoss):
    """Looks at the predicted picture, so any CLIP will do; a noised one is told it is clean.

    3D renders redrawn as ink on the bundled base (t0 = 0.6): cosine 0.09; at weight 100 0.17, at
    500 0.29, at 2000 0.44; of real ink drawings 0.48. From noise it finds colours, not things.
    """

    weight: Annotated[
        float, knob("strength: agreement with a text, by a CLIP", main=True, ge=0, le=1e6)
    ] = 500.0
    prompt: Annotated[
        Text | None,
        knob("text to steer to, or several as a:2|b:-1; the process's own if not given"),
    ] = None
    form: Annotated[
        Literal["spherical", "cosine", "directional", "angle"],
        knob("distance to the text; or change of the picture against source -> prompt"),
    ] = "spherical"
    source: Annotated[
        Text | None, knob("what the content picture is, such as photo"), COMPARING
    ] = None
    image: Annotated[
        Image | None, knob("the content picture; the run's own if not given"), COMPARING
    ] = None

    def measure(self, run: Run) -> Measure:
        eye = self.eye(run)
        parts = [(run.process.prompt, 1.0)] if self.prompt is None else weighted(self.prompt)
        if not all(text.strip() for text, _ in parts):
            raise SfumatoError("instruction: no text to steer to; give a prompt")
        texts: Tensor = eye.clip.text([text for text, _ in parts])
        target = mixed(texts, [weight for _, weight in parts])
        if self.form in ("spherical", "cosine"):
            distance = spherical if self.form == "spherical" else cosine
            return lambda view: distance(view.embeddings(eye), target).mean(0)
        if not self.source:
            raise SfumatoError(
                f"instruction: form {self.form} needs source, what the content picture is, such as "
                "photo"
            )
        source: Tensor = eye.clip.text([self.source])
        content = self.content(run)

        def before(view: View) -> Tensor:
            """The content's vectors in the same cutouts."""
            kept: dict[Any, Tensor] = view.call.memo
            if eye.fresh or ("content", eye) not in kept:
                kept["content", eye] = eye(content.expand_as(view.pixels), view.call)
            return kept["content", eye]

        if self.form == "angle":
            wanted = (target * source).sum(-1)
            return lambda view: angle(view.embeddings(eye), before(view), wanted).mean(0)
        way = direction(target, source)
        return lambda view: directional(view.embeddings(eye), before(view), way).mean(0)


HEAVIEST = 1000
NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*", re.IGNORECASE)


def weighted(text: str, default: float = 1.0) -> list[tuple[str, float]]:
    """ "a:2|b" -> [("a", 2.0), ("b", default)]; what follows a colon is a weight if a number."""
    parts = []
    for part in text.split("|"):
        words, colon, tail = part.rpartition(":")
        if colon and NUMBER.fullmatch(tail):
            if abs(float(tail)) > HEAVIEST:
                raise SfumatoError(
                    f"instruction: weight {tail.strip():.20} of a text is beyond {HEAVIEST}"
                )
            parts.append((words.strip(), float(tail)))
        else:
            parts.append((part.strip(), default))
    return parts


def mixed(vectors: Tensor, weights: Sequence[float]) -> Tensor:
    """(n, E) and n weights -> (1, E): the unit vector of their weighted sum."""
    w = torch.tensor(weights).to(vectors)
    if abs(float(w.sum())) < 1e-3:
        raise SfumatoError("instruction: the weights of its texts sum to 0; make one larger")
    total = (w[:, None] / w.sum().abs() * vectors).sum(0, keepdim=True)
    return unit(total)


def unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


def spherical(vectors: Tensor, target: Tensor) -> Tensor:
    """2 arcsin^2(|u - v| / 2) of unit vectors: half the square of their angle."""
    gap = torch.linalg.vector_norm(unit(vectors) - unit(target), dim=-1)
    geodesic: Tensor = 2 * (gap / 2).arcsin().square()
    return geodesic


def cosine(vectors: Tensor, target: Tensor) -> Tensor:
    """1 - cos."""
    return 1 - (unit(vectors) * unit(target)).sum(-1)


def direction(target: Tensor, source: Tensor) -> Tensor:
    """(1, E): the way from texts (k, E) to as many others, averaged."""
    return unit((unit(target) - unit(source)).mean(0, keepdim=True))


def directional(vectors: Tensor, before: Tensor, way: Tensor) -> Tensor:
    """1 - cos between the picture's change and the texts' way."""
    change = unit(vectors) - unit(before)
    change = change / (torch.linalg.vector_norm(change, dim=-1, keepdim=True) + 1e-7)
    return cosine(change, way)


def angle(vectors: Tensor, before: Tensor, wanted: Tensor) -> Tensor:
    """How far cos(picture, content) is from cos(prompt, source)."""
    return ((unit(vectors) * unit(before)).sum(-1) - wanted).abs()
