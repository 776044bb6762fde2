"""Asyrp: no-ops, its equation, which half of a step sees the shift, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import sfumato as sf
from helpers import pipelines
from helpers.families import FAMILIES, bundled, family, last, picture
from helpers.pictures import photo
from helpers.taps import Look, taps
from sfumato.core.errors import SfumatoError
from sfumato.core.mixture import Branch
from sfumato.methods.asyrp import Asyrp, ShiftedBottleneck, branches
from sfumato.nn.shift import Fixed, Shift, shift_of

BARE = {"t_boost": 0.0}


def process(model: sf.Model, **given: Any) -> Any:
    return model.process("", **{"steps": 4, "stages": 1, "size": 32, **given})


@cache
def bottleneck(model: sf.Model) -> tuple[int, ...]:
    look = Look()
    last(process(model, steps=1) | look)
    return tuple(look.of("feature", "middle")[0][1].shape[1:])


def shift(model: sf.Model, file: Path, size: float = 1.0, seed: int = 0) -> Path:
    generator = torch.Generator().manual_seed(seed)
    save_file({"shift": size * torch.randn(bottleneck(model), generator=generator)}, file)
    return file


@pytest.mark.parametrize("kind", FAMILIES)
def test_no_shift_is_its_reconstruction(kind: str, tmp_path: Path) -> None:
    chosen = family(kind)
    file, none = shift(chosen, tmp_path / "a"), shift(chosen, tmp_path / "b", 0.0)
    plain = last(process(chosen) | Asyrp(file, photo(), strength=0, **BARE))
    x0 = picture(kind)
    bare: Any = process(chosen, size=None, solver="ddim") | sf.CFG(1.0)
    with torch.no_grad():
        *_, found = bare.steps(bare.invert(x0[None])[-1])
    none_of_it = process(chosen, size=None) | Asyrp(file, x0, strength=0, **BARE)
    assert torch.equal(last(none_of_it), found.x)
    late = Asyrp(file, photo(), t_edit=0.9, t0=0.8, **BARE)
    early = Asyrp(file, photo(), strength=0, t0=0.8, **BARE)
    assert torch.equal(last(process(chosen) | late), last(process(chosen) | early))
    through = last(process(chosen) | Asyrp(none, photo(), **BARE))
    assert torch.allclose(through, plain, atol=2e-5 * float(plain.abs().max()) + 2e-4)
    edited = last(process(chosen) | Asyrp(file, photo(), **BARE))
    assert not torch.allclose(edited, plain, atol=1e-2)


def test_one_step_is_the_papers(tmp_path: Path) -> None:
    """x_s = alpha_s P(x | h + shift) + sigma_s eps(x | h), and both halves where symmetric."""
    chosen = bundled()
    file = shift(chosen, tmp_path / "a", 2.0)
    denoiser, schedule = chosen.denoiser, chosen.denoiser.schedule
    cond = denoiser.prepare(chosen.encode([""]))
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        plain = denoiser(x, 0.8, cond)
        moved = ShiftedBottleneck([Fixed(_tensor(file))])
        shifted = denoiser(x, 0.8, cond, taps=taps(moved, 1))
    ways = {
        False: schedule.alpha(0.4) * shifted.x0 + schedule.sigma(0.4) * plain.eps,
        True: schedule.alpha(0.4) * shifted.x0 + schedule.sigma(0.4) * shifted.eps,
    }
    for symmetric, expected in ways.items():
        empty = chosen.encode([""])
        made = sf.Process(denoiser, (3, 32, 32), empty, empty, spacing=(0.8, 0.4))
        made = made | Asyrp(file, symmetric=symmetric, **BARE)
        *_, step = made.steps(x)
        assert torch.allclose(step.x, expected, atol=2e-5)
    assert not torch.allclose(ways[False], ways[True], atol=1e-4)


def _tensor(file: Path) -> Tensor:
    from safetensors.torch import load_file

    return load_file(file)["shift"]


def test_swapped_halves_are_another_edit(tmp_path: Path) -> None:
    chosen = bundled()
    moved = ShiftedBottleneck([Fixed(_tensor(shift(chosen, tmp_path / "a", 5.0)))])
    plain, edited = branches(0.5)

    def other(t: float) -> Any:
        return "x0" if t >= 0.5 else "both"

    swapped = (Branch("positive", role=other), replace(edited, role="eps"))
    made = sf.Process(
        chosen.denoiser, (3, 32, 32), chosen.encode([""]), n_steps=4, solver="ddim", taps=(moved,)
    )
    right, wrong = (last(made.add(positives=pair)) for pair in ((plain, edited), swapped))
    assert not torch.allclose(right, wrong, atol=1e-2)


def test_several_add_up_over_the_root_of_their_number(tmp_path: Path) -> None:
    chosen = bundled()
    first, second = shift(chosen, tmp_path / "a"), shift(chosen, tmp_path / "b", seed=1)
    whole = tmp_path / "c"
    save_file({"shift": (_tensor(first) + _tensor(second)) / 2**0.5}, whole)
    both = Asyrp(first, also=(second,), **BARE)
    assert torch.allclose(
        last(process(chosen) | both), last(process(chosen) | Asyrp(whole, **BARE)), atol=1e-4
    )
    other = last(process(chosen) | Asyrp(second, also=(first,), **BARE))
    assert torch.allclose(last(process(chosen) | both), other, atol=1e-4)


def test_the_networks_shift_and_files_of_it(tmp_path: Path) -> None:
    f = Shift(8, 64)
    h = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(f(h, 0.7), torch.zeros_like(h))
    pipelines.scrambled(f, 1)
    read = shift_of(f.state_dict(), "file")
    assert torch.equal(read(h, 0.7), f(h, 0.7))
    assert not torch.allclose(f(h, 0.7), f(h, 0.3), atol=1e-2)
    steps = torch.arange(11.0).view(11, 1, 1, 1).expand(11, 8, 1, 1)
    timed = shift_of({"shift": steps}, "file")
    assert float(timed(h, 0.3).mean()) == 3
    with pytest.raises(SfumatoError, match="holds no shift of a bottleneck"):
        shift_of({"a": torch.zeros(3)}, "file")
    with pytest.raises(SfumatoError, match="file: is damaged"):
        shift_of({**f.state_dict(), "time.weight": torch.zeros(3, 3)}, "file")


def test_texture_comes_back_by_noise_at_last(tmp_path: Path) -> None:
    chosen = bundled()
    file = shift(chosen, tmp_path / "a")
    assert (process(chosen) | Asyrp(file)).resolved().solver == {
        "solver": "ddim", "eta": 1.0, "below": 0.2
    }  # fmt: skip
    made = [last(process(chosen, n=2, steps=8) | Asyrp(file, photo(), t_boost=b)) for b in (0, 0.5)]
    assert torch.equal(made[0][0], made[0][1])
    assert not torch.allclose(made[1][0], made[1][1], atol=1e-3)


def test_with_other_methods(tmp_path: Path) -> None:
    chosen = bundled()
    edit = Asyrp(shift(chosen, tmp_path / "a"), **BARE)
    plain = Asyrp(shift(chosen, tmp_path / "b"), strength=0, **BARE)
    for others in ([sf.SDEdit(photo(), t0=0.8)], [sf.CFG(2.0)], [sf.ILVR(photo())]):
        first, second = process(chosen) | edit, process(chosen)
        off = process(chosen) | plain
        for other in others:
            first, second, off = first | other, second | other, off | other
        assert torch.equal(last(first), last(second | edit))
        assert not torch.allclose(last(first), last(off), atol=1e-3)


def test_a_recipe_makes_it_again(tmp_path: Path) -> None:
    made = process(bundled()) | Asyrp(shift(bundled(), tmp_path / "my.safetensors"), photo())
    result = made.sample(seed=3)
    result.images[0].save(tmp_path / "made.png")
    assert sf.run(tmp_path / "made.png").images[0].tobytes() == result.images[0].tobytes()
    assert result.recipe.run["weights"]["asyrp.file"]["name"] == "my.safetensors"
    assert str(tmp_path) not in result.recipe.to_json()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    chosen, file = bundled(), shift(bundled(), tmp_path / "a")
    save_file({"shift": torch.zeros(3, 1, 1)}, tmp_path / "channels")
    save_file({"shift": torch.zeros(bottleneck(chosen)[0], 7, 7)}, tmp_path / "size")
    save_file({"shift": torch.full((3, 1, 1), torch.nan)}, tmp_path / "nan")
    (tmp_path / "text").write_text("no weights")
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: Asyrp(tmp_path / "none"), "no such file"),
        (lambda: Asyrp(tmp_path / "text"), "text: is no safetensors file"),
        (lambda: Asyrp(tmp_path / "nan"), "values that are not finite"),
        (lambda: Asyrp(tmp_path / "channels"), "a shift of 3 channels, this network's bottleneck"),
        (lambda: Asyrp(tmp_path / "size"), "a shift of 7x7, the bottleneck is"),
        (lambda: Asyrp(file, t0=0.5), "t0 does nothing without image"),
    ]
    for method, said in cases:
        with pytest.raises(SfumatoError, match=said):
            last(process(chosen) | method())
    with pytest.raises(SfumatoError, match="changes eps apart, which solver dpmpp-2m"):
        process(chosen, solver="dpmpp-2m") | Asyrp(file)
    with pytest.raises(SfumatoError, match="t_boost says how the solver draws noise"):
        process(chosen, solver="ddim") | Asyrp(file, t_boost=0.3)
    with pytest.raises(SfumatoError, match="the process already has one"):
        process(chosen) | sf.SDEdit(photo()) | Asyrp(file, photo())
    other = process(chosen).add(positives=(Branch("another"),))
    with pytest.raises(SfumatoError, match="mixes another"):
        last(other | Asyrp(file))
