"""What losses have in common as methods: their fields, and what they ask of a run.

A loss is one file: a subclass of Loss whose `measure` says what is measured of a View.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from sfumato import images
from sfumato.core.context import Run, count
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.idle import Needs
from sfumato.core.lazy import torch
from sfumato.core.source import Decoder, Features
from sfumato.core.starts import Place
from sfumato.images import Image, ImageInput
from sfumato.methods import Method, knob, method
from sfumato.methods.common.cutouts import Eye
from sfumato.methods.common.kinds import Text, Weights, Window
from sfumato.methods.common.penalty import Measure, Penalty
from sfumato.methods.common.sight import CleanClip
from sfumato.methods.common.weights import record

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process


@method
class Loss(Method, ABC):
    """Fields of every loss. A subclass gives `weight` a default that fits the bundled model.

    Weights mean something for one extractor and one size only; with Gradient, only their ratios.
    The gradient of the prediction alone takes x0 for alpha x plus a constant, as if the network did
    not move. On the bundled base it takes 1.1 to 1.3 times a plain run's time, the one through the
    network 2.4 to 2.9 times; edits from t0 = 0.6 reach the same agreement at the same distance with
    either. By default Instruction, Perceptual and PatchNCE then move eps by 16 to 25 % of its own
    length at t = 0.8, by 2 to 4 % at 0.1; through the network by 130 to 210 % and 0.5 to 3 %, which
    from noise burns colours.
    """

    weight: Annotated[float, knob("strength", main=True, ge=0, le=1e6)] = 1.0
    on: Annotated[
        Text, knob("whose prediction it looks at and steers: mixture, or a branch's name")
    ] = "mixture"
    window: Annotated[Window, knob("times low, high between which it acts", unit="t")] = (0.0, 1.0)
    through: Annotated[
        Literal["network", "prediction"],
        knob("gradient through the network, as published, or of its prediction alone, cheaper"),
    ] = "prediction"
    mask: Annotated[
        Image | None, knob("where it acts: white; the rest moves only as the network makes it")
    ] = None
    decoder: Annotated[
        Literal["full", "tiny"],
        knob("of a latent model: what the loss sees x0 through; tiny is faster"),
    ] = "full"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.slot = cls.id

    def __call__(self, process: Process) -> Process:
        return process.add(guides=(self,)) if self.weight else process

    def place(self) -> Place:
        """A content picture sets the run's size where nothing else does."""
        return Place.of(self.reference_picture)

    def bind_guide(self, run: Run) -> Guide:
        with torch.no_grad():
            return Penalty(
                self.weight,
                self.measure(run),
                self.id,
                self.on,
                self.window,
                self.through,
                decode=decoder(self.id, run, self.decoder),
                mask=self.acting(run),
                looks=(self.decoder, self.mask),
            )

    @property
    def reference_picture(self) -> ImageInput | None:
        """The content picture, where the loss has one of its own."""
        return getattr(self, "image", None)

    @abstractmethod
    def measure(self, run: Run) -> Measure:
        """What is made smaller: a View -> (B,). Called once for a run, without gradients."""

    def content(self, run: Run) -> Tensor:
        """The content picture at the work size, (B or 1, 3, H, W) in [-1, 1].

        The loss's own `image`, else what the run begins from or keeps. Tensors are states.
        """
        image = self.reference_picture
        if image is not None and not image.is_tensor:
            picture = image.picture()
            if run.frame is None or run.frame.picture != picture.size:
                raise SfumatoError(
                    f"{self.id}: {image.name} is {picture.width}x{picture.height}, the picture "
                    "that is made is not; give both the same size"
                )
            return images.to_work(picture, run.frame)[None].to(run.device)
        known = run.known if image is None else image.state(self.id, run)
        if known is None:
            raise SfumatoError(
                f"{self.id}: no content picture; give image, or begin from one (such as sdedit)"
            )
        known = known.to(run.device)
        return run.space.decode(known.reshape(-1, *known.shape[-3:]))

    def acting(self, run: Run) -> Tensor | None:
        """(1, H, W) in [0, 1], 1 = acts there, at the work size in pixels."""
        mask_input = self.mask
        if mask_input is None:
            return None
        if mask_input.is_tensor:
            mask: Tensor = mask_input.state(self.id, run, mask=True)
            return mask
        if run.frame is None:
            raise SfumatoError(
                f"{self.id}: this run begins from a tensor; give its mask as one, (1, H, W)"
            )
        opened = images.open_mask(mask_input, run.frame.picture)
        acting = images.acting(opened, f"mask {mask_input.name}")
        return images.mask_to_work(acting, run.frame).to(run.device)


