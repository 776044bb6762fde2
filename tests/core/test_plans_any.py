"""Plans of any combination: solvers, times, windows, starts, methods, batches, drawn at random."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from helpers.plans import MASK, PIXELS, SCHEDULES, Window, process
from sfumato.core.errors import SfumatoError
from sfumato.core.solvers import SOLVERS
from sfumato.core.spacing import RULES
from sfumato.methods.cfg import CFG
from sfumato.methods.ilvr import ILVR
from sfumato.methods.inpaint import Inpaint
from sfumato.methods.sdedit import SDEdit

FRACTIONS = st.floats(0.0, 1.0).map(lambda v: round(v, 3))
SPACINGS: Any = st.one_of(
    st.sampled_from(list(RULES)).map(lambda rule: (rule, True)),
    st.sampled_from(["3", "ddim5", "2,1,3"]).map(lambda text: (text, False)),
    st.lists(FRACTIONS, min_size=2, max_size=5, unique=True).map(
        lambda times: (tuple(sorted(times, reverse=True)), False)
    ),
)
WINDOWS = st.tuples(FRACTIONS, FRACTIONS).map(lambda pair: (min(pair), max(pair)))
STARTS: Any = st.one_of(
    st.none(),
    st.builds(
        lambda t0, repeats, masked: SDEdit(
            PIXELS, t0=t0, repeats=repeats, mask=MASK if masked else None
        ),
        FRACTIONS, st.integers(1, 3), st.booleans(),
    ),
    st.builds(
        lambda resample, stretch: Inpaint(
            PIXELS, mask=MASK, resample=resample, **({"stretch": stretch} if resample > 1 else {})
        ),
        st.integers(1, 3), st.integers(1, 3),
    ),
)  # fmt: skip
BESIDE: Any = st.lists(
    st.one_of(
        st.builds(lambda scale, window: CFG(scale, window=window), st.sampled_from([1.0, 3.0]),
                  WINDOWS),
        st.builds(lambda stop: ILVR(PIXELS, factor=4, stop=stop), st.floats(0.0, 0.9)),
        st.just(Window()),
    ),
    max_size=3, unique_by=type,
)  # fmt: skip


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(list(SOLVERS)), SPACINGS, st.integers(1, 9), st.integers(1, 3), STARTS, BESIDE,
    st.sampled_from(list(SCHEDULES)), st.sampled_from([None, 1, 2]),
)  # fmt: skip
def test_plans_of_any_combination_are_what_is_run(
    chosen: str, spacing: tuple[Any, bool], steps: int, n: int, start: Any, beside: list[Any],
    ends: str, rows: int | None,
) -> None:  # fmt: skip
    """A plan is what runs; and what it refuses the run refuses alike, before any call."""
    rule, counts = spacing
    made = process(
        SCHEDULES[ends], solver=chosen, spacing=rule, n_steps=steps if counts else None, n=n
    )
    network: Any = made.denoiser.network
    made = replace(made, rows_max=rows)
    for method in [start, *beside]:
        made = made if method is None else made | method
    refused = ""
    try:
        planned = made.calls
    except SfumatoError as error:
        refused = str(error)
    assert network.calls == 0
    if refused:
        with pytest.raises(SfumatoError) as raised:
            list(made.steps(seed=0))
        assert str(raised.value) == refused
        assert network.calls == 0
        return
    made_calls = [step.calls for step in made.steps(seed=0)]
    assert (made_calls[-1] if made_calls else 0) == planned
    if rows is None:
        assert network.calls == planned
