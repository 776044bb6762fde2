"""What a run records of weights that its methods brought: name and sha256, in one place."""

from __future__ import annotations

from sfumato.core.context import Run
from sfumato.core.source import Origin


def record(run: Run, method: str, field: str, origin: Origin | None) -> None:
    """Into the recipe's `run`, under "weights": {"method.field": {"name", "sha256"}}."""
    if origin is not None:
        entry = {"name": origin.name, "sha256": origin.sha256}
        run.report.setdefault("weights", {})[f"{method}.{field}"] = entry