@method
class CLIPLoss(Loss, ABC):
    """Fields of losses that look through a CLIP."""

    clip: CleanClip = None
    cutouts: Annotated[
        int, knob("square cutouts that it looks at; 0 and small pictures: the whole", ge=0, le=256)
    ] = 4
    cut_power: Annotated[
        float,
        knob("above 1 makes cutouts smaller, below 1 larger", gt=0, le=100),
        Needs("cutouts>0"),
    ] = 1.0
    fresh: Annotated[
        bool,
        knob("other cutouts at every step; multistep solvers amplify that noise"),
        Needs("cutouts>0"),
    ] = False

    def eye(self, run: Run) -> Eye:
        clip = None if run.source is None else run.source.clip(self.clip)
        if clip is None:
            raise SfumatoError(
                f"{self.id}: this model has no CLIP; give clip, a folder or org/name"
            )
        record(run, self.id, "clip", clip.origin)
        return Eye(clip, self.cutouts, self.cut_power, self.fresh)


@method
class ContentLoss(Loss, ABC):
    """The field of losses that compare with the content picture."""

    image: Annotated[
        Image | None, knob("the content picture; what the run begins from if not given")
    ] = None


@method
class FeatureLoss(ContentLoss, ABC):
    """Fields of losses that compare features of the result with those of the content picture."""

    features: Annotated[
        Weights | None,
        knob("file of VGG19's weights, or model: the denoiser's own; vgg19* in SFUMATO_HOME first"),
    ] = None
    layers: Annotated[Text | None, knob("layers as a, b, c; the extractor's own choice else")] = (
        None
    )

    def extractor(self, run: Run) -> Features:
        """One object for all losses of a run that ask alike."""
        key = ("features", self.features)
        if key not in run.memo:
            features = None if run.source is None else run.source.features(self.features)
            if features is None:
                raise SfumatoError(
                    f"{self.id}: this model lends no features; give features, a file of VGG19's "
                    "weights (torchvision's vgg19-dcbb9e9d.pth)"
                )
            run.memo[key] = features
        kept: Features = run.memo[key]
        record(run, self.id, "features", kept.origin)
        return kept

    def maps(self, features: Features, names: tuple[str, ...], run: Run) -> dict[str, Tensor]:
        """The content picture's, made once for a run; names: where the field says nothing."""
        if self.layers is not None:
            names = tuple(name.strip() for name in self.layers.split(","))
        key = ("content", features, self.image)
        if key not in run.memo:
            count(run.memo, "features")
            run.memo[key] = features(self.content(run))
        maps = run.memo[key]
        return {name: maps[name].float() for name in names}


def decoder(name: str, run: Run, which: Literal["full", "tiny"]) -> Decoder:
    """How a state becomes pixels: the model's autoencoder, or the tiny one of the same latents."""
    if run.space.stride == 1 or which == "full":
        return run.space.decode
    tiny = None if run.source is None else run.source.decoder("tiny")
    if tiny is None:
        raise SfumatoError(
            f"{name}: no tiny autoencoder of this model here; `sfumato models pull` "
            "madebyollin/taesd (SDXL: madebyollin/taesdxl), or take decoder=full"
        )
    return tiny
