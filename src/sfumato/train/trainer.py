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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.core.interrupts import Stopped
from sfumato.train import checkpoint, origin, run_folder
from sfumato.train.config import Config
from sfumato.train.optim import Weights, rate
from sfumato.train.processes import Processes
from sfumato.train.report import Log, clock, memory, plot
from sfumato.train.tuners import Outcome, Tuner, make

FIRST, EXPLODED = 10, 1000.0
"""A loss above EXPLODED times the largest of the FIRST ones, or times 1, which is what a network
that says nothing costs, comes from weights that are ruined."""

Say = Callable[[str], None]


def say(line: str) -> None:
    """Progress goes to stderr."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def one_worker() -> Iterator[ThreadPoolExecutor]:
    """A worker of one thread: with a second team of OpenMP's there are more threads than cores, and
    then those of both teams sleep between any two products."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(torch.get_num_threads).result()  # what a thread is set to before, it forgets
        pool.submit(torch.set_num_threads, 1).result()
        torch.set_num_threads(threads)  # of threads that begin later, for which it counted too
        yield pool


class Trainer:
    """A recipe at work in a run folder."""

    def __init__(
        self, config: Config, data: Path, folder: Path, *, device: str = "cpu", say: Say = say
    ) -> None:
        self.config = config
        self.folder = folder
        self.processes, self.device = Processes(device), device
        self.say = say if self.processes.rank == 0 else lambda line: None
        self.step = 0
        self.seconds = 0.0
        self.measures: dict[str, float] = {}
        self.ceiling = 0.0
        self.firsts: list[float] = []
        self.log = Log(folder / "log.csv")
        self.signal: int | None = None
        self.keeps = False
        self.due = True  # the first state too: it is what is left where the first steps go wrong
        partial = origin.of(config, origin.tokenizer(folder))
        origin.going_on(folder, partial, whole=False)  # refused before anything is made
        for line in config.carried():
            self.say(line)
        run_folder.make_folder(folder)
        if self.processes.rank == 0 and not self.checkpoint.exists():
            run_folder.clear(folder, config.text)
        self.tuner: Tuner = make(config, data, folder, device)
        now = origin.of(config, self.tuner.digests())
        for line in origin.going_on(folder, now):
            self.say(line)
        self.weights = Weights(self.tuner.parameters(), config.optim)
        self._resume()
        self.origin = now

    @property
    def checkpoint(self) -> Path:
        return self.folder / origin.CHECKPOINT

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            return
        tensors, note = checkpoint.read(self.checkpoint)
        self.weights.load(tensors)
        self.step, self.seconds, self.ceiling = note.step, note.seconds, note.ceiling
        self.measures = dict(note.measures)
        self.due = False
        if self.processes.rank == 0:
            self.log.cut(self.step)
            Log(self.folder / "heldout.csv").cut(self.step)
        self.say(f"resumed at step {self.step}")

    def save(self) -> None:
        """Write the checkpoint, unless its state is not one to go on from."""
        if name := self.weights.unhealthy():
            raise self._stopped(f"step {self.step}: {name} is not finite")
        if self.processes.rank == 0:
            note = {"step": self.step, "seconds": self.seconds, "measures": self.measures}
            checkpoint.write(
                self.checkpoint, self.weights.state(), {**note, "ceiling": self.ceiling}
            )

    def stop(self, *, keeps: bool = False) -> None:
        """End after the step in hand; from any thread. keeps: as a run that is finished, with what
        has been learned so far."""
        self.keeps = self.keeps or keeps
        self.signal = signal.SIGINT

    def run(self, until: int | None = None, *, listens: bool = True) -> None:
        """Train to the recipe's last step, or to `until`; save, show and export as it goes.

        A state is written once the next step's loss has shown that it is a healthy one. listens:
        signals end it too.
        """
        optim, every = self.config.optim, self.config.run
        if until is not None and not 1 <= until <= optim.steps:
            raise SfumatoError(
                f"--until {until}: must be from 1 to the {optim.steps} steps asked for"
            )
        last = until or optim.steps
        share = self.processes.share(optim.batch)
        if self._over(last):
            return
        if self.processes.rank == 0:
            origin.begin(self.folder, self.config, self.origin)
        self.log.begin(self.seconds)
        handlers = self._listen() if listens else {}
        saved = time.monotonic()
        with one_worker() as pool:
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
                        self.due, saved = True, time.monotonic()
                self._prove(ahead.result())
            finally:
                ahead.cancel()
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        if self.step == optim.steps or self.keeps:
            self.finish()
            if self.step < optim.steps:
                self.say(f"ended at step {self.step} of {optim.steps}, as it was asked to")
            return
        self.save()
        if self.signal is not None:
            self.say(f"stopped at step {self.step}, which is saved; the same command goes on")
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

    def _over(self, last: int) -> bool:
        """Whether there is nothing left to do; more steps than asked for are refused."""
        steps = self.config.optim.steps
        if self.step > steps:
            raise SfumatoError(
                f"{self.folder}: has {self.step} steps already, more than the {steps} asked for; "
                "give more --steps, or another -o"
            )
        if self.step < steps:
            if self.step >= last:
                self.say(f"{self.folder}: is at step {self.step} of {steps} already")
            return self.step >= last
        finished = run_folder.is_finished(self.folder, self.step)
        if finished:
            self.say(
                f"{self.folder}: this run is finished, {steps} of {steps} steps; nothing was "
                "trained. More --steps go on from there"
            )
        return finished

    def _stopped(self, why: str) -> SfumatoError:
        kept = "nothing is kept"
        if self.checkpoint.exists():
            kept = f"the state before it is kept in {self.checkpoint}"
        return SfumatoError(f"{why}; {kept}; lower optim.rate or optim.clip and go on")

    def _judged_healthy(self, outcome: Outcome, norm: Tensor) -> float:
        """The loss of the state in hand; one that is not finite, or far above what the run began
        with, stops the run before it does harm."""
        loss = self.processes.mean(outcome.total)
        finite = math.isfinite(loss) and math.isfinite(float(norm))
        if not finite or (self.ceiling and loss > self.ceiling):
            self.weights.drop()
            state = f"step {self.step + 1}: loss {loss:g}, gradient norm {float(norm):g}"
            raise self._stopped(state if finite is False else f"{state}, far above the first ones")
        return loss

    def _prove(self, batch: Any) -> None:
        """That the next step could be made: what ends a run is healthy too."""
        outcome = self.tuner.loss(batch, self.step)
        outcome.total.backward()  # type: ignore[no-untyped-call]
        self.processes.average(self.weights)
        self._judged_healthy(outcome, self.weights.gather())
        self.weights.drop()

    def advance(self, batch: Any) -> Outcome:
        """One step. A loss or gradient that is not finite stops the run before it does harm."""
        outcome = self.tuner.loss(batch, self.step)
        outcome.total.backward()  # type: ignore[no-untyped-call]
        self.processes.average(self.weights)
        norm = self.weights.gather()
        loss = self._judged_healthy(outcome, norm)
        if self.due:
            self.save()
            self.due = False
        if len(self.firsts) < FIRST:
            self.firsts.append(loss)
            self.ceiling = max(self.ceiling, EXPLODED * max(1.0, loss))
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
        if self.processes.rank == 0:
            result = self.tuner.export(folder, self.weights.average, self.facts())
            name = os.path.relpath(result, self.folder)
            run_folder.finish(self.folder, self.step, name)
            self.say(f"exported to {result}")

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
        if self.processes.rank:
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
            measures = self.tuner.judge() if self.processes.rank == 0 else {}
        if odd := [name for name, value in measures.items() if not math.isfinite(value)]:
            raise self._stopped(f"step {self.step}: the measure {odd[0]!r} is {measures[odd[0]]}")
        self.measures = measures or self.measures
        if measures:
            log = Log(self.folder / "heldout.csv")
            log.cut(self.step - 1)
            log.put({"step": self.step, **measures})
            plot(self.folder / "heldout.csv", self.folder / "heldout.png")

    def _show(self) -> None:
        if self.processes.rank == 0:
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
