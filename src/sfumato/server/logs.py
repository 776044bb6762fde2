"""Logs of the server: a JSON object a line on stderr, with the ids of request and job.

Nothing of a request but its method and path is logged: neither its query, nor headers or bodies.
"""

from __future__ import annotations

import json
import logging
import sys
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


def configure(quiet: bool = False) -> None:
    """Log so from now on. quiet: warnings and errors alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    level = logging.WARNING if quiet else logging.INFO
    for name in ("sfumato.server", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("uvicorn.error").addFilter(_once)


def _once(record: logging.LogRecord) -> bool:
    """What a request raised is logged already, with its id."""
    return not record.getMessage().startswith("Exception in ASGI application")
