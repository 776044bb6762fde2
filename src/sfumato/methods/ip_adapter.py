"""IP-Adapter (arXiv 2308.06721): a picture as a prompt, by a second attention beside the text's.

Z = attention(Q, K, V) + scale softmax(Q K'^T / sqrt(d)) V', with K' = c W_k' and V' = c W_v' of
tokens c, made of the picture's CLIP vectors. Where text and pixels are under one softmax (GLIDE,
the bundled model), the second attention comes after it. Guidance's empty prompt gets the tokens of
no picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sfumato import images
from sfumato.core.context import Call, Run
from sfumato.core.errors import SfumatoError
from sfumato.core.taps import Site, Tap
from sfumato.images import Image
from sfumato.methods import Method, knob, method
from sfumato.methods.common.kinds import Colour, Weights, Window, within
from sfumato.methods.common.weights import record

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process
    from sfumato.core.source import ImagePrompt, Spot


@method
class IPAdapter(Method):
    """The prompt says what, the picture what it is like; about 0.5 where the text should lead."""

    verb: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        'rose.png adapter.safetensors -p "castle, 3d render"',
        'photo.png ip-adapter_sd15.safetensors -p "a castle" --encoder image_encoder',
    )

    image: Annotated[Image, knob("the picture that is the prompt; its middle square is looked at")]
    file: Annotated[Weights, knob("the adapter's file: a tuner's, or a released one")]
    scale: Annotated[float, knob("strength beside the text", main=True, ge=0, le=5)] = 1.0
    encoder: Annotated[
        Weights | None,
        knob("folder of the CLIP image encoder; image_encoder beside the file if not given"),
    ] = None
    window: Annotated[Window, knob("times at which it acts: low, high")] = (0.0, 1.0)
    background: Annotated[Colour, knob("colour behind transparent parts")] = "white"

    def __call__(self, process: Process) -> Process:
        return process.add(taps=(self,))

    def bind_tap(self, run: Run) -> Tap:
        if run.source is None:
            raise SfumatoError("ip_adapter: needs a model")
        prompt = run.source.image_prompt(self.file, self.encoder)
        record(run, self.id, "file", prompt.origin)
        record(run, self.id, "encoder", prompt.sees_by)
        picture = self.image.picture()
        if not self.scale:
            return Tap()  # exactly as without
        pixels = images.to_square(picture, prompt.size, self.background)[None].to(run.device)
        key = f"{prompt.origin.sha256} {self.image.sha256}"
        of_picture = Prompted(
            prompt.read(pixels), prompt, self.scale, self.window, key, ("positives",)
        )
        run.taps.append(
            Prompted(prompt.nothing(), prompt, self.scale, self.window, f"{key} none", ("aways",))
        )
        return of_picture


@dataclass(eq=False)
class Prompted(Tap):
    """tokens: (1, N, width) for all pictures, or (B, N, width)."""

    tokens: Tensor
    prompt: ImagePrompt
    scale: float = 1.0
    window: tuple[float, float] = (0.0, 1.0)
    key: str = ""
    on: Any = None
    name: str = field(default="ip_adapter", init=False)
    _kept: dict[Spot, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def active(self, call: Call) -> bool:
        return within(self.window, call.t)

    def at(self, site: Site) -> bool:
        return (site.kind, site.index) in self.prompt.spots

    def attended(self, o: Tensor, q: Tensor, site: Site, call: Call) -> Tensor:
        from sfumato.nn.text import attend

        spot, heads, width = (site.kind, site.index), q.shape[1], q.shape[3]
        if spot not in self._kept:
            self._kept[spot] = self.prompt.keys_values(spot, self.tokens, heads)
        k, v = self._kept[spot]
        if k.shape[1] != heads or k.shape[3] != width:
            raise SfumatoError(
                f"{self.name}: its keys are {k.shape[1]} heads of {k.shape[3]}, those of "
                f"{site.name} {heads} of {width}; it is for another network"
            )
        rows = slice(None) if len(k) == 1 else call.pictures
        k, v = (part[rows].expand(len(q), -1, -1, -1).to(q.dtype) for part in (k, v))
        return o + self.scale * attend(q, k, v)
