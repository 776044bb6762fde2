"""SDXL's refiner (arXiv 2307.01952, section 2.5): a second network for the last, finest steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Cond, traits
from sfumato.core.errors import SfumatoError
from sfumato.core.idle import Needs
from sfumato.core.lazy import torch
from sfumato.core.mixture import Branch
from sfumato.core.source import Source
from sfumato.core.taps import Tap
from sfumato.methods import Method, knob, method
from sfumato.methods.common.handed_over import LATER, HandedOver
from sfumato.methods.common.kinds import Weights
from sfumato.methods.common.weights import record

if TYPE_CHECKING:
    from sfumato.core.process import Process


@method
class Refine(Method):
    """A share `at` of the way is the model's own, the rest is another's of the same latents.

    Refiners read how beautiful the picture shall be; `model` is left out where the model is one.
    """

    slot: ClassVar[str | None] = "refine"

    model: Annotated[
        Weights | None, knob("the refiner: a folder or org/name; none: the model is one", main=True)
    ] = None
    at: Annotated[
        float, knob("share of the way that comes before it", ge=0, le=1), Needs("model")
    ] = 0.8
    score: Annotated[float, knob("beauty of the picture, 1 to 10", ge=0, le=10)] = 6.0
    away_score: Annotated[float, knob("beauty that guidance leads away from", ge=0, le=10)] = 2.5

    def __call__(self, process: Process) -> Process:
        refiner = None
        if self.model is not None:
            refiner = self._refiner(process)
            first, table = process.denoiser, process.denoiser.schedule.steps
            cutoff = round(table - self.at * table)
            network = HandedOver(first.network, refiner.denoiser.network, cutoff)
            process = replace(process, denoiser=replace(first, network=network))
        return process.add(taps=(Told(self, refiner, False), Told(self, refiner, True)))

    def _refiner(self, process: Process) -> Source:
        source = process.source
        if source is None:
            raise SfumatoError("refine: model needs a model to begin with, not a bare network")
        refiner = source.second(process.prompt, self.model)
        if refiner is None:
            raise SfumatoError(f"refine: model {self.model}: there is none of that name")
        one, other = process.denoiser, refiner.denoiser
        if (one.schedule, one.kind, one.code) != (other.schedule, other.kind, other.code):
            raise SfumatoError(
                f"refine: model {self.model} predicts {other.kind} on another table of noise than "
                "this one's; take a refiner of the same family"
            )
        return refiner


@dataclass(frozen=True, eq=False)
class Told:
    """One side's words for the refiner, and its score; away: of what guidance leads away from."""

    method: Refine
    refiner: Source | None
    away: bool

    def bind_tap(self, run: Run) -> Tap:
        method, refiner = self.method, self.refiner
        network = (run.denoiser if refiner is None else refiner.denoiser).network
        scored = traits(network).scored
        if refiner is None and not scored:
            raise SfumatoError(
                "refine: this model's network reads no score; name a refiner by model, such as "
                "stabilityai/stable-diffusion-xl-refiner-1.0"
            )
        if refiner is not None:
            record(run, method.id, "model", refiner.origin)
        score = method.away_score if self.away else method.score
        return Words(refiner, score if scored else None, self.away)


class Words(Tap):
    """Writes what the refiner reads into the conditions of one side's branches."""

    name = "refine"

    def __init__(self, refiner: Source | None, score: float | None, away: bool) -> None:
        self.refiner, self.score, self.away = refiner, score, away
        self.on = ("aways",) if away else ("positives",)

    def condition(self, cond: Cond, branch: Branch, run: Run) -> Cond:
        if branch.denoiser is not None:  # which has its own network from beginning to end
            return cond
        before, told = "", Cond()
        if self.refiner is not None:
            text = branch.cond if isinstance(branch.cond, str) else None
            before, told = LATER, run.process.condition(text, self.away, self.refiner)
        tensors = {**cond, **{before + name: value for name, value in told.items()}}
        rows = max(len(value) for value in tensors.values())
        if self.score is not None:
            device = next(iter(tensors.values())).device
            tensors[f"{before}score"] = torch.full((1,), self.score, device=device)
        return Cond({name: v.expand(rows, *v.shape[1:]) for name, v in tensors.items()})

    def active(self, call: Call) -> bool:
        return False
