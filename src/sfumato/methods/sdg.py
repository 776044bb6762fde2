"""Semantic diffusion guidance (arXiv 2112.05744): by words and a picture, in a CLIP's features.

log p(x_t) = text cos(E(x_t, t), E(l)) + weight F(x_t, x'_t), where x'_t is the reference noised to
the same level and F, of the layers of a CLIP that has seen noise, one of
  content    cos(E(x_t), E(x'_t))
  structure  -mean_i |u_i - u'_i|^2 over the patches' last unit vectors u
  style      -mean |G - G'|^2 over five layers, G = mean_i u_i u_i^T.
A clean CLIP looks at the predicted picture instead (`noised=False`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sfumato.core.context import Run
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.idle import Needs
from sfumato.core.schedule import FAINTEST
from sfumato.images import Image
from sfumato.methods import Method, knob, method
from sfumato.methods.cfg import CFG
from sfumato.methods.common.kinds import Text
from sfumato.methods.common.loss import decoder
from sfumato.methods.common.reference_picture import reference_pixels
from sfumato.methods.common.sight import CleanClip, Faintest, Noised, SeenThrough, clip_for
from sfumato.methods.inner.semantic import ALIKE, Semantic

if TYPE_CHECKING:
    from sfumato.core.process import Process


@method
class SDG(Method):
    """Made for solver ddpm, which shifts its mean by Sigma times the gradient, and no prompt."""

    verb: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        "--image reference.png",
        '--image reference.png --what style --text "blue heart"',
    )
    slot: ClassVar[str | None] = "sdg"
    solver: ClassVar[str | Mapping[str, Any] | None] = "ddpm"
    defaults: ClassVar[tuple[Method, ...]] = (CFG(1.0),)

    image: Annotated[Image | None, knob("the reference picture", main=True)] = None
    what: Annotated[
        Literal["content", "structure", "style"], knob("what is taken of it"), Needs("image")
    ] = "content"
    weight: Annotated[float, knob("strength of the reference", ge=0, le=1e6), Needs("image")] = (
        100.0
    )
    text: Annotated[Text, knob("words to steer to")] = ""
    text_weight: Annotated[float, knob("strength of the words", ge=0, le=1e6), Needs("text")] = (
        160.0
    )
    noised: Noised = True
    faintest: Faintest = FAINTEST
    clip: CleanClip = None
    decoder: SeenThrough = "full"

    def __call__(self, process: Process) -> Process:
        if self.image is None and not self.text.strip():
            raise SfumatoError("sdg: nothing to steer to; give image, or text")
        acts = (self.image is not None and self.weight) or (self.text and self.text_weight)
        return process.add(guides=(self,)) if acts else process

    def bind_guide(self, run: Run) -> Guide:
        clip = clip_for(self.id, run, self.clip, self.noised)
        known = None
        if self.image is not None and self.weight:
            pixels = reference_pixels(self.id, self.image, run)
            known = run.space.encode(pixels) if self.noised else pixels
        return Semantic(
            clip,
            clip.schedule or run.schedule,
            clip.text([self.text]) if self.text and self.text_weight else None,
            self.text_weight,
            known,
            ALIKE[self.what],
            self.weight,
            self.noised,
            self.faintest,
            decoder(self.id, run, self.decoder) if run.space.stride > 1 else None,
        )
