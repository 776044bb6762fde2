"""Classifier guidance (ADM, arXiv 2105.05233): steer by a noise-aware classifier's gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from sfumato.core.context import Call, Run
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.lazy import torch
from sfumato.core.schedule import FAINTEST
from sfumato.methods import Method, Text, knob, method

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.denoiser import Prediction
    from sfumato.core.process import Process


@method
class Classifier(Method):
    """Adds scale * log p(class | x_t, t), by the names of the model's own classes."""

    slot: ClassVar[str | None] = "classifier"

    target: Annotated[Text, knob("class to steer to, or several as a, b", main=True)]
    scale: Annotated[float, knob("strength of the gradient", ge=0, le=1000)] = 1.0
    faintest: Annotated[
        float, knob("smallest alpha at which it acts, but for solver ddpm", ge=0, le=1)
    ] = FAINTEST

    def __call__(self, process: Process) -> Process:
        return process.add(guides=[self])

    def bind_guide(self, run: Run) -> Guide:
        labeller = None if run.source is None else run.source.classifier()
        if labeller is None:
            raise SfumatoError("classifier: this model has none; `sfumato models` tells which")
        labeller.check(run.shape)
        places = []
        for name in (one.strip() for one in self.target.split(",")):
            matching = [
                (kind, names.index(name))
                for kind, names in labeller.classes.items()
                if name in names
            ]
            if not matching:
                known = ", ".join(n for names in labeller.classes.values() for n in names)
                raise SfumatoError(f"classifier: no class {name!r}; there are {known}")
            places += matching

        def log_probability(x: Tensor, time: Tensor) -> Tensor:
            parts = labeller.log_probabilities(x, time)
            return torch.stack([parts[kind][:, k] for kind, k in places]).sum(0)

        return LogProbability(log_probability, self.scale, self.faintest)


@dataclass(frozen=True, eq=False)
class LogProbability(Guide):
    """scale * log_probability(x_t, original timestep), (B,)."""

    log_probability: Callable[[Tensor, Tensor], Tensor]
    scale: float
    faintest: float = 0.0

    name = "classifier"
    through = "prediction"

    def logp(self, x: Tensor, pred: Prediction, call: Call) -> Tensor:
        index = max(call.t * call.schedule.steps - 1, 0.0)
        index = float(round(index)) if abs(index - round(index)) < 1e-6 else index
        time = torch.full((len(x),), index, dtype=torch.float32, device=x.device)
        return self.scale * self.log_probability(x, time)
