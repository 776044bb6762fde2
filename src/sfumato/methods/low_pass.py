"""Low-pass loss: colours and layout stay close to the content's; detail is free.

ILVR holds the same low frequencies exactly and at every step; this one only pulls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from sfumato.methods import knob, method
from sfumato.methods.common.loss import ContentLoss
from sfumato.methods.common.penalty import Measure, View

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.context import Run


@method
class LowPass(ContentLoss):
    """Mean squared difference of both pictures after a low-pass.

    A rose from noise against a painting, bundled base: 0.047, with weight 300 0.040, with 1000
    0.027, with 3000 0.013.
    """

    weight: Annotated[
        float, knob("strength: colours and layout stay the content's", main=True, ge=0, le=1e6)
    ] = 1000.0
    factor: Annotated[
        float, knob("low-pass: shrinks by this and back", unit="px", ge=1, le=4096)
    ] = 8.0
    kernel: Annotated[
        Literal["cubic", "linear", "lanczos2", "lanczos3", "box"], knob("shape of the low-pass")
    ] = "cubic"

    def measure(self, run: Run) -> Measure:
        from sfumato.nn import resize

        phi = resize.LowPass(self.factor, self.kernel)
        low = phi(self.content(run))

        def measured(view: View) -> Tensor:
            return (phi(view.pixels) - low).square().flatten(1).mean(1)

        return measured
