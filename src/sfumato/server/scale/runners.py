"""The runners of a cluster, one for each place of its nodes."""

from __future__ import annotations

from collections.abc import Callable

from sfumato.server.runner.child import Work
from sfumato.server.scale.fleet import Fleet
from sfumato.server.scale.runner import RayRunner

FEW = 20  # runners, of which every step is told
WORDS = 500  # a second, of more runners together, in whose loop a server has time for other things


def runners(fleet: Fleet, make: Callable[[], Work]) -> list[RayRunner]:
    """As many as there are places now; one that loses its node takes another that has room."""
    count = len(fleet.places())
    gather = count / WORDS if count > FEW else 0.0
    return [RayRunner(f"ray-{k + 1}", fleet, make, gather) for k in range(count)]
