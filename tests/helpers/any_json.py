"""Any JSON, for the readers' properties: a value, or one line of SfumatoError."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from sfumato.core.errors import SfumatoError

numbers = st.one_of(st.integers(), st.integers(-2, 12), st.floats(), st.booleans(), st.none())
texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "..", "/etc/passwd", "emoji", "ddim", "cfg", "sdedit", "auto", "karras"]),
)
json_values = st.recursive(
    numbers | texts,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            texts | st.sampled_from(["method", "sha256", "solver", "image"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
quickly = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    database=None,
)


def tried(call: Callable[[], Any]) -> Any:
    """The value, None where it is refused with one line."""
    try:
        return call()
    except SfumatoError as error:
        line = str(error)
    assert "\n" not in line
    assert len(line) < 2000
    return None


@st.composite
def altered(draw: st.DrawFn, good: Any) -> Any:
    """A document in which up to three values, at any depth, are others, gone or new."""
    data = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        inner = data
        while True:
            keys = sorted(inner) if isinstance(inner, dict) else list(range(min(len(inner), 8)))
            key = draw(st.sampled_from(keys)) if keys else None
            deeper = key is not None and isinstance(inner[key], dict | list) and inner[key]
            if not deeper or not draw(st.booleans() | st.just(True)):
                break
            inner = inner[key]
        what = draw(st.sampled_from(["other", "other", "gone", "new"]))
        if key is not None and what == "other":
            inner[key] = draw(json_values)
        elif key is not None and what == "gone":
            del inner[key]
        elif isinstance(inner, dict):
            inner[draw(texts)] = draw(json_values)
        else:
            inner.append(draw(json_values))
    return data
