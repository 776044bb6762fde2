"""Null-text inversion (arXiv 2211.09794): a picture that guidance finds again, ready to be edited.

The picture is walked up unguided. On the way back, at each step, the null text of guidance is
learned anew, so that the guided step lands where the way up came from; the network and the prompt
stay as they are. An edit with the same null texts, such as prompt_to_prompt's, then begins from the
picture itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from sfumato.core.context import Run
from sfumato.core.errors import SfumatoError
from sfumato.core.idle import Needs
from sfumato.core.process import Process
from sfumato.core.solvers import solver, solver_data
from sfumato.core.starts import BoundStart
from sfumato.core.taps import Tap
from sfumato.images import Image
from sfumato.methods import knob, method
from sfumato.methods.cfg import CFG
from sfumato.methods.common.fields import Background
from sfumato.methods.common.inverted import Way
from sfumato.methods.common.kinds import Text
from sfumato.methods.common.picture_start import FromPicture
from sfumato.methods.inner.null_texts import learning
from sfumato.methods.threshold import Threshold

LEARNS = Needs("inner>0")


@method
class NullText(FromPicture):
    """Begins from the inverted picture, and learns the null text of each step."""

    verb: ClassVar[bool] = True
    slot: ClassVar[str | None] = "start"
    solver: ClassVar[str | Mapping[str, Any] | None] = "ddim"
    levels: ClassVar[tuple[str, ...]] = ("t0",)
    examples: ClassVar[tuple[str, ...]] = (
        'photo.png -p "red apple"',
        'photo.png -p "red apple" --with prompt_to_prompt.edited="green apple"',
    )

    image: Annotated[Image, knob("the picture, which the prompt describes")]
    inner: Annotated[
        int, knob("most gradient steps on the null text of a step", main=True, ge=0, le=1000)
    ] = 10
    rate: Annotated[
        float, knob("of those steps, as a part of the prompt's own values", ge=0, le=10), LEARNS
    ] = 1e-2
    stop: Annotated[
        float, knob("mean squared error that is near enough at first", ge=0, le=1), LEARNS
    ] = 1e-5
    slack: Annotated[float, knob("how much that grows over the run", ge=0, le=1), LEARNS] = 1e-3
    t0: Annotated[
        float | None, knob("level that the picture is walked up to, 1 if not given", gt=0, le=1)
    ] = None
    caption: Annotated[
        Text | None, knob("what the picture shows, where the prompt says something else")
    ] = None
    background: Background = "white"

    def __call__(self, process: Process) -> Process:
        return process.add(start=self, taps=(self,))

    @property
    def texts(self) -> tuple[str, ...]:
        return () if self.caption is None else (self.caption,)

    def level(self, process: Process) -> float:
        return process.starts_at(1.0) if self.t0 is None else self.t0

    def bind_start(self, run: Run) -> BoundStart:
        process = run.process
        chosen = solver(run.solver)
        if chosen.stochastic:
            raise SfumatoError(f"null_text: solver {chosen.id} draws noise; take ddim or dpmpp-2m")
        caption = process.prompt if self.caption is None else self.caption
        data = solver_data(chosen)
        start = Way(self.id, data, caption=caption).start(run, self.image, self.background)
        edits = [guide for guide in process.guides if isinstance(guide, CFG | Threshold)]
        settings = (self.inner, self.rate, self.stop, self.slack)
        learns = learning(run, caption, edits, *settings)
        if learns is not None:
            learned = learns.remembered(run, start.known, start.inverted.path)
            run.before += learned.calls
            run.memo[self.id] = learned.tap
            run.report["null_text"] = {"calls": learned.calls, "round_trip": learned.error}
        return start

    def bind_tap(self, run: Run) -> Tap:
        """What was learned when the start was bound."""
        tap: Tap = run.memo.get(self.id) or Tap()
        return tap
