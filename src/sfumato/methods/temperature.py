"""Temperature of the start noise: GLIDE's notebooks start their upsampler from 0.997 of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from sfumato.core.starts import PriorNoise
from sfumato.methods import Method, knob, method

if TYPE_CHECKING:
    from sfumato.core.process import Process


@method
class Temperature(Method):
    """x at the first time is `value` times the prior's noise; 1 is plain sampling."""

    slot: ClassVar[str | None] = "start"

    value: Annotated[float, knob("factor on the start noise", main=True, gt=0, le=2)] = 0.997

    def __call__(self, process: Process) -> Process:
        return process.add(start=PriorNoise(temperature=self.value))
