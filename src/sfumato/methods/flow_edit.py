"""FlowEdit (arXiv 2412.08629): a picture edited along a flow, without inverting it.

The state is the edited picture itself, z. At every time t the source is noised afresh, z_src =
(1 - t) x + t eps, and z moves by how the two prompts differ there: dz = (v(z + z_src - x, target) -
v(z_src, source)) dt. Equal prompts and scales leave it as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch
from sfumato.core.starts import BoundStart
from sfumato.core.taps import Tap
from sfumato.images import Image
from sfumato.methods import knob, method
from sfumato.methods.common.fields import Background
from sfumato.methods.common.kinds import Text
from sfumato.methods.common.picture_start import Clean, FromPicture, clean_state

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process


@method
class FlowEdit(FromPicture):
    """The prompt says what the picture shall show, `source` what it shows now; for flow models."""

    verb: ClassVar[bool] = True
    slot: ClassVar[str | None] = "start"
    couples: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        'photo.png -p "a dog on a sofa" --source "a cat on a sofa" --model org/name',
    )

    image: Annotated[Image, knob("the picture to edit")]
    source: Annotated[Text, knob("what the picture shows now")] = ""
    t0: Annotated[
        float, knob("level where it begins; larger changes more", main=True, gt=0, le=1)
    ] = 0.85
    source_scale: Annotated[float, knob("guidance of the source's prompt", ge=0, le=100)] = 1.5
    background: Background = "white"

    def __call__(self, process: Process) -> Process:
        return process.add(start=self, taps=(self,))

    def level(self, process: Process) -> float:
        return process.starts_at(self.t0)

    def bind_start(self, run: Run) -> BoundStart:
        if run.denoiser.kind != "flow":
            raise SfumatoError("flow_edit: needs a flow model, such as Flux; take sdedit here")
        if run.solver.stochastic:
            raise SfumatoError("flow_edit: its solver must draw no noise; take ddim")
        return Clean(clean_state(self.id, run, self.image, self.background))

    def bind_tap(self, run: Run) -> Tap:
        if run.known is None:
            raise SfumatoError("flow_edit: the process begins elsewhere; leave the other start out")
        conds = [self._condition(run, self.source)]
        if self.source_scale != 1 and not self._told(run):
            conds.append(self._condition(run, ""))
        return Difference(run.known, run.denoiser, tuple(conds), self.source_scale)

    def _told(self, run: Run) -> bool:
        """Whether the network reads the scale as a number."""
        source = run.source
        return source is not None and "guidance" in source.encode([self.source])

    def _condition(self, run: Run, text: str) -> Cond:
        cond = run.process.condition(text, away=False)
        if "guidance" in cond:
            cond = Cond({**cond, "guidance": torch.full_like(cond["guidance"], self.source_scale)})
        return run.denoiser.prepare(cond).rows(run.n)


@dataclass(eq=False)
class Difference(Tap):
    """What the network says of the edited picture less what it says of the source, both noised
    alike. conds: of the source's prompt, and the empty one where that is guided; beside: what the
    prompt's has that is of no words (a reference, a known part), which both read."""

    known: Tensor
    denoiser: Denoiser
    conds: tuple[Cond, ...]
    scale: float
    beside: dict[str, Tensor] = field(default_factory=dict)

    couples = True
    name = "flow_edit"

    def prepared(self, cond: Cond, call: Call) -> Cond:
        self.beside = {name: value for name, value in cond.items() if name not in self.conds[0]}
        return cond

    def reads(self, x: Tensor, call: Call) -> Tensor:
        return x - self.known.to(x) + self._noised(x, call)

    def says(self, out: Tensor, call: Call) -> Tensor:
        return out - self._velocity(out, call)

    def _velocity(self, like: Tensor, call: Call) -> Tensor:
        """The source's, once for all branches of a moment."""
        moment = (call.visit, call.eval)
        if call.memo.get("flow_edit", (None,))[0] != moment:
            state = self._noised(like, call)
            time = torch.full((len(state),), self.denoiser.time(call.t), device=state.device)
            conds = [Cond({**own, **self.beside}) for own in self.conds]
            outs = [self.denoiser.network(state, time, own).to(like) for own in conds]
            call.count("source calls", len(outs))
            kept = outs[0] if len(outs) == 1 else torch.lerp(outs[1], outs[0], self.scale)
            call.memo["flow_edit"] = (moment, kept)
        velocity: Tensor = call.memo["flow_edit"][1]
        return velocity

    def _noised(self, x: Tensor, call: Call) -> Tensor:
        return torch.add(
            call.alpha * self.known.to(x), call.noise("flow_edit", x), alpha=call.sigma
        )
