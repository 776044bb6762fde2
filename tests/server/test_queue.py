"""The queue in memory: what waits, and what has ended."""

from __future__ import annotations

from sfumato.server.jobs import Kind
from sfumato.server.queue import Entry, Queue


def entry(id: str) -> Entry:
    return Entry(id, 1, "a", Kind.RECIPE, "begin", None, 0, 1.0)


def test_what_is_tried_again_at_once_outlives_its_former_end() -> None:
    """A client may see the end in the table, and ask again, before the queue has closed it."""
    queue, first, again = Queue(), entry("one"), entry("one")
    queue.add(first)
    assert queue.take() is first
    queue.add(again)
    queue.close(first)
    assert queue.open["one"] is again
    assert queue.take() is again
    queue.close(again)
    assert not queue.open
