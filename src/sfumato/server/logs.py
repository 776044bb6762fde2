"""Logs of the server: a JSON object a line on stderr, with the ids of request and job.

Nothing of a request but its method and path is logged: neither its query, nor headers or bodies.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

FIELDS = ("request", "job", "client", "status", "seconds", "url")


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
