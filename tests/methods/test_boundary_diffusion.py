"""BoundaryDiffusion: distances, where the push falls, what stays as it is, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import sfumato as sf
from helpers.families import FAMILIES, bundled, family
from helpers.pictures import photo
from helpers.taps import Look, moment
from sfumato.core.errors import SfumatoError
from sfumato.core.taps import Site
from sfumato.methods.boundary_diffusion import BoundaryDiffusion
from sfumato.methods.inner.planes import Plane, PushedBottleneck, plane_of


def process(model: sf.Model, **given: Any) -> Any:
    return model.process("", **{"steps": 5, "stages": 1, "size": 32, **given})


class LookLast(Look):
    """At the bottleneck as other taps leave it."""

    rank = 1

    @property
    def middles(self) -> list[Tensor]:
        return [h for _, h in self.of("feature", "middle")]


def walk(made: Any) -> list[Tensor]:
    with torch.no_grad():
        return [step.x for step in made.steps(seed=5)]


def planes(model: sf.Model, file: Path) -> Path:
    """Random ones for 32 px, found at level 0.6."""
    look = LookLast()
    states = walk(process(model, steps=1) | look)
    shapes = {"x": states[0].shape[1:], "h": look.middles[0].shape[1:]}
    generator = torch.Generator().manual_seed(1)
    tensors = {"t": torch.tensor(0.6)}
    for space, shape in shapes.items():
        tensors[f"{space}.normal"] = torch.randn(shape, generator=generator)
        tensors[f"{space}.offset"] = torch.tensor(0.7)
        tensors[f"{space}.spread"] = torch.tensor(3.0)
    save_file(tensors, file)
    return file


def test_a_push_brings_the_signed_distance_to_what_is_asked() -> None:
    v = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    given = {
        "x.normal": torch.randn(2, 4, 4), "x.offset": torch.tensor(0.4),
        "x.spread": torch.tensor(2.0),
    }  # fmt: skip
    plane = plane_of(given, "x", 1.5, "file")
    assert float(plane.normal.norm()) == pytest.approx(1, abs=1e-6)
    moved = plane.pushed(v, "state")
    for after, before in zip(moved, v, strict=True):
        assert float((after * plane.normal).sum()) + plane.offset == pytest.approx(3.0, abs=1e-4)
        along = (after - before).flatten() @ plane.normal.flatten()
        assert float(along.abs()) == pytest.approx(float((after - before).norm()), rel=1e-4)
    assert torch.allclose(plane.pushed(moved, "state"), moved, atol=1e-5), "idempotent"
    now = float((v[:1] * plane.normal).sum()) + plane.offset
    still = Plane(plane.normal, plane.offset, now)
    assert torch.allclose(still.pushed(v[:1], "state"), v[:1], atol=1e-5)


@pytest.mark.parametrize("kind", FAMILIES)
def test_it_pushes_once_at_its_level(kind: str, tmp_path: Path) -> None:
    chosen = family(kind)
    file = planes(chosen, tmp_path / "planes")
    bare = process(chosen, solver="ddim") | sf.CFG(1.0)
    looks = [LookLast() for _ in range(4)]
    edits: list[Any] = [
        None,
        BoundaryDiffusion(file, distance=4),
        BoundaryDiffusion(file, distance=4, spaces="x"),
        BoundaryDiffusion(file, distance=4, spaces="h"),
    ]
    paths = [
        walk((bare | look) if edit is None else (process(chosen) | edit | look))
        for look, edit in zip(looks, edits, strict=True)
    ]
    times = process(chosen, solver="ddim").times
    first = next(k for k, t in enumerate(times) if t <= 0.6)
    plain, both, state, middle = paths
    for path in paths:
        assert all(torch.equal(a, b) for a, b in zip(plain[:first], path[:first], strict=True))
    plane = plane_of(load_file(file), "x", 4, "file")
    for path in (both, state):
        now = float((path[first] * plane.normal).sum()) + plane.offset
        assert now == pytest.approx(12, abs=1e-3)
    assert torch.equal(middle[first], plain[first])
    assert not torch.allclose(middle[first + 1], plain[first + 1], atol=1e-5)
    bottleneck = plane_of(load_file(file), "h", 4, "file")
    h = looks[3].middles[first]
    assert float((h[:1] * bottleneck.normal).sum()) + bottleneck.offset == pytest.approx(
        12, abs=1e-3
    )
    calls = [len(look.middles) for look in looks]
    assert calls == [5] * 4


def test_a_picture_begins_at_its_level_and_is_found_again_without_a_push(tmp_path: Path) -> None:
    chosen = bundled()
    file = planes(chosen, tmp_path / "planes")
    edit = BoundaryDiffusion(file, photo(), distance=0)
    made = process(chosen, steps=20) | edit
    assert made.times[0] == pytest.approx(0.6)
    states = load_file(file)
    loop = made.begin()
    x = loop.first()
    plane = plane_of(states, "x", 0, "file")
    now = float((x * plane.normal).sum()) + plane.offset
    states["x.spread"] = torch.tensor(abs(now))
    save_file(states, tmp_path / "still")
    still = BoundaryDiffusion(
        tmp_path / "still", photo(), distance=1 if now > 0 else -1, spaces="x"
    )
    path = walk(process(chosen, steps=20) | still)
    assert torch.allclose(path[0], x, atol=1e-4)
    back = path[-1]
    assert float((back - loop.run.known).abs().mean()) < 0.05


def test_later_bottlenecks_may_come_a_step_late() -> None:
    tap = PushedBottleneck(None, 0, lag=True)
    site, call = Site("middle", 0, ""), moment()
    seen = [torch.full((1, 1, 1, 1), float(k)) for k in range(3)]
    out = [tap.feature(h, site, replace(call, i=k, memo=call.memo)) for k, h in enumerate(seen)]
    assert [float(h) for h in out] == [0, 0, 1]


def test_with_other_methods_and_a_recipe(tmp_path: Path) -> None:
    chosen = bundled()
    edit = BoundaryDiffusion(planes(chosen, tmp_path / "my-planes.safetensors"), distance=4)
    for other in (sf.SDEdit(photo(), t0=0.8), sf.CFG(2.0), sf.ILVR(photo())):
        with_it = walk(process(chosen) | edit | other)[-1]
        assert torch.equal(walk(process(chosen) | other | edit)[-1], with_it)
        assert not torch.allclose(with_it, walk(process(chosen) | other)[-1], atol=1e-3)
    result = (process(chosen) | edit).sample(seed=3)
    result.images[0].save(tmp_path / "made.png")
    assert sf.run(tmp_path / "made.png").images[0].tobytes() == result.images[0].tobytes()
    assert set(result.recipe.run["weights"]) == {"boundary_diffusion.file"}


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    chosen = bundled()
    file = planes(chosen, tmp_path / "planes")
    good = load_file(file)
    save_file({k: v for k, v in good.items() if k != "t"}, tmp_path / "level")
    save_file({k: v for k, v in good.items() if "h." not in k}, tmp_path / "half")
    save_file({**good, "x.normal": torch.zeros(3, 32, 32)}, tmp_path / "zero")
    cases: list[tuple[Any, str]] = [
        (BoundaryDiffusion(tmp_path / "none"), "no such file"),
        (BoundaryDiffusion(tmp_path / "level"), "does not say its level; give t_m"),
        (BoundaryDiffusion(tmp_path / "half"), "holds no plane of h"),
        (BoundaryDiffusion(tmp_path / "zero"), "the normal of x has no length"),
        (BoundaryDiffusion(file, t_m=0.01), "no step begins at t_m 0.01"),
    ]
    for method, said in cases:
        with pytest.raises(SfumatoError, match=said):
            walk(process(chosen) | method)
    with pytest.raises(SfumatoError, match=r"a state of \(3, 32, 32\), this run's is"):
        walk(process(chosen, size=(64, 32)) | BoundaryDiffusion(file, spaces="x"))
    with pytest.raises(SfumatoError, match="caption does nothing without image"):
        BoundaryDiffusion(file, caption="a")
