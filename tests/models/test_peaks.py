"""A run's peak memory by what is offloaded: in numbers, in sentences, and as what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import sfumato as sf
from helpers import families
from sfumato.core.errors import SfumatoError
from sfumato.models import cost, memory, offload, peaks, planning, tiles

KIB = 1 << 10


def on_a_card(how: str = "none", kind: str = "sd3") -> Any:
    """A process on a card that is not here, of which prompts alone are read."""
    model = families.family(kind)
    return process_of(replace(model, choice=replace(model.choice, offload=how), memo={}))


def process_of(model: sf.Model) -> Any:
    process: Any = model.process("a red cat", size=32, steps=2)
    return replace(process.resolved(), device="cuda:0")


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine whose card and main memory have so many bytes."""

    def of(card: float, main: float = 1 << 30) -> None:
        for place in (peaks, memory, tiles):
            monkeypatch.setattr(place, "capacity", lambda d: main if d == "cpu" else card)

    return of


def found(process: Any) -> dict[str, peaks.Peak]:
    frame, shape = process.frame(process.place)
    needed = list(memory.needs(process, frame, shape, process.times, 0))
    return peaks.peaks(process, needed)


def test_less_of_the_card_costs_main_memory(room: Any) -> None:
    room(1 << 30)
    process = on_a_card()
    model: Any = process.source
    weights, of = cost.weight_bytes(model), found(process)
    assert of["none"].device > weights > of["modules"].device > of["layers"].device
    network = model.denoiser.network.net
    readers = cost.networks_in(model.text)
    assert of["modules"].device >= max(map(offload.nbytes, [network, *readers]))
    pictures = of["none"].main
    assert pictures == 4 * 32 * 32
    assert of["modules"].main == of["layers"].main == pictures + weights
    assert all(peak.fits for peak in of.values())


def test_large_text_encoders_count_by_their_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    process = on_a_card()
    readers = cost.networks_in(process.source.text)
    whole = sum(map(offload.nbytes, readers))
    assert memory.weights_there(process, readers, "layers") == whole
    monkeypatch.setattr(offload, "LARGE", 0)
    assert memory.weights_there(process, readers, "layers") < whole
    assert memory.weights_there(process, readers, "modules") == whole


def test_fewer_bits_are_fewer_bytes_of_every_choice(room: Any) -> None:
    room(1 << 30)
    full = found(on_a_card())
    folder = families.pipeline("sd3")
    model = sf.load(str(folder), device="cpu", dtype="int8")
    less = found(process_of(model))
    for how in full:
        assert less[how].device < full[how].device
        assert less[how].main <= full[how].main


def test_a_line_says_of_each_choice_what_it_takes_and_whether_it_fits(room: Any) -> None:
    process = on_a_card("modules")
    room(1 << 30)
    of = found(process)
    room((of["modules"].device + of["none"].device) / 2)
    data = {how: vars(peak) for how, peak in found(process).items()}
    lines = peaks.sentences(data, "cuda:0", "modules")
    assert [line.split(":")[0] for line in lines] == [
        "offload none", "offload modules, as chosen", "offload layers",
    ]  # fmt: skip
    assert [line.endswith("which fits.") for line in lines] == [False, True, True]
    assert " on cuda:0 and " in lines[0]
    room(1 << 30, of["modules"].main - 1)
    assert [peak.fits for peak in found(process).values()] == [True, False, False]


def test_a_device_with_the_main_memory_has_one_figure() -> None:
    process = families.family("sd3").process("a red cat", size=32, steps=2)
    plan = planning.plan_data(process, 0)
    assert list(plan["peaks"]) == ["none"]
    one = plan["peaks"]["none"]
    assert one["device"] == one["main"] == plan["weights"] + plan["memory"]
    assert one["fits"]
    assert not peaks.sentences(plan["peaks"], "cpu", "none")
    assert not any("offload" in line for line in planning.sentences(process, 0, plan))


def test_what_is_beyond_the_card_with_its_weights_is_refused_with_the_way_out(room: Any) -> None:
    process = on_a_card("modules")
    room(1 << 30)
    of = found(process)
    room(of["layers"].device + KIB)
    frame, shape = process.frame(process.place)
    with pytest.raises(SfumatoError, match=r"GiB, weights with it, cuda:0 has .+ offload layers$"):
        memory.check_memory(process, frame, shape, process.times)
    by_layers = on_a_card("layers")
    memory.check_memory(by_layers, frame, shape, by_layers.times)
