"""DiffuseIT (arXiv 2209.15264): translate a picture by words or by another picture's style.

The run begins from the noised picture. At every step the gradient, through the network, of a loss
of P~ = s P + (1 - s) x_t with s = sigma_t keeps what a vision transformer's keys say of the layout,
and brings its first token (or a CLIP's vector) to the style:
  structure |S(k(P~)) - S(k(source))|^2, S the cosines of every two patches' keys
+ contrast  -log softmax of each patch's own key in the source among all (tau 0.07)
- leave     |cls(P~) - cls(P~ of the step before)|^2, above a level
+ weight    |cls(P~) - cls(style)|^2; of words -cos(E(P~), E(text) - 0.4 E(was) + 0.2 E(source))
+ colour    |P~ - style|^2
+ inside    |P - clamp(P)|^2; above `limit` the run begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sfumato.core.context import Run
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.idle import Needs
from sfumato.core.lazy import torch
from sfumato.core.source import Vision
from sfumato.core.starts import BoundStart
from sfumato.images import Image, ImageInput
from sfumato.methods import Method, knob, method
from sfumato.methods.cfg import CFG
from sfumato.methods.common.cutouts import Eye
from sfumato.methods.common.fields import Background
from sfumato.methods.common.kinds import Text, Weights
from sfumato.methods.common.loss import decoder
from sfumato.methods.common.picture_start import FromPicture
from sfumato.methods.common.reference_picture import reference_pixels
from sfumato.methods.common.sight import clip_for, sized
from sfumato.methods.common.weights import record
from sfumato.methods.inner.translation import Pull, Terms, Translation, to_picture, to_vector
from sfumato.methods.sdedit import SDEdit

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process

WAS, SOURCE = -0.4, 0.2  # parts of the vectors of what the picture is called now, and of itself


@method
class DiffuseIT(FromPicture):
    """Made for solver ddpm, which shifts its mean by Sigma times the gradient, and no guidance."""

    verb: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        'photo.png --text "ink drawing" --was "3d render"',
        "photo.png --style drawing.png",
    )
    slot: ClassVar[str | None] = "start"
    solver: ClassVar[str | Mapping[str, Any] | None] = "ddpm"
    defaults: ClassVar[tuple[Method, ...]] = (CFG(1.0),)
    levels: ClassVar[tuple[str, ...]] = ("t_start",)

    image: Annotated[Image, knob("the picture to translate")]
    style: Annotated[Image | None, knob("a picture whose style it gets")] = None
    text: Annotated[Text, knob("words for what it becomes; without style the prompt, if none")] = ""
    was: Annotated[Text, knob("words for what it is now")] = ""
    weight: Annotated[float, knob("pull to the style or words", main=True, ge=0, le=1e6)] = 2000.0
    t_start: Annotated[
        float | None, knob("level that it begins at, 0.6 if not given", unit="t", ge=0, le=1)
    ] = None
    repeats: Annotated[int, knob("how often the first step is walked", ge=1, le=100)] = 10
    structure: Annotated[float, knob("weight of the keys' likeness", ge=0, le=1e6)] = 1000.0
    contrast: Annotated[float, knob("weight of the keys' contrast", ge=0, le=1e6)] = 200.0
    leave: Annotated[float, knob("push away from the step before", ge=0, le=1e6)] = 100.0
    until: Annotated[
        float, knob("level above which that acts", unit="t", ge=0, le=1), Needs("leave>0")
    ] = 0.5
    colour: Annotated[
        float, knob("weight of the style's own pixels", ge=0, le=1e6), Needs("style")
    ] = 3000.0
    inside: Annotated[float, knob("weight of values out of range", ge=0, le=1e6)] = 200.0
    limit: Annotated[
        float, knob("mean square beyond the range at which it begins anew; 0: never", ge=0, le=1e3)
    ] = 0.01
    vit: Annotated[
        Weights | None, knob("folder or org/name of a ViT, DINO or CLIP; the model's CLIP if none")
    ] = None
    clip: Annotated[
        Weights | None, knob("folder or org/name of a clean CLIP for words; the model's own else")
    ] = None
    decoder: Annotated[
        Literal["full", "tiny"], knob("of a latent model: what is looked through; tiny is faster")
    ] = "full"
    background: Background = "white"

    def __call__(self, process: Process) -> Process:
        return process.add(start=self, guides=(self,))

    def level(self, process: Process) -> float:
        return process.starts_at(0.6) if self.t_start is None else self.t_start

    def path(self, times: tuple[float, ...]) -> tuple[float, ...]:
        return (*times[:2] * (self.repeats - 1), *times) if len(times) > 1 else times

    def bind_start(self, run: Run) -> BoundStart:
        start = SDEdit(self.image)
        if not self.image.is_tensor:  # which has none
            start = SDEdit(self.image, background=self.background)
        return start.bind_start(run)

    def bind_guide(self, run: Run) -> Guide:
        if run.source is None:
            raise SfumatoError("diffuseit: needs a model, whose CLIP or ViT looks at pictures")
        vision = run.source.vision(self.vit)
        if vision is None:
            raise SfumatoError("diffuseit: this model has no CLIP; give vit, a folder or org/name")
        record(run, self.id, "vit", vision.origin)
        assert run.known is not None
        decode = decoder(self.id, run, self.decoder)
        with torch.no_grad():
            pixels = run.space.decode(run.known)
            seen = vision(sized(pixels, vision.size))
            pulls = [] if self.style is None else [self._to_style(run, self.style, vision)]
            words = self.text if self.text.strip() or self.style is not None else run.process.prompt
            if words.strip():
                pulls.append(self._to_words(run, words, pixels))
        if not pulls and self.weight:
            raise SfumatoError("diffuseit: nothing to translate to; give style, text or a prompt")
        weights = Terms(
            self.structure, self.contrast, self.leave, self.until, self.inside, self.limit
        )
        return Translation(weights, vision, seen, pulls, decode)

    def _to_style(self, run: Run, style: ImageInput, vision: Vision) -> Pull:
        return to_picture(vision, reference_pixels(self.id, style, run), self.weight, self.colour)

    def _to_words(self, run: Run, words: str, pixels: Tensor) -> Pull:
        clip = clip_for(self.id, run, self.clip, noised=False)
        eye = Eye(clip)
        vector = clip.text([words]) + SOURCE * eye(pixels, run.call(-1, run.level, run.level))[0]
        if self.was.strip():
            vector = vector + WAS * clip.text([self.was])
        return to_vector(eye, vector, self.weight)
