"""Fast: fewer operations a picture, at a distance from the exact one that was measured.

What guidance leads along and a network's deep maps hardly change from one step to the next, so they
are kept for some: the first as in arXiv 2410.19355, the second as in arXiv 2312.00858.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from sfumato.core.errors import SfumatoError
from sfumato.core.reuse import Reuse
from sfumato.methods import Method, knob, method

if TYPE_CHECKING:
    from sfumato.core.process import Process

LEVELS: Mapping[str, Reuse] = {
    "low": Reuse(guidance=2),
    "mid": Reuse(guidance=2, deep=2),
    "high": Reuse(guidance=3, deep=3),
}


@method
class Fast(Method):
    """Guidance and deep maps are found at every 2nd or 3rd step, and kept between."""

    slot: ClassVar[str | None] = "fast"

    level: Annotated[
        Literal["low", "mid", "high"],
        knob(
            "how much is kept: guidance (low), also the network's deep maps (mid, high)", main=True
        ),
    ] = "mid"
    guidance: Annotated[
        int | None, knob("guidance is found at every so manieth step (1: at all)", ge=1, le=100)
    ] = None
    deep: Annotated[
        int | None, knob("deep maps are made at every so manieth step (1: at all)", ge=1, le=100)
    ] = None

    def __post_init__(self) -> None:
        if not self.reuse.acts:
            raise SfumatoError("fast: keeps nothing; give guidance or deep more than 1")

    def __call__(self, process: Process) -> Process:
        return replace(process, reuse=self.reuse)

    @property
    def reuse(self) -> Reuse:
        """What the level says, but for what was given."""
        of_level = LEVELS[self.level]
        return Reuse(
            of_level.guidance if self.guidance is None else self.guidance,
            of_level.deep if self.deep is None else self.deep,
        )
