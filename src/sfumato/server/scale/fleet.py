"""Fleet: the nodes of a cluster of Ray, and the places that actors have on them."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import socket
import time
from dataclasses import dataclass, field
from typing import Any

import sfumato
from sfumato.core.errors import SfumatoError, error_line
from sfumato.server.runner.protocol import Ready, RunnerLostError

CONNECTS = 5.0  # seconds in which the cluster's address answers
SHARE = 0.5  # of a CPU, so that two programs have room on a node with one
AGAIN = 60.0  # seconds after which a node that was refused is asked once more

log = logging.getLogger("sfumato.server")


@dataclass(frozen=True)
class Placement:
    """Room for one actor: the node's id and address, and whether the actor has a GPU there."""

    id: str
    address: str
    gpu: bool

    @property
    def asks(self) -> dict[str, float]:
        """What is asked of Ray for an actor there."""
        return {"num_gpus": 1, "num_cpus": 0} if self.gpu else {"num_gpus": 0, "num_cpus": SHARE}


@dataclass
class Fleet:
    """Places by node, how many are taken, and why nodes were refused.

    weights, versions: of models and packages, as every node must have them; what they do not say
    is as the first node has it. files: the same of weights that methods may name.
    """

    ray: Any
    weights: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)
    refused: dict[str, tuple[float, str]] = field(default_factory=dict)

    def places(self) -> list[Placement]:
        """Every place: one for each GPU, or where there is none in the cluster for each node with
        a CPU."""
        alive = [node for node in self.ray.nodes() if node["Alive"]]
        kind = "GPU" if any(node["Resources"].get("GPU", 0) >= 1 for node in alive) else "CPU"
        rooms = []
        for node in alive:
            amount = node["Resources"].get(kind, 0)
            count = int(amount) if kind == "GPU" else int(amount >= SHARE)
            place = Placement(node["NodeID"], node["NodeManagerAddress"], kind == "GPU")
            rooms += [place] * count
        return sorted(rooms, key=lambda place: (place.address, place.id))

    async def take(self) -> Placement:
        """A place that is free. RunnerLostError where there is none now, and why."""
        places = await asyncio.to_thread(self.places)
        now = time.monotonic()
        self.refused = {id: why for id, why in self.refused.items() if now - why[0] < AGAIN}
        room = {place.id: places.count(place) - self.taken.get(place.id, 0) for place in places}
        for place in sorted(places, key=lambda place: -room[place.id]):
            if room[place.id] > 0 and place.id not in self.refused:
                self.taken[place.id] = self.taken.get(place.id, 0) + 1
                return place
        why = "; ".join(dict.fromkeys(line for _, line in self.refused.values()))
        raise RunnerLostError(why or "no node of the cluster has room; its other programs may")

    def release(self, place: Placement) -> None:
        self.taken[place.id] -= 1

    def refuse(self, place: Placement, why: str) -> None:
        """The node gets no actor for a while."""
        line = f"node {place.address} ({place.id[:8]}): {why}"
        log.error("%s; it gets no jobs", line)
        self.refused[place.id] = (time.monotonic(), line)

    def objection(self, ready: Ready) -> str | None:
        """Why a node must not do jobs, though it is ready; the first one says what is right."""
        for name, version in ready.versions.items():
            if (right := self.versions.setdefault(name, version)) != version:
                return f"has {name} {version}, others {right}; install the same everywhere"
        for name, sha256 in ready.weights.items():
            if (right := self.weights.setdefault(name, sha256)) != sha256:
                return (
                    f"model {name}: its weights are {sha256[:12]}…, of the others {right[:12]}…; "
                    "put the same files there"
                )
        for one in ready.files:
            if (right := self.files.setdefault(one.name, one.sha256)) != one.sha256:
                return (
                    f"weights {one.name}: are {one.sha256[:12]}…, of the others {right[:12]}…; put "
                    "the same files there"
                )
        return None


def connected(address: str) -> Fleet:
    """The cluster at an address. SfumatoError where it cannot be joined."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise SfumatoError("--ray: ray is not installed; pip install 'sfumato[ray]'") from None
    if "://" in address:
        raise SfumatoError(
            f"--ray {address}: give HOST:PORT of a cluster that this machine is a node of, or auto"
        )
    if address != "auto":
        _reach(address)
    silence()
    try:
        ray.init(
            address=address, log_to_driver=False, configure_logging=False, logging_level="ERROR"
        )
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        line = error_line(SfumatoError(str(error))).partition(". ")[0]
        raise SfumatoError(
            f"--ray {address}: {line:.300}; it must have ray {ray.__version__}, and "
            "RAY_AUTH_TOKEN_PATH be a file with its token"
        ) from None
    fleet = Fleet(ray, versions={"sfumato": sfumato.__version__})
    if not fleet.places():
        raise SfumatoError(f"--ray {address}: no node of it has a GPU or a CPU; add one")
    return fleet


def _reach(address: str) -> None:
    """Ray itself waits for minutes where nobody answers."""
    host, colon, port = address.rpartition(":")
    try:
        if not colon or not port.isdecimal():
            raise SfumatoError(f"--ray {address}: write HOST:PORT, or auto")
        socket.create_connection((host.strip("[]"), int(port)), CONNECTS).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SfumatoError(f"--ray {address}: nobody answers there ({why})") from None


def silence() -> None:
    """Ray prints the last words of lost nodes to stdout, which is our results' alone."""
    worker: Any = importlib.import_module("ray._private.worker")
    worker.print_to_stdstream = lambda *arguments, **options: None
