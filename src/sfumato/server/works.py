"""How much a job is, and of what kind: jobs that are alike take as long a step on a device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sfumato.core.errors import SfumatoError
from sfumato.server.jobs import Kind

STEPS = 10_000  # of a training whose recipe does not say


@dataclass(frozen=True)
class Workload:
    """model: what does it, and with what; size: all else that a step's time depends on.

    steps: how many such steps; 0 where nobody can say, as of a run that goes on.
    """

    model: str
    size: str
    steps: float


def work_of(request: str) -> Workload:
    """Of a request's JSON."""
    asked: Mapping[str, Any] = json.loads(request)
    kind = asked.get("kind", Kind.RECIPE)
    if kind == Kind.TRAIN:
        whole = _training(asked["config"])
        until = 0 if asked.get("run") else asked.get("until") or whole.steps
        return replace(whole, steps=min(until, whole.steps))
    if kind == Kind.EVAL:
        rows = len(asked["styles"]) * len(asked["scales"])
        return Workload(f"eval {asked['model']}", asked["dtype"], rows * asked["n"])
    if kind == Kind.COMPARE:
        each = max(1, len(asked["inputs"])) * max(1, len(asked["prompts"]))
        ways = [_picture({**way["recipe"], "n": asked["seeds"]}, (), kind) for way in asked["ways"]]
        sizes = json.dumps([one.size for one in ways])
        return Workload(ways[0].model, sizes, each * sum(one.steps for one in ways))
    if kind == Kind.BATCH:
        return Workload("batch", "", 0)
    if kind == Kind.SWEEP:
        recipe = {**asked["recipe"], "n": asked["seeds"]}
        one = _picture(recipe, asked.get("search", ()), Kind.RECIPE)
        return replace(one, steps=one.steps * _cells(asked))
    return _picture(asked["recipe"], asked.get("search", ()), kind)


def _picture(recipe: Mapping[str, Any], search: Any, kind: str) -> Workload:
    steps = recipe.get("steps")
    parts = ("size", "stages", "solver", "spacing")
    methods = sorted(str(method.get("method")) for method in recipe.get("methods", ()))
    size = [recipe.get("n", 1), [recipe.get(part) for part in parts], methods, list(search), kind]
    counts = steps is not None
    return Workload(
        str(recipe.get("model", "")), json.dumps([*size, counts]), steps if steps is not None else 1
    )


def _cells(asked: Mapping[str, Any]) -> int:
    from sfumato.measure.axis import axis

    try:
        values = len(axis(asked["over"]).values)
    except SfumatoError:  # of an earlier version's request
        values = 1
    return values * max(1, len(asked["prompts"]))


def _training(config: Mapping[str, Any]) -> Workload:
    model, optim = _table(config, "model"), _table(config, "optim")
    parts = [config.get("tuner"), optim.get("batch"), _table(config, "data").get("size")]
    parts += [_table(config, "adapter").get("rank"), _table(config, "subject").get("prior")]
    steps = optim.get("steps", STEPS)
    return Workload(
        f"train {model.get('start', '')}", json.dumps(parts),
        steps if isinstance(steps, int) else STEPS,
    )  # fmt: skip


def _table(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = config.get(name, {})
    return table if isinstance(table, Mapping) else {}
