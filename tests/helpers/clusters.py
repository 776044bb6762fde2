"""Clusters of Ray on this machine, each node with processes of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from helpers.served import READY, StubWork
from sfumato.core.errors import SfumatoError
from sfumato.server.runner.protocol import Finished, Happening, Made, Ready, Task
from sfumato.server.scale.fleet import Fleet, connected

LARGE = 2 << 20  # bytes: a picture of 1024 x 1024 as PNG
STORE = 100 << 20  # bytes of a node's memory for objects
TESTS = Path(__file__).parents[1]
TOKEN = "a-token-of-this-test-that-nobody-else-has"
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "OMP_NUM_THREADS": "1",
}


@contextmanager
def cluster(nodes: int = 2) -> Iterator[Any]:
    """A head without room for actors, and nodes with room for one each."""
    before = dict(os.environ)
    os.environ |= SETTINGS
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(TESTS), *filter(None, sys.path)]))
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, "object_store_memory": STORE}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes):
            add_node(made)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        os.environ.clear()
        os.environ |= before


def add_node(made: Any, **environment: str) -> Any:
    """A node with room for one actor, whose processes have these variables."""
    return made.add_node(
        num_cpus=1, num_gpus=0, object_store_memory=STORE, env_vars=environment or None
    )


@dataclass(frozen=True)
class Bulky(StubWork):
    """Makes a file as large as a large picture, at once."""

    def perform(self, task: Task, tell: Callable[[Happening], None]) -> None:
        tell(Made("1.png", bytes(LARGE)))
        tell(Finished())


@dataclass(frozen=True)
class NodeWork(StubWork):
    """Has the weights that its node's WEIGHTS says, and none where that is empty."""

    def ready(self) -> Ready:
        weights = os.environ.get("WEIGHTS", "a" * 64)
        if not weights:
            raise SfumatoError("model emoji: not one of none, nor a folder or a file")
        return replace(READY, weights={"emoji": weights})


@contextmanager
def joined(made: Any) -> Iterator[Fleet]:
    """The cluster, as a server joins it."""
    import ray

    try:
        fleet = connected(made.address)
        fleet.versions.clear()  # a stub has none
        yield fleet
    finally:
        ray.shutdown()
