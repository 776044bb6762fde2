"""SINE (arXiv 2212.04489): a model tuned on one picture guides the model that it was made of.

Above a level the prompt's prediction is v eps(x, c) + (1 - v) eps'(x, c'): eps' the tuned model's
of the caption c' that it was taught; guidance leads from the null text of the original. Below that
level the original is alone, whose pictures are not those of one picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from sfumato.core.context import Run
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.mixture import Branch
from sfumato.methods import Method, knob, method
from sfumato.methods.common.kinds import Denoiser, Text
from sfumato.methods.common.weights import record

if TYPE_CHECKING:
    from sfumato.core.process import Process


@method
class SINE(Method):
    """e = v e_prompt + (1 - v) e_tuned above `until`, e_prompt below."""

    verb: ClassVar[bool] = True
    slot: ClassVar[str | None] = "sine"
    examples: ClassVar[tuple[str, ...]] = (
        'castle/ "a sks castle" -p "a castle in snow"',
        'castle/ "a sks castle" -p "a castle in snow" --original 0.5',
    )

    tuned: Annotated[Denoiser, knob("adapter or model that was tuned on one picture")]
    caption: Annotated[Text, knob("what that picture was called in tuning")]
    original: Annotated[float, knob("v, weight of the original model", main=True, ge=0, le=1)] = 0.7
    until: Annotated[
        float, knob("level K below which the original is alone", unit="t", ge=0, le=1)
    ] = 0.4

    def __call__(self, process: Process) -> Process:
        source = process.source
        if source is None:
            raise SfumatoError("sine: needs a model that can be tuned, not a bare network")
        tuned = source.second(process.prompt, self.tuned)
        if tuned is None:
            raise SfumatoError(f"sine: tuned {self.tuned}: there is none of that name")

        def share(t: float) -> float:
            return 1 - self.original if t > self.until else 0.0

        branches = (
            Branch("positive", weight=lambda t: 1 - share(t)),
            Branch("tuned", self.caption, share, tuned.denoiser, source=tuned),
        )
        return process.add(positives=branches, guides=(self,))

    def bind_guide(self, run: Run) -> Guide:
        tuned = next(branch.source for branch in run.process.positives if branch.name == "tuned")
        record(run, self.id, "tuned", None if tuned is None else tuned.origin)
        return Guide()
