"""What Prometheus is told: requests, jobs, streams, runners, disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from sfumato.server.dispatch import Dispatcher
from sfumato.server.kept import Kept

METHODS = ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS")
FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
SLOW = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """Counters of a server, and gauges that are read when they are asked for."""

    def __init__(self, kept: Kept, dispatcher: Dispatcher) -> None:
        self.kept, self.dispatcher = kept, dispatcher
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sfumato_requests", "HTTP requests", ("method", "route", "status"),
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "sfumato_request_seconds", "Seconds of HTTP requests, streams apart", ("route",),
            buckets=FAST, registry=self.registry,
        )  # fmt: skip
        self.jobs = Histogram(
            "sfumato_job_seconds", "Seconds of jobs that were done", ("kind",), buckets=SLOW,
            registry=self.registry,
        )  # fmt: skip
        self.ended = Counter(
            "sfumato_jobs_ended", "Jobs that have ended, by state", ("kind", "state"),
            registry=self.registry,
        )  # fmt: skip
        self.registry.register(self)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        known = method if method in METHODS else "other"  # clients may make up any
        self.requests.labels(known, route, status).inc()
        if not route.endswith("/events"):
            self.seconds.labels(route).observe(seconds)

    def job(self, kind: str, state: str, seconds: float) -> None:
        self.ended.labels(kind, state).inc()
        if state == "done":
            self.jobs.labels(kind).observe(seconds)

    def collect(self) -> Iterable[Metric]:
        """Gauges as things are."""
        queue = self.kept.queue
        jobs = GaugeMetricFamily("sfumato_jobs", "Open jobs", labels=("state",))
        jobs.add_metric(("queued",), queue.count())
        jobs.add_metric(("running",), len(list(queue.running())))
        yield jobs
        streams = len(self.kept.hub.listeners)
        yield GaugeMetricFamily("sfumato_streams", "Open event streams", value=streams)
        runners = GaugeMetricFamily("sfumato_runner_alive", "Runners", labels=("runner",))
        for name, runner in self.dispatcher.runners.items():
            runners.add_metric((name,), int(runner.alive))
        yield runners
        free = shutil.disk_usage(self.kept.files.folder).free
        yield GaugeMetricFamily("sfumato_disk_free_bytes", "Free on the disk", value=free)
        paused = len(queue.paused)
        yield GaugeMetricFamily("sfumato_paused_clients", "Clients that wait", value=paused)

    def text(self) -> bytes:
        return generate_latest(self.registry)
