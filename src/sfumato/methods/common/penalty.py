"""A loss of the predicted picture as a guide: logp = -weight loss. No loss lives here.

The core moves eps by -sigma d logp / dx, the form of classifier guidance (arXiv 2105.05233), and
takes one gradient for all guides of a branch or of the mixture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from weakref import WeakKeyDictionary

from sfumato.core.context import Call
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.lazy import torch
from sfumato.core.schedule import FAINTEST
from sfumato.core.source import Features
from sfumato.methods import within
from sfumato.methods.common.cutouts import Eye

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.denoiser import Prediction

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class View:
    """What a loss sees of a prediction: pixels (B, 3, H, W), in [-1, 1] but for overshoots.

    What several losses need of it (`once`) is made once.
    """

    pixels: Tensor
    call: Call
    kept: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, make: Callable[[], T]) -> T:
        if key not in self.kept:
            self.kept[key] = make()
        kept: T = self.kept[key]
        return kept

    def maps(self, features: Features) -> Mapping[str, Tensor]:
        """{name: map (B, C, h, w)} of a feature extractor."""

        def look() -> Mapping[str, Tensor]:
            self.call.count("features")
            return features(self.pixels)

        return self.once(features, look)

    def embeddings(self, eye: Eye) -> Tensor:
        """(cutouts, B, E), unit vectors."""
        return self.once(eye, lambda: eye(self.pixels, self.call))


Measure = Callable[[View], "Tensor"]


@dataclass(frozen=True, eq=False)
class Penalty(Guide):
    """logp = -weight measure(View of the prediction); measure gives (B,), smaller is better.

    through "prediction": x0 is taken as a constant plus alpha x; no network is differentiated.
    decode: state to pixels in [-1, 1]; mask (1 or B, 1, H, W) or (1, H, W), 1 = acts there: the
    picture is seen whole, its gradient is multiplied by the mask. looks: guides of equal `looks`
    and `through` share a View.
    """

    weight: float
    measure: Measure
    name: str = "loss"
    on: str = "mixture"
    window: tuple[float, float] = (0.0, 1.0)
    through: Literal["prediction", "network"] = "network"
    decode: Callable[[Any], Any] | None = None
    mask: Any = None
    looks: Any = None

    faintest = FAINTEST

    def active(self, call: Call) -> bool:
        return self.weight != 0 and within(self.window, call.t)

    def logp(self, x: Tensor, pred: Prediction, call: Call) -> Tensor:
        return -self.weight * self.measure(self.view(x, pred, call))

    def view(self, x: Tensor, pred: Prediction, call: Call) -> View:
        """One for all losses that look at this prediction alike; it lives as long as that does."""
        views = call.memo.setdefault("views", WeakKeyDictionary()).setdefault(pred, {})
        if self.looks not in views:
            x0 = pred.x0
            held = x.detach() if call.held is None else call.held
            if self.through == "prediction":
                x0 = torch.add(x0, x - held, alpha=call.alpha)
            pixels = x0 if self.decode is None else self.decode(x0)
            if self.mask is not None:
                if call.held is not None:
                    raise SfumatoError(
                        f"{self.name}: what its mask holds back cannot be differentiated through; "
                        "leave the mask out, or walk the steps with detach=True or under no_grad"
                    )
                pixels = pixels.detach().lerp(pixels, self.mask.to(pixels).expand_as(pixels))
            views[self.looks] = View(pixels, call)
        view: View = views[self.looks]
        return view
