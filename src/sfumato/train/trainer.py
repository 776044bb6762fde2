"""The trainer: steps, checkpoints, logs. It never loses work and resumes bit for bit.

Nothing random is kept between steps: every draw is keyed by its step, so a checkpoint is weights,
optimiser and a number. Several devices: start it with torchrun or `accelerate launch`; every
process makes its share of the same batch, and gradients are averaged.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import distributed

from sfumato.core.errors import SfumatoError
from sfumato.core.interrupts import Stopped
from sfumato.train import state
from sfumato.train.config import Config
from sfumato.train.optim import Weights, rate
from sfumato.train.report import Log, memory, plot
from sfumato.train.tuners import Outcome, Tuner, make

Say = Callable[[str], None]


def say(line: str) -> None:
    """Progress goes to stderr."""
    print(line, file=sys.stderr, flush=True)


class Group:
    """The processes that share a batch; one by default."""

    def __init__(self, device: str) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.size > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")

    def share(self, n: int) -> slice:
        """This process's rows of a batch of n."""
        if n % self.size:
            raise SfumatoError(f"optim.batch {n}: must be a multiple of the {self.size} processes")
        part = n // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def average(self, weights: Weights) -> None:
        """Mean of the gradients over the processes."""
        if self.size == 1:
            return
        grads = [p.grad for p in weights.parameters.values() if p.grad is not None]
        for grad in grads:
            distributed.all_reduce(grad)
            grad /= self.size


