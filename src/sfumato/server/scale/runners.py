"""The runners of a cluster, one for each place of its nodes."""

from __future__ import annotations

from collections.abc import Callable

from sfumato.server.runner.child import Work
from sfumato.server.scale.fleet import Fleet
from sfumato.server.scale.runner import RayRunner


def runners(fleet: Fleet, make: Callable[[], Work]) -> list[RayRunner]:
    """As many as there are places now; one that loses its node takes another that has room."""
    count = len(fleet.places())
    return [RayRunner(f"ray-{k + 1}", fleet, make) for k in range(count)]
