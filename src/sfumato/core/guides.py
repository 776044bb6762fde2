"""What steers a run besides its branches: Guide and the Call it sees. No guide lives here.

A guide may add the gradient of a log-probability, edit the prediction at every evaluation, or edit
the state on arrival. Ranks, not typing order, decide what comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sfumato.core.denoiser import Prediction
from sfumato.core.noise import Noise
from sfumato.core.schedule import Schedule

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process
    from sfumato.core.run import Run

# edits: replace < rescale < threshold; arrivals: references (ILVR) < others < mask paste
REPLACE, RESCALE, THRESHOLD = 0, 10, 20
REFERENCE, OTHER, PASTE = 0, 10, 20


@dataclass(frozen=True, eq=False)
class Call:
    """What every extension sees of the moment.

    t, s: time of this evaluation and target of the transition; i of n transitions, -1 for the
    start; eval: evaluation inside the transition; held: where a caller differentiates through the
    run, the state as a constant of the score that is taken; times: all of the run; last_up: visit
    of the last start or upward move; parts: each branch's prediction; memo: scratch space of one
    run.
    """

    t: float
    s: float
    i: int
    times: tuple[float, ...]
    schedule: Schedule
    last_up: int
    source: Noise
    memo: dict[Any, Any]
    eval: int = 0
    held: Tensor | None = None
    parts: Mapping[str, Prediction] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return len(self.times) - 1

    @property
    def visit(self) -> int:
        """Index in `times` of the time arrived at; the start is 0."""
        return self.i + 1

    def count(self, what: str, n: int = 1) -> None:
        """Add to what the run has cost besides its network calls (`Run.counts`)."""
        count(self.memo, what, n)

    def noise(self, purpose: str, like: Tensor, visit: int | None = None) -> Tensor:
        """Standard normal noise shaped like `like`; the same key gives the same tensor."""
        visit = self.visit if visit is None else visit
        key = (visit, self.eval)
        kept = self.memo.get(("noise", purpose))
        if kept is None or kept[0] != key:
            kept = (key, self.source.draw(purpose, visit, self.eval, like))
            self.memo["noise", purpose] = kept
        drawn: Tensor = kept[1]
        return drawn


class Guide:
    """Override what is needed of logp, weigh, edit and arrive; `process | guide` adds it.

    through: the graph that logp needs: "input" (of x, not through the network) or "model" (through
    the network); None for a guide without logp. on: "mixture", or the name of the branch it steers.
    """

    through: Literal["input", "model"] | None = None
    on: str = "mixture"
    name: str = "guide"
    edit_rank: int = REPLACE
    arrive_rank: int = OTHER
    faintest: float = 0.0  # smallest alpha at which its score moves x0, by sigma^2/alpha
    after: bool = False  # edit after the gradient was absorbed instead of before

    def __call__(self, process: Process) -> Process:
        return process.add(guides=(self,))

    def bind(self, run: Run) -> Guide:
        """The object that steers this run; the default keeps no state and is itself."""
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


def count(memo: dict[Any, Any], what: str, n: int = 1) -> None:
    """Add n to a run's count of something, such as "clip" or "backward"."""
    counts = memo.setdefault("counts", {})
    counts[what] = counts.get(what, 0) + n


def overrides(guide: Guide, hook: str) -> bool:
    """Whether the guide has its own version of a hook."""
    return getattr(type(guide), hook) is not getattr(Guide, hook)
