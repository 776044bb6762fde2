"""Aesthetic loss: a linear head on a CLIP's vectors that was fitted to people's ratings.

Heads are fitted to AVA or to Simulacra Aesthetic Captions (SAC). DiffStyler's program adds the
rating to what it makes smaller; here a higher rating is better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sfumato.core.errors import SfumatoError
from sfumato.methods import knob, method
from sfumato.methods.common.kinds import Weights
from sfumato.methods.common.loss import CLIPLoss
from sfumato.methods.common.penalty import Measure
from sfumato.methods.common.weights import record

if TYPE_CHECKING:
    from sfumato.core.context import Run


@method
class Aesthetic(CLIPLoss):
    """logp = weight * rating, averaged over the cutouts."""

    weight: Annotated[float, knob("strength: rating by a linear head", main=True, ge=0, le=1e6)] = (
        10.0
    )
    head: Annotated[
        Weights | None,
        knob("file of the head, fitted to the CLIP in use; else sac_* or ava_* in SFUMATO_HOME"),
    ] = None

    def measure(self, run: Run) -> Measure:
        eye = self.eye(run)
        head = None if run.source is None else run.source.rating(self.head)
        if head is None:
            raise SfumatoError(
                "aesthetic: no head here; give head, a file such as "
                "sac_public_2022_06_29_vit_b_16_linear.pth, and the CLIP it was fitted to, or put "
                "the file into SFUMATO_HOME"
            )
        width = eye.clip.text(["a"]).shape[-1]
        if head.width != width:
            raise SfumatoError(
                f"aesthetic: {head.name} reads vectors of width {head.width}, this CLIP gives "
                f"{width}; give clip, the one that the head was fitted to"
            )
        record(run, self.id, "head", head.origin)
        return lambda view: -head(view.embeddings(eye)).mean(0)
