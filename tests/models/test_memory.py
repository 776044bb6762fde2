"""Memory: what is beyond the machine is refused before a network is called; what fits never is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import sfumato as sf
from helpers import pipelines
from helpers.families import upsampling
from sfumato.cli import main
from sfumato.core.errors import SfumatoError
from sfumato.measure.sweep import sweep
from sfumato.models import memory
from sfumato.models.cascade import base_of
from sfumato.models.loaders import library
from sfumato.nn.blocks import Conv2d

LINE = r"memory: .+ would take at least [0-9,.]+ GiB, .+ has [0-9,.]+ GiB; make .+\(size\)"


@pytest.fixture(scope="module")
def emoji() -> sf.Model:
    return sf.load("emoji", device="cpu", dtype="float32")


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution of values is an error; of shapes alone it is none."""
    forward = nn.Conv2d.forward

    def watched(self: Any, x: Any) -> Any:
        assert x.device.type == "meta", "a network was called"
        return forward(self, x)

    monkeypatch.setattr(nn.Conv2d, "forward", watched)


def rooms(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    monkeypatch.setattr(memory, "capacity", lambda device: gib * memory.GIB)


def least(process: Any) -> float:
    resolved = base_of(process).resolved()
    return memory.least_bytes(resolved, *resolved.frame(resolved.place), resolved.times)


ASKED: dict[str, Callable[[sf.Model], Any]] = {
    "pictures": lambda m: m.process("a", n=4096, size=(9000, 9000)),
    "rows of the base": lambda m: m.process("a", n=4096, stages=1),
    "states of the last stage": lambda m: m.process("a", n=4096),
    "kept pictures": lambda m: (
        m.process("a", n=4096) | sf.SDEdit(Image.new("RGB", (3000, 9)), t0=0)
    ),
    "upscaled": lambda m: m.process("a", n=4096) | sf.Upscale(Image.new("RGB", (96, 96), "red")),
}


@pytest.mark.parametrize("kind", list(ASKED))
def test_a_run_and_its_plan_refuse_alike_before_any_network(
    kind: str, emoji: sf.Model, still: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms(monkeypatch, 0.25)
    process = ASKED[kind](emoji)
    for ask in (lambda: process.calls, process.sample, lambda: next(process.steps(seed=1))):
        with pytest.raises(SfumatoError) as raised:
            ask()
        assert re.fullmatch(LINE, str(raised.value))
        assert "n)" in str(raised.value)


def test_a_plan_beyond_this_very_machine_is_refused(emoji: sf.Model, still: None) -> None:
    """4096 pictures of 81 megapixels are a terabyte and more."""
    with pytest.raises(SfumatoError, match="4096 pictures of 9000x9000 would take at least 1,2"):
        ASKED["pictures"](emoji).sample()


def test_a_single_picture_is_told_to_be_smaller(
    emoji: sf.Model, still: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms(monkeypatch, 0.1)
    process = emoji.process("a", size=(9000, 9000))
    with pytest.raises(SfumatoError, match=r"1 picture of 9000x9000 .+ make a smaller picture \(s"):
        process.sample()


@pytest.mark.parametrize("words", [("generate", "a"), ("sdedit", "rose.png", "-p", "a")])
def test_the_program_refuses_in_one_line_with_and_without_plan(
    words: tuple[str, ...], emoji: sf.Model, still: None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(library, "load", lambda *name, **how: emoji)
    rooms(monkeypatch, 0.25)
    Image.new("RGB", (200, 200), "red").save("rose.png")
    for plan in ((), ("--plan",)):
        done = CliRunner().invoke(main.build(), [*words, "-n", "4096", "--quiet", *plan])
        assert done.exit_code == 1
        assert re.fullmatch(f"sfumato: {LINE}\n", " ".join(done.stderr.split()) + "\n")
        assert [file.name for file in tmp_path.iterdir()] == ["rose.png"]


def test_a_sweep_is_refused_before_its_first_cell(
    emoji: sf.Model, still: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms(monkeypatch, 0.25)
    with pytest.raises(SfumatoError, match="memory: a network call of 2000 rows"):
        sweep(emoji.process("a", stages=1), "cfg.scale=2,3", tmp_path / "new", seeds=1000)
    assert not (tmp_path / "new").exists()


def test_latent_models_count_networks_and_their_autoencoder(
    tmp_path: Path, still: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipelines.stable(tmp_path, "sd1-inpaint")
    model = sf.load(str(tmp_path / "pipeline"), device="cpu", dtype="float32")
    process = model.process("a", n=2)
    resolved = process.resolved()
    needed = list(memory.needs(resolved, *resolved.frame(resolved.place), process.times, 0))
    assert [need.holder.split()[0] for need in needed] == ["a", "decoding", "2"]
    state = 4 * 3 * 32 * 32
    assert needed[1].size > 5 * state, "several maps of the decoder are there at once"
    rooms(monkeypatch, 4 * state / memory.GIB)
    with pytest.raises(SfumatoError, match=r"memory: (a network call|decoding)"):
        process.sample()


def test_ordinary_runs_are_let_through_without_a_look_at_the_networks(
    emoji: sf.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking takes a quarter of a second, which no run of a few steps should pay."""
    monkeypatch.setattr(memory, "peak_bytes", None)
    rooms(monkeypatch, 8)
    for n in (1, 4, 8):
        assert emoji.process("a", n=n).calls == [30, *upsampling(emoji)]


def test_what_is_counted_is_less_than_what_tensors_take(emoji: sf.Model) -> None:
    """Against the same count over real tensors, of a network without layouts of its own."""
    base = replace(emoji, upsamplers=())
    process = base.process("a", n=4, steps=1)
    plain = [m for m in base.denoiser.network.modules() if isinstance(m, Conv2d)]  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Conv2d, "_packs", lambda self, x: False)
        alive = memory.Alive()
        with torch.no_grad(), alive:
            process.sample()
    assert plain
    assert 0.4 * alive.peak < least(process) <= alive.peak


def test_branches_that_act_at_other_times_are_not_together(emoji: sf.Model) -> None:
    def together(*methods: Any) -> int:
        process = emoji.process("a", stages=1)
        for method in methods:
            process = process | method
        return memory.branches_at_once(process.resolved(), process.times)

    assert together() == 2, "the card's own guidance"
    assert together(sf.CFG(1)) == 1
    assert together(sf.CFG(3, window=(0.4, 0.6))) == 2
    assert together(sf.CFG(3, window=(0.001, 0.002))) == 1


def test_attention_is_counted_without_its_matrix() -> None:
    q = torch.empty((2, 8, 4096, 40), device="meta")
    attention = nn.functional.scaled_dot_product_attention
    assert memory.peak_bytes(lambda: attention(q, q, q)) == q.nbytes
    assert memory.peak_bytes(lambda: attention(q, key=q, value=q)) == q.nbytes


def test_room_is_that_of_the_machine() -> None:
    assert memory.capacity("cpu") > 1 << 28
