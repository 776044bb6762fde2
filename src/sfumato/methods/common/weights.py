"""What a run records of weights that its methods brought: name and sha256, in one place."""

from __future__ import annotations

from sfumato.core.context import Run
from sfumato.core.source import Origin


def record(run: Run, method: str, field: str, origin: Origin | None) -> None:
    """Into the recipe's `run`, under "weights": {"method.field": {"name", "sha256"}}; of others
    under "method.field 2" and so on."""
    if origin is not None:
        entry = {"name": origin.name, "sha256": origin.sha256}
        weights, key = run.report.setdefault("weights", {}), f"{method}.{field}"
        same = [name for name in weights if name.partition(" ")[0] == key]
        if entry not in (weights[name] for name in same):
            weights[f"{key} {len(same) + 1}" if same else key] = entry
