"""perform(): one task with the library; the same for a process here and an actor elsewhere.

Pictures are made by Replay alone, as `sfumato.run` makes them.
"""

from __future__ import annotations

import json
import logging
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError, error_line
from sfumato.core.interrupts import Stopped as Interrupt
from sfumato.home import unstored
from sfumato.methods.common.secret import secrets_known
from sfumato.server import requests
from sfumato.server.runner import comparing, evaluating, sweeping, teaching
from sfumato.server.runner.picturing import let_go, pictures
from sfumato.server.runner.protocol import (
    Failed,
    Finished,
    Happening,
    Made,
    Said,
    Stopped,
    Task,
)
from sfumato.server.runner.replaying import Tell, replayed, searched
from sfumato.server.runner.warm import Warm

PLANNED = 20  # rows of a batch that are looked at
PLAN = "plan.json"

log = logging.getLogger("sfumato")


def perform(task: Task, tell: Tell, warm: Warm) -> None:
    """Do it and tell what happens, the last a Finished, Failed or Stopped.

    Stops where a core.interrupts.Stopped is raised into it.
    """
    last: Happening
    try:
        with unstored(), notices(tell), secrets_known(task.secrets):
            last = Finished(_do(task, tell, warm))
    except Interrupt:
        last = Stopped()
    except Exception as error:  # whatever it is, it is this task's alone
        line = error_line(error)
        trace = traceback.format_exc() if line.startswith("internal error") else ""
        last = Failed(line, trace)
    finally:
        let_go()
    tell(last)


def _do(task: Task, tell: Tell, warm: Warm) -> float | None:
    job = requests.JobRequest.model_validate_json(task.request).job
    if isinstance(job, requests.RecipeJob):
        return pictures(job, task, tell, warm)
    if isinstance(job, requests.SweepJob):
        sweeping.sweep(job, task, tell, warm)
        return None
    if isinstance(job, requests.TrainJob):
        teaching.train(job, task, tell, warm)
        return None
    if isinstance(job, requests.EvalJob):
        evaluating.evaluate(job, tell, warm)
        return None
    if isinstance(job, requests.CompareJob):
        comparing.compare(job, task, tell, warm)
        return None
    if isinstance(job, requests.PlanJob):
        planned = of_recipe(searched(replayed(job, task.inputs, warm), job, tell))
        tell(Made(PLAN, json.dumps(planned).encode()))
        return None
    raise SfumatoError("a batch is made by its children")


def plan(request: str, inputs: Mapping[str, Path], warm: Warm) -> dict[str, Any]:
    """What a request would do; SfumatoError where it cannot run."""
    job = requests.JobRequest.model_validate_json(request).job
    said_: list[Happening] = []
    with unstored(), notices(said_.append):
        if isinstance(job, requests.SweepJob):
            return sweeping.plan(job, inputs, warm)
        if isinstance(job, requests.EvalJob):
            return evaluating.plan(job)
        if isinstance(job, requests.CompareJob):
            return comparing.plan(job, inputs, warm)
        if isinstance(job, requests.TrainJob):
            planned = teaching.plan(job, inputs, warm)
            return planned | {"notes": [said.text for said in said_ if isinstance(said, Said)]}
        rows = job.rows if isinstance(job, requests.BatchJob) else (job,)
        plans = [of_recipe(replayed(row, inputs, warm)) for row in rows[:PLANNED]]
        if not isinstance(job, requests.BatchJob):
            notes = [said.text for said in said_ if isinstance(said, Said)]
            return plans[0] | {"notes": notes}
        seconds = [one["seconds"] for one in plans]
        known = None if None in seconds else sum(seconds) * len(rows) / len(plans)
        return {"children": len(rows), "seconds": known, "first": plans[0]}


def of_recipe(again: Any) -> dict[str, Any]:
    """A recipe's plan, as data and in sentences."""
    from sfumato.models.planning import plan_data, sentences

    data = plan_data(again.process, again.recipe.seed)
    return data | {"sentences": sentences(again.process, again.recipe.seed, data)}


class Notices(logging.Handler):
    """The notices of this thread's work as told lines, each once; plans have another thread."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.INFO)
        self.tell, self.thread = tell, threading.get_ident()
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if line not in self.said and record.thread == self.thread:
            self.said.add(line)
            self.tell(Said(line, always=record.levelno >= logging.WARNING))


@contextmanager
def notices(tell: Tell) -> Iterator[None]:
    """While active, what the library would print is told."""
    handler = Notices(tell)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
