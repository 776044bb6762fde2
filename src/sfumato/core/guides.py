"""What steers a run besides its branches: Guide, and what binds one. No guide lives here.

A guide may add the gradient of a log-probability, edit the prediction at every evaluation, or edit
the state on arrival. Ranks, not typing order, decide what comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Prediction

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process

# edits: replace < rescale < threshold; arrivals: references (ILVR) < others < mask paste
REPLACE, RESCALE, THRESHOLD = 0, 10, 20
REFERENCE, OTHER, PASTE = 0, 10, 20


class GuideBinder(Protocol):
    """A method that steers: bound, it becomes the Guide of one run."""

    def bind_guide(self, run: Run) -> Guide: ...


class Guide:
    """Override what is needed of logp, weigh, edit and arrive; `process | guide` adds it.

    through: what the gradient of logp passes: "network", or "prediction": that is held constant,
    and logp is one of x or of what it writes with x; None for a guide without logp. on: "mixture",
    or the name of the branch it steers.
    """

    through: Literal["prediction", "network"] | None = None
    on: str = "mixture"
    name: str = "guide"
    edit_rank: int = REPLACE
    arrive_rank: int = OTHER
    faintest: float = 0.0  # smallest alpha at which its score moves x0, by sigma^2/alpha
    after: bool = False  # edit after the gradient was absorbed instead of before

    def __call__(self, process: Process) -> Process:
        return process.add(guides=(self,))

    def bind_guide(self, run: Run) -> Guide:
        """The guide of this run; one that needs nothing of it is itself."""
        return self

    def active(self, call: Call) -> bool:
        return True

    def logp(self, x: Tensor, pred: Prediction, call: Call) -> Tensor:
        """Log-probability of each picture, (B,); the core takes one gradient for all guides."""
        raise TypeError(f"{type(self).__name__} has no logp")

    def weigh(self, score: Tensor, pred: Prediction, call: Call) -> Tensor:
        """Change the summed gradient of all guides on one branch, or on the mixture; like x."""
        return score

    def edit(self, pred: Prediction, x: Tensor, call: Call) -> Prediction:
        """Change the prediction at every evaluation."""
        return pred

    def arrive(self, x: Tensor, t: float, call: Call) -> Tensor:
        """Change the state, once on reaching t; after the start and upward moves too."""
        return x


def overrides(guide: Guide, hook: str) -> bool:
    """Whether the guide has its own version of a hook."""
    return getattr(type(guide), hook) is not getattr(Guide, hook)
