"""Diffusion-Stego (arXiv 2305.18726): a message in the noise that a picture begins from.

Bits become the noise x_T; a deterministic solver makes the picture of it, and walking the same path
upwards finds the noise again, and in it the message. Nothing is trained.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sfumato import images
from sfumato.core.binding import invert
from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.core.idle import Needs
from sfumato.core.lazy import torch
from sfumato.core.mixture import Branch
from sfumato.core.plan import calls_along
from sfumato.core.starts import BoundStart, Place, PriorNoise
from sfumato.images import Image
from sfumato.methods import Method, knob, method
from sfumato.methods.cfg import CFG
from sfumato.methods.common.payload import Payload
from sfumato.methods.common.secret import Secret
from sfumato.methods.threshold import Threshold

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process

log = logging.getLogger("sfumato")


@method
class Stego(Method):
    """Hide a message in a picture that is made, or read (`reveal`) the one in a picture.

    Both need the same model, prompt, steps, solver, key, projection and bits. As many copies of
    every bit are hidden as there is room for.
    """

    verb: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        '--message "at noon" --key elm -p "red apple, 3d render, blue background"',
        "--reveal apple.png --recipe apple.png --key elm",
    )
    slot: ClassVar[str | None] = "start"
    solver: ClassVar[str | Mapping[str, Any] | None] = "iplms"  # of as many calls the best way back
    defaults: ClassVar[tuple[Method, ...]] = (CFG(1.0), Threshold("none"))

    message: Annotated[Secret | None, knob("text to hide", main=True), Needs("!reveal")] = None
    reveal: Annotated[Image | None, knob("a picture whose message is read instead")] = None
    key: Annotated[Secret | None, knob("password that reading needs too; none: anyone reads")] = (
        None
    )
    projection: Annotated[
        Literal["mn", "mb", "mc"],
        knob("bits as signs of noise (unseen), as levels (clearest), as 0 or a root of 2"),
    ] = "mn"
    bits: Annotated[
        int, knob("bits of each value, on 2^bits levels", ge=1, le=4), Needs("projection=mb")
    ] = 1
    check: Annotated[
        bool, knob("read it back from the finished picture, in 8 bits"), Needs("!reveal")
    ] = True

    passes: ClassVar[int] = 1

    def __call__(self, process: Process) -> Process:
        if self.message is None and self.reveal is None:
            raise SfumatoError("stego: nothing to hide or read; give message, or reveal")
        return replace(process, stages=1).add(start=self)

    def place(self) -> Place:
        return Place.of(self.reveal, exact=True)

    def level(self, process: Process) -> float:
        if isinstance(process.spacing, tuple):
            raise SfumatoError("stego: takes steps and a spacing by name, no times of one's own")
        return 1.0 if self.reveal is None else 0.0

    def bind_start(self, run: Run) -> BoundStart:
        if run.solver.stochastic:
            raise SfumatoError(
                f"stego: solver {run.solver.id} draws noise, so nothing could be read; take ddim "
                "or dpmpp-2m"
            )
        back = Back(run)
        payload = Payload(
            math.prod(run.shape) * self.bits, self.key.text("stego: key") if self.key else ""
        )
        if self.reveal is not None:
            return self._revealing(run, back, payload)
        frame = run.frame
        if frame is not None and frame.target != frame.work:
            width, height = frame.work
            raise SfumatoError(
                f"stego: the picture is made at {width}x{height} and would then be resized, which "
                f"blurs the message; give size {width}x{height}"
            )
        assert self.message is not None
        bits = payload.write(self.message.text("stego: message"), self.id)
        projection = Projection(self.projection, self.bits)
        if projection.alike and run.n > 1:
            log.warning("stego: all %d will be alike, the message is all their noise", run.n)
        if self.check and run.planned:
            run.before = back.calls
        elif self.check:
            run.finishers.append(Check(run, back, payload, projection, bits))
        return Hidden(projection, bits)

    def _revealing(self, run: Run, back: Back, payload: Payload) -> BoundStart:
        assert self.reveal is not None
        picture = self.reveal.picture()
        run.paste = (picture, None, picture.alpha)
        assert run.frame is not None
        if run.frame.work != picture.size:
            width, height = picture.size
            raise SfumatoError(
                f"stego: {self.reveal.name} is {width}x{height}; this model makes sides that are "
                "multiples of its own, so nothing was hidden in it, or it was resized"
            )
        run.before = back.calls
        if not run.planned:
            noise, run.before = back.noise(images.to_work(picture, run.frame)[None])
            values = Projection(self.projection, self.bits).values(noise)
            text = payload.read(values[0])
            if text is None:
                raise SfumatoError(
                    f"stego: no message found in {self.reveal.name}; reading needs the model, "
                    "prompt, steps, solver, key, projection and bits that it was hidden with"
                )
            run.answers["message"] = text
        return PriorNoise()  # never drawn from: the picture is the result


@dataclass(frozen=True)
class Projection:
    """Bits as noise of mean 0 and variance 1 (for random bits), and back.

    mn: |n| with the bit as its sign, exactly normal. mb: 2^bits levels, equally spaced, neighbours
    one bit apart. mc: 0 for 0, the root of 2 with the noise's sign for 1.
    """

    name: Literal["mn", "mb", "mc"]
    bits: int = 1

    @property
    def alike(self) -> bool:
        """Whether nothing of it is noise."""
        return self.name == "mb"

    @cached_property
    def levels(self) -> Tensor:
        """The level of each group of bits, read as a number from its first bit up."""
        count = 1 << self.bits
        index = torch.arange(count)
        levels = torch.empty(count)
        levels[index ^ (index >> 1)] = (index - (count - 1) / 2) * math.sqrt(12 / (count**2 - 1))
        return levels

    def hide(self, bits: Tensor, noise: Tensor) -> Tensor:
        """bits (values of a state times bits,), noise (B, ...) -> the state's noise (B, ...)."""
        rows = bits.view(-1, self.bits).to(noise.device)
        if self.name == "mb":
            label = (rows << torch.arange(self.bits, device=rows.device)).sum(1)
            state = self.levels.to(noise)[label].view(noise.shape[1:])
            return state.expand_as(noise)
        own = rows[:, 0].view(noise.shape[1:]).to(noise)
        if self.name == "mc":
            return own * math.sqrt(2) * noise.sign()
        return noise.abs() * (2 * own - 1)

    def values(self, state: Tensor) -> Tensor:
        """(B, ...) -> (B, values times bits): above 0 where a 1 is likelier."""
        flat = state.flatten(1)
        if self.name == "mc":
            return flat.abs() - math.sqrt(0.5)
        if self.name == "mn":
            return flat
        far = (flat[..., None] - self.levels.to(flat)).square()
        planes = [torch.arange(1 << self.bits, device=flat.device) >> k & 1
                  for k in range(self.bits)]  # fmt: skip
        clear = [far[..., one == 0].amin(-1) - far[..., one == 1].amin(-1) for one in planes]
        return torch.stack(clear, -1).flatten(1) * (1 << self.bits) / 8


@dataclass(frozen=True)
class Hidden:
    """bits: one for each place of a state."""

    projection: Projection
    bits: Tensor

    def state(self, call: Call, like: Tensor) -> Tensor:
        std: float = call.schedule.prior(call.t)
        return self.projection.hide(self.bits, call.noise("prior", like)) * std


@dataclass(frozen=True, eq=False)
class Back:
    """The way from a finished picture up to its noise, along the run's own times and branches;
    without guides and taps, as every inversion."""

    run: Run

    @cached_property
    def up(self) -> tuple[float, ...]:
        """Rising times from 0 to 1."""
        down = self.run.process.spaced(1.0)
        if down[-1] > 0:
            raise SfumatoError(f"stego: spacing ends at {down[-1]:g}; reading begins at 0")
        return down[::-1]

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
            process, source=None, start=None, canvas=None, guides=(), taps=(), methods=(),
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