class Trainer:
    """A recipe at work in a run folder."""

    def __init__(
        self, config: Config, data: Path, folder: Path, *, device: str = "cpu", say: Say = say
    ) -> None:
        self.config = config
        self.folder = folder
        self.group, self.device = Group(device), device
        self.say = say if self.group.rank == 0 else lambda line: None
        folder.mkdir(parents=True, exist_ok=True)
        self._keep_recipe()
        self.tuner: Tuner = make(config, data, folder, device)
        self.weights = Weights(self.tuner.parameters(), config.optim)
        self.step = 0
        self.seconds = 0.0
        self.measures: dict[str, float] = {}
        self.log = Log(folder / "log.csv")
        self.signal: int | None = None
        self._resume()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "state.safetensors"

    def _keep_recipe(self) -> None:
        """The run folder keeps the recipe; that it changed is said."""
        kept = self.folder / "recipe.toml"
        if self.group.rank:
            return
        before = kept.read_text(encoding="utf-8") if kept.exists() else self.config.text
        if before != self.config.text and self.checkpoint.exists():
            self.say(f"{kept}: differs from this recipe; going on with the new settings")
        kept.write_text(self.config.text, encoding="utf-8")

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            return
        tensors, note = state.read(self.checkpoint)
        self.weights.load(tensors)
        self.step, self.seconds = int(note["step"]), float(note["seconds"])
        self.measures = dict(note.get("measures", {}))
        if self.group.rank == 0:
            self.log.cut(self.step)
        self.say(f"resumed at step {self.step}")

    def save(self) -> None:
        """Write the checkpoint."""
        if self.group.rank == 0:
            note = {"step": self.step, "seconds": self.seconds, "measures": self.measures}
            state.write(self.checkpoint, self.weights.state(), note)

    def run(self, until: int | None = None) -> None:
        """Train to the recipe's last step, or to `until`; save, show and export as it goes."""
        optim, every = self.config.optim, self.config.run
        last = min(optim.steps, until or optim.steps)
        share = self.group.share(optim.batch)
        handlers = self._listen()
        saved = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self.tuner.batch, self.step, share)
            try:
                while self.step < last and self.signal is None:
                    began = time.monotonic()
                    batch = ahead.result()
                    ahead = pool.submit(self.tuner.batch, self.step + 1, share)
                    self.advance(batch)
                    self.seconds += time.monotonic() - began
                    due = time.monotonic() - saved > 60 * every.save_minutes
                    if self._report(last) and due:
                        self.save()
                        saved = time.monotonic()
            finally:
                ahead.cancel()
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        if self.step == optim.steps:
            self.finish()
            return
        self.save()
        if self.signal is not None:
            self.say(f"stopped at step {self.step}; the same command goes on from there")
            raise Stopped(self.signal)

    def _report(self, last: int) -> bool:
        """Log, measure and show where it is due; whether the log was written."""
        every = self.config.run
        if self.step % every.judge == 0:
            self._judge()
        if self.step % every.grid == 0:
            self._show()
        if self.step % every.log:
            return False
        self._write_log(last)
        return True

    def advance(self, batch: Any) -> Outcome:
        """One step. A loss or gradient that is not finite stops the run before it does harm."""
        outcome = self.tuner.loss(batch, self.step)
        outcome.total.backward()  # type: ignore[no-untyped-call]
        self.group.average(self.weights)
        norm = self.weights.gather()
        loss = float(outcome.total.detach())
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            self.weights.drop()
            self.save()
            raise SfumatoError(
                f"step {self.step + 1}: loss {loss}, gradient norm {float(norm)}; the state before "
                f"it is kept in {self.checkpoint}; lower optim.rate or optim.clip and go on"
            )
        self.weights.step(self.step, norm)
        self.step += 1
        self.log.add({"loss": loss, "gradient": float(norm), **outcome.parts})
        return outcome

    def finish(self) -> None:
        """The last checkpoint, measures, grid and the exported weights."""
        self._judge()
        self._show()
        self.save()
        self.export(self.folder / "model")

    def export(self, folder: Path) -> None:
        """The averaged weights in their final form."""
        if self.group.rank == 0:
            self.tuner.export(folder, self.weights.average, self.facts())
            self.say(f"exported to {folder}")

    def facts(self) -> dict[str, Any]:
        """What a card says about the training."""
        return {
            "recipe": self.config.name,
            "steps": self.step,
            "pictures": self.step * self.config.optim.batch,
            "minutes": round(self.seconds / 60, 1),
            "measures": {name: round(value, 5) for name, value in self.measures.items()},
        }

    def _write_log(self, last: int) -> None:
        if self.group.rank:
            self.log.window.clear()
            return
        pace = self.log.pace(self.seconds)
        batch = self.config.optim.batch
        left = (last - self.step) / pace if pace else math.nan
        row = self.log.write(
            self.step, self.seconds, pace * batch, rate(self.config.optim, self.step)
        )
        plot(self.folder / "log.csv", self.folder / "curves.png")
        self.say(
            f"step {self.step}/{last}  loss {row['loss']:.4f}  {pace:.2f} steps/s  "
            f"{pace * batch:.1f} pictures/s  {memory(self.device):.1f} GiB  {clock(left)} left"
        )

    def _judge(self) -> None:
        """Held-out measures of the averaged weights; every process waits, the first one writes."""
        with self.weights.averaged(), torch.no_grad():
            found = self.tuner.judge() if self.group.rank == 0 else {}
        self.measures = found or self.measures
        if found:
            log = Log(self.folder / "heldout.csv")
            log.cut(self.step - 1)
            log.put({"step": self.step, **found})
            plot(self.folder / "heldout.csv", self.folder / "heldout.png")

    def _show(self) -> None:
        if self.group.rank == 0:
            with self.weights.averaged(), torch.no_grad():
                self.tuner.show(self.folder / f"grid-{self.step:06d}.png")

    def _listen(self) -> dict[int, Any]:
        """Signals end the run after the step in hand; only the main thread may listen."""

        def note(number: int, frame: FrameType | None) -> None:
            self.signal = number

        try:
            return {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:
            return {}


def clock(seconds: float) -> str:
    """1 h 05 min, 4 min, or 30 s."""
    if not math.isfinite(seconds):
        return "unknown time"
    minutes = int(seconds // 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"
