"""Diffusion-Stego (arXiv 2305.18726): a message in the noise that a picture begins from.

Bits become the noise x_T; a deterministic solver makes the picture of it, and walking the same path
upwards finds the noise again, and in it the message. Nothing is trained.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sfumato import images
from sfumato.core.context import Paste, Run
from sfumato.core.errors import SfumatoError
from sfumato.core.idle import Needs
from sfumato.core.starts import BoundStart, Place, PriorNoise
from sfumato.images import Image
from sfumato.methods import Method, knob, method
from sfumato.methods.cfg import CFG
from sfumato.methods.common.secret import Secret
from sfumato.methods.inner.payload import Payload
from sfumato.methods.inner.projection import Hidden, Projection
from sfumato.methods.inner.way_back import Back, Check
from sfumato.methods.threshold import Threshold

if TYPE_CHECKING:
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
        run.paste = Paste(picture)
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
