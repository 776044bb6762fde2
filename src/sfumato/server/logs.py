"""Logs of the server and its runners: a JSON object a line on stderr, with ids of request and job.

Nothing of a request but its method and path is logged: neither its query, nor headers or bodies.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

log = logging.getLogger("sfumato.server.runner")

FIELDS = ("request", "job", "client", "status", "seconds", "url", "runner", "source", "trace")


class JsonLines(logging.Formatter):
    """A record as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        data = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in FIELDS:
            if (value := getattr(record, name, None)) is not None:
                data[name] = value
        if record.exc_info:
            data["trace"] = self.formatException(record.exc_info)
        return json.dumps(data)


class Named(logging.Filter):
    """Gives records what a process knows of its work. known: fields and values, as they are now."""

    def __init__(self, known: Callable[[], Mapping[str, str]]) -> None:
        super().__init__()
        self.known = known

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in self.known().items():
            setattr(record, name, value)
        return True


def of_process(known: Callable[[], Mapping[str, str]]) -> None:
    """From now on whatever is logged or warned of in this process is a line so."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(Named(known))
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)


def pass_on(line: str, known: Mapping[str, str]) -> None:
    """Log what another process has written on its stderr. known: of the work that it does."""
    try:
        data = json.loads(line)
    except ValueError:
        data = None
    if not isinstance(data, dict) or "message" not in data:
        data = {"level": "warning", "message": line}
    level = logging.getLevelName(str(data.get("level", "")).upper())
    source = data.get("logger", "stderr")
    kept = {name: data[name] for name in FIELDS if name in data}
    log.log(
        level if isinstance(level, int) else logging.WARNING, "%s", data["message"],
        extra={**known, **kept, "source": source},
    )  # fmt: skip


@contextmanager
def json_lines(quiet: bool = False) -> Iterator[None]:
    """Log so meanwhile. quiet: warnings and errors alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    loggers = [logging.getLogger(name) for name in ("sfumato.server", "uvicorn", "uvicorn.error")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    access, errors = logging.getLogger("uvicorn.access"), loggers[-1]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING if quiet else logging.INFO)
    access.disabled = True
    errors.addFilter(_once)
    try:
        yield
    finally:
        errors.removeFilter(_once)
        access.disabled = False
        for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)


def _once(record: logging.LogRecord) -> bool:
    """What a request raised is logged already, with its id."""
    return not record.getMessage().startswith("Exception in ASGI application")
