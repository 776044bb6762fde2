"""From finished pictures up to the noise that they were made of, on a run's own way."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from sfumato.core.binding import invert
from sfumato.core.context import Run
from sfumato.core.denoiser import Cond
from sfumato.core.mixture import Branch
from sfumato.core.plan import calls_along
from sfumato.methods.inner.payload import Payload
from sfumato.methods.inner.projection import Projection

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("sfumato")


@dataclass(frozen=True, eq=False)
class Back:
    """The way from a finished picture up to its noise, along the run's own times and branches;
    without guides and taps, as every inversion."""

    run: Run

    @cached_property
    def up(self) -> tuple[float, ...]:
        """Rising times to 1, from where the way down ends."""
        return self.run.process.spaced(1.0)[::-1]

    @property
    def calls(self) -> int:
        """Network calls that it will take."""
        process = self.run.process
        networks = {branch.denoiser for branch in process.positives or (Branch("positive"),)}
        networks |= {branch.denoiser for branch in process.aways if branch.at(0.5) != 1}
        return len(networks) * calls_along(self.run.solver, self.up, self.run.schedule)

    def noise(self, pixels: Tensor) -> tuple[Tensor, int]:
        """Pixels (B, 3, H, W) in [-1, 1] -> noise of unit variance, and the calls it took."""
        run = self.run
        process = run.process
        read = replace(
            process, source=None, prompt="", negative="", label=None, size=None, start=None,
            canvas=None, guides=(), taps=(), methods=(),
            within=(), n=len(pixels), shape=run.shape, geometry=None, stages=1, prompts=(),
            solver=run.solver, spacing=self.up[::-1], n_steps=None,
            cond=process.condition(None, False),
            null=process.condition(None, True) if process.aways else None,
            positives=tuple(self._told(b, False) for b in process.positives),
            aways=tuple(self._told(b, True) for b in process.aways),
        )  # fmt: skip
        path, calls = invert(read, run.space.encode(pixels.to(run.device)), self.up)
        return path[-1] / run.schedule.prior(1.0), calls

    def _told(self, branch: Branch, away: bool) -> Branch:
        """The branch with its words read, since the process that walks back has no model."""
        if branch.cond is not None and not isinstance(branch.cond, str):
            return branch
        cond: Cond = self.run.process.condition(branch.cond, away, branch.source)
        return replace(branch, cond=cond)


@dataclass(frozen=True, eq=False)
class Check:
    """Reads the message back from finished pixels, rounded to 8 bits as they will be saved."""

    run: Run
    back: Back
    payload: Payload
    projection: Projection
    bits: Tensor

    def __call__(self, pixels: Tensor) -> Tensor:
        rounded = ((pixels + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
        noise, calls = self.back.noise(rounded)
        self.run.before += calls
        values = self.projection.values(noise).cpu()
        right = ((values > 0) == self.bits.bool()).float().mean(1)
        read = [self.payload.read(row) is not None for row in values]
        self.run.answers["bits"] = len(self.bits)
        self.run.answers["right"] = [round(share, 4) for share in right.tolist()]
        self.run.answers["readable"] = read
        if not all(read):
            log.warning(
                "stego: %d of %d pictures do not give the message back; give more steps, a "
                "coloured background, or a shorter message", read.count(False), len(read),
            )  # fmt: skip
        return pixels
