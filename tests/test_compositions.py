"""Every two methods run together or say why not, in either order to the same bits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import sfumato as sf
from sfumato.methods import registry

TOOLS = str(Path(__file__).parents[1] / "tools")


def test_every_method_has_a_row() -> None:
    sys.path.insert(0, TOOLS)
    import compositions

    shown = compositions.FILE.read_text(encoding="utf-8")
    names = {name for name, cls in registry().items() if cls.__module__.startswith("sfumato.")}
    first, *others = sorted(names)
    rows = [line.split("|")[1].strip() for line in shown.splitlines() if line.startswith("| ")]
    assert rows[1:] == others, f"run: python tools/compositions.py ({first} has the first column)"


def test_of_several_methods_the_order_decides_nothing_that_they_bring() -> None:
    """A solver: the start's, else the first by name. Gradients: summed by name."""
    base = sf.load("emoji", dtype="float32").process("red apple", stages=1, size=16, steps=2)
    pair = (sf.Stego(message="x", check=False), sf.SDG(text="heart"))
    losses = (sf.Instruction(prompt="heart"), sf.TotalVariation())
    for first, second in (pair, pair[::-1], losses, losses[::-1]):
        loop = (base | first | second).begin()
        assert loop.steering is not None
        wanted = ["sdg"] if first in pair else ["instruction", "threshold", "total_variation"]
        assert [guide.name for guide in loop.steering.guides] == wanted
        assert loop.run.solver.id == ("iplms" if first in pair else "dpmpp-2m")


@pytest.mark.slow
def test_the_table_is_what_happens() -> None:
    sys.path.insert(0, TOOLS)
    import compositions

    found = compositions.table(sf.load("emoji", dtype="float32"))
    assert not [names for names, said in found.items() if said.startswith("ORDER")]
    assert compositions.text(found) == compositions.FILE.read_text(encoding="utf-8")
