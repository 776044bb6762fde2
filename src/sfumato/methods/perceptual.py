"""Content perceptual loss: features of the result stay close to those of the content picture.

DiffStyler (arXiv 2211.10682) takes VGG19's relu4_2 and relu5_2, as CLIPstyler does (2112.00374).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from sfumato.core.lazy import torch
from sfumato.methods import knob, method
from sfumato.methods.common.loss import FeatureLoss
from sfumato.methods.common.penalty import Measure, View

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.context import Run


@method
class Perceptual(FeatureLoss):
    """Mean squared difference of each layer, summed over the layers.

    3D renders redrawn as ink on the bundled base (t0 = 0.6, its own features): distance 3.5, with
    weight 10 2.4, with 30 1.4, with 100 0.4. DiffStyler's program: 3 through the network, VGG19.
    """

    weight: Annotated[
        float, knob("strength: features stay the content's", main=True, ge=0, le=1e6)
    ] = 30.0

    def measure(self, run: Run) -> Measure:
        features = self.extractor(run)
        content = self.maps(features, features.content, run)

        def measured(view: View) -> Tensor:
            return distance(view.maps(features), content)

        return measured


def distance(maps: Mapping[str, Tensor], content: Mapping[str, Tensor]) -> Tensor:
    """(B,): mean squared difference of each layer of `content` (B or 1 rows), summed."""
    gaps = [
        (maps[name].float() - wanted).square().flatten(1).mean(1)
        for name, wanted in content.items()
    ]
    return torch.stack(gaps).sum(0)
