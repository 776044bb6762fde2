"""Fast: what is kept is exact where nothing changes, its cost is planned, its picture replayed."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sfumato as sf
from helpers import pipelines
from sfumato.core.denoiser import Cond, Traits
from sfumato.core.plan import asked
from sfumato.core.reuse import Reuse
from sfumato.models import cost, deep_blocks
from sfumato.models.latents import Unconditional

STEPS = 6


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, sf.Model]:
    root = tmp_path_factory.mktemp("fast")
    for kind in ("sd1", "sdxl"):
        pipelines.stable(root / kind, kind)
    pipelines.flow(root / "sd3", "sd3")
    folders = {"sd1": "sd1/pipeline", "sdxl": "sdxl/pipeline", "sd3": "sd3/pipeline"}
    own = {"emoji": sf.load("emoji", dtype="float32")}
    return own | {k: sf.load(str(root / f), dtype="float32") for k, f in folders.items()}


def process(model: sf.Model, n: int = 1) -> Any:
    made = model.process("a red cat", n=n, steps=STEPS, stages=1, solver="ddim")
    return made | sf.CFG(4)


def pixels(result: Any) -> np.ndarray[Any, Any]:
    return np.stack([np.asarray(image.convert("RGB"), dtype=float) for image in result.images])


@pytest.mark.parametrize("name", ["emoji", "sd1", "sdxl"])
def test_a_network_gives_the_same_with_its_own_deep_maps(
    models: dict[str, sf.Model], name: str
) -> None:
    loop = process(models[name], n=2).begin(0)
    term = loop.steering.mixture.terms[0]
    network, x = term.denoiser.network, torch.randn(2, *loop.run.shape)
    time = torch.full((2,), 400.0)
    assert isinstance(term.cond, Cond)
    with torch.no_grad():
        exact = network(x, time, term.cond)
        noted, deep = network.reusing(x, time, term.cond, None)
        again, _ = network.reusing(x, time, term.cond, deep)
        other, _ = network.reusing(x, time, term.cond, torch.zeros_like(deep))
    assert torch.equal(noted, exact)
    assert torch.equal(again, exact)
    assert not torch.allclose(other, exact, atol=1e-3)


TRANSFORMERS = ("sd3", "flux-dev", "flux2", "sana", "qwen", "zimage", "pixart", "hunyuan")


def deepened(kind: str, folder: Path) -> sf.Model:
    """A pipeline with two more blocks than the tiny ones of the other tests."""
    if kind == "pixart":
        pipelines.pixart(folder)
    elif kind == "hunyuan":
        pipelines.hunyuan(folder, told_sizes=False)
    else:
        pipelines.flow(folder, kind)
    model = sf.load(str(folder / "pipeline"), dtype="float32")
    net: Any = model.denoiser.network
    for blocks in deep_blocks.chains(net.net).values():
        if kind != "hunyuan":  # whose halves are joined by skips
            for _ in range(2):
                blocks.insert(1, copy.deepcopy(blocks[0]))
    return model


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_a_transformer_gives_the_same_with_what_its_deep_blocks_added(
    tmp_path: Path, kind: str
) -> None:
    model = deepened(kind, tmp_path)
    plain = model.process("a red cat", n=2, steps=6, solver="ddim", spacing="uniform")
    loop = plain.begin(0)
    term = loop.steering.mixture.terms[0]
    network, x = term.denoiser.network, torch.randn(2, *loop.run.shape)
    time = torch.full((2,), 0.4 if "sd3" not in kind else 400.0)
    assert isinstance(term.cond, Cond)
    with torch.no_grad():
        exact = network(x, time, term.cond)
        noted, deep = network.reusing(x, time, term.cond, None)
        again, _ = network.reusing(x, time, term.cond, deep)
        half, _ = network.reusing(x[1:], time[1:], term.cond.rows(2).map(lambda v: v[1:]), deep[1:])
        other, _ = network.reusing(x, time, term.cond, deep * 0)
    assert torch.equal(noted, exact)
    assert torch.allclose(again, exact, atol=1e-5 * float(exact.abs().max()))
    assert torch.allclose(half, exact[1:], atol=1e-4 * float(exact.abs().max()))
    assert not torch.allclose(other, exact, atol=1e-3 * float(exact.abs().max()))
    if kind not in ("sd3", "flux-dev", "hunyuan"):
        return  # what follows knows nothing of families
    fast = plain | sf.Fast("mid")
    result = fast.sample(0)
    assert result.recipe.run["evaluations"]["shallow"] == 3
    assert np.abs(pixels(result) - pixels(replace(fast, rows_max=1).sample(0))).max() <= 1
    share = cost.work(fast.resolved())
    assert share is None or 0.5 < share < 0.95


@pytest.mark.parametrize("name", ["emoji", "sd1", "sd3"])
def test_a_guidance_that_never_changes_is_exact(models: dict[str, sf.Model], name: str) -> None:
    """At scale 1 and a bit nothing is led away from far; a difference of 0 stays 0."""
    alike = models[name].process("", steps=STEPS, stages=1, solver="ddim") | sf.CFG(4)
    exact, kept = (alike.sample(1), (alike | sf.Fast(guidance=3, deep=1)).sample(1))
    assert np.abs(pixels(exact) - pixels(kept)).max() <= 1


@pytest.mark.parametrize(("name", "bound"), [("emoji", 20), ("sd1", 20), ("sdxl", 20)])
def test_levels_go_further_from_the_exact_picture(
    models: dict[str, sf.Model], name: str, bound: float
) -> None:
    exact = pixels(process(models[name]).sample(2))
    low, high = (
        ((pixels((process(models[name]) | sf.Fast(level)).sample(2)) - exact) ** 2).mean()
        for level in ("low", "high")
    )
    assert 0 < low < high
    assert 10 * np.log10(255**2 / low) > bound


def test_the_plan_counts_what_a_run_asks(models: dict[str, sf.Model]) -> None:
    plain, fast = process(models["sd1"], n=2), process(models["sd1"], n=2) | sf.Fast("mid")
    result = fast.sample(0)
    calls = asked(fast.plan())
    assert [call.rows for call in calls] == [4, 2] * (STEPS // 2)
    assert [call.shallow for call in calls] == [False, True] * (STEPS // 2)
    assert list(result.calls) == [fast.calls] == [plain.calls]
    assert result.recipe.run["evaluations"] == {"shallow": 3, "guidance kept": 3}
    share = cost.work(fast.resolved())
    assert share is not None
    assert 0.5 < share < 0.75
    assert cost.work(plain.resolved()) == 1
    seconds = [cost.seconds(p, models["sd1"].choice) for p in (fast, plain)]
    assert all(seconds)


def test_a_batch_in_pieces_keeps_the_same(models: dict[str, sf.Model]) -> None:
    fast = process(models["sd1"], n=3) | sf.Fast("mid")
    pieces = replace(fast, rows_max=2)
    assert np.abs(pixels(fast.sample(0)) - pixels(pieces.sample(0))).max() <= 1


def test_solvers_with_evaluations_between_keep_over_them(models: dict[str, sf.Model]) -> None:
    fast = models["sd1"].process("a red cat", steps=4, solver="heun") | sf.CFG(4) | sf.Fast("mid")
    result = fast.sample(0)
    assert list(result.calls) == [fast.calls]
    assert result.recipe.run["evaluations"]["shallow"] == sum(c.shallow for c in asked(fast.plan()))


def test_a_recipe_replays_it(models: dict[str, sf.Model], tmp_path: Path) -> None:
    fast = models["emoji"].process("a red apple", steps=4, stages=1) | sf.Fast("high", deep=2)
    result = fast.sample(5)
    assert {"method": "fast", "level": "high", "guidance": None, "deep": 2} in [
        dict(entry) for entry in result.recipe.methods
    ]
    (path,) = result.save(tmp_path / "a.png")
    assert sf.run(path).images[0].tobytes() == result.images[0].tobytes()


def test_inversions_stay_exact(models: dict[str, sf.Model]) -> None:
    plain = models["sd1"].process("a red cat", steps=4, solver="ddim") | sf.CFG(1)
    x = torch.randn(1, *plain.begin(0).run.shape)
    fast = replace(plain, reuse=Reuse(deep=2))
    assert torch.equal(plain.invert(x)[-1], fast.invert(x)[-1])


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda m: m["sd3"].process("a", steps=2) | sf.CFG(1) | sf.Fast(), "fast: saves nothing"),
        (lambda m: sf.Fast(deep=1, guidance=1), "fast: keeps nothing"),
        (lambda m: process(m["emoji"]).based(n_steps=1) | sf.Fast(), "saves nothing where one"),
        (lambda m: process(m["emoji"]) | sf.Fast("quick"), "level"),
        (lambda m: process(m["emoji"]) | sf.Fast() | sf.Fast("low"), "already has fast"),
        (
            lambda m: m["sd1"].process("a cat", n=2, steps=2)
            | sf.PromptToPrompt(("a blue cat",)) | sf.Fast(),
            "acts inside the network at every step",
        ),
    ],
)  # fmt: skip
def test_refusals_are_one_line(models: dict[str, sf.Model], made: Any, message: str) -> None:
    with pytest.raises(sf.SfumatoError, match=message) as raised:
        made(models).plan()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("widths", [(8, 16), (8, 16, 16)])
def test_networks_without_text_can_do_without_their_deep_blocks(widths: tuple[int, ...]) -> None:
    from diffusers import UNet2DModel

    count = len(widths) - 1
    net = pipelines.scrambled(
        UNet2DModel(
            sample_size=16, in_channels=3, out_channels=3, block_out_channels=widths,
            down_block_types=("DownBlock2D",) + ("AttnDownBlock2D",) * count,
            up_block_types=("AttnUpBlock2D",) * count + ("UpBlock2D",),
            layers_per_block=1, norm_num_groups=4, attention_head_dim=4,
        ),
        3,
    )  # fmt: skip
    network = Unconditional(net, Traits())
    x, time = torch.randn(2, 3, 16, 16), torch.tensor([3.0, 500.0])
    assert network.reusing is not None
    with torch.no_grad():
        noted, deep = network.reusing(x, time, {}, None)
        assert torch.equal(noted, network(x, time, {}))
        assert torch.equal(network.reusing(x, time, {}, deep)[0], noted)
        assert not torch.allclose(network.reusing(x, time, {}, deep + 1)[0], noted, atol=1e-3)
    one_level = UNet2DModel(
        sample_size=8, block_out_channels=(8,), down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",), norm_num_groups=4,
    )  # fmt: skip
    assert Unconditional(one_level, Traits()).reusing is None
