"""Weights in 8 and 4 bits: how near, how small, what is refused, and that recipes replay them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import sfumato as sf
from helpers import pipelines
from sfumato.models import cost, planning
from sfumato.nn.quantised import Quantised, quantise


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bits")
    pipelines.stable(root / "sd1", "sd1")
    pipelines.flow(root / "sd3", "sd3")
    return {name: root / name / "pipeline" for name in ("sd1", "sd3")}


LAYERS = {
    "linear": lambda: nn.Linear(100, 77),
    "convolution": lambda: nn.Conv2d(24, 40, 3, stride=2, padding=1),
    "grouped": lambda: nn.Conv2d(32, 64, 3, padding=1, groups=2, bias=False),
}


@pytest.mark.parametrize(("bits", "bound"), [(8, 0.012), (4, 0.13)])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_is_near_its_own_in_less_memory(kind: str, bits: int, bound: float) -> None:
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    x = torch.randn(3, 100) if kind == "linear" else torch.randn(3, layer.in_channels, 9, 8)
    kept = Quantised(layer, bits)
    assert kept.weight.shape == layer.weight.shape
    assert kept.weight.dtype == layer.weight.dtype
    exact = layer(x)
    assert float((kept(x) - exact).std() / exact.std()) < bound
    size = kept.codes.nbytes + kept.scales.nbytes
    assert size < layer.weight.nbytes * (0.3 if bits == 8 else 0.16)


def test_values_of_the_code_come_back_exactly() -> None:
    layer = nn.Linear(64, 64, bias=False)
    layer.weight.data = torch.randint(-127, 128, (64, 64)).float()
    layer.weight.data[:, 0] = 127
    assert torch.equal(Quantised(layer, 8).weight, layer.weight)
    zero = nn.Linear(64, 64)
    nn.init.zeros_(zero.weight)
    assert not Quantised(zero, 4).weight.any()


def test_small_layers_and_the_networks_own_children_stay() -> None:
    net = nn.Sequential(nn.Linear(100, 100), nn.Sequential(nn.Linear(100, 100), nn.Linear(9, 9)))
    quantise(net, 8)
    assert [type(m) for m in (net[0], *net[1])] == [nn.Linear, Quantised, nn.Linear]


@pytest.mark.parametrize("name", ["sd1", "sd3"])
def test_a_model_is_smaller_and_its_recipe_replays_it(
    folders: dict[str, Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders[name].parent)
    sizes, pictures = {}, {}
    for dtype in ("bfloat16", "int8", "int4"):
        model = sf.load("pipeline", dtype=dtype)
        process = model.process("a red cat", steps=2)
        sizes[dtype] = planning.plan_data(process, 0)["weights"]
        result = process.sample(0)
        pixels = torch.tensor(list(result.images[0].convert("RGB").tobytes())).float()
        pictures[dtype] = pixels
    assert (
        sizes["int4"]
        < sizes["int8"]
        < sizes["bfloat16"]
        == cost.weight_bytes(sf.load("pipeline", dtype="bfloat16"))
    )
    errors = [(pictures[k] - pictures["bfloat16"]).pow(2).mean() for k in ("int8", "int4")]
    assert 0 < errors[0] < errors[1]
    assert result.recipe.run["dtype"] == "int4"
    (path,) = result.save(tmp_path / "a.png")
    assert sf.run(path).images[0].tobytes() == result.images[0].tobytes()


def test_what_cannot_be_is_refused_in_a_line(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(sf.SfumatoError, match="dtype int8: keeps weights of folders"):
        sf.load("emoji", dtype="int8")
    from safetensors.torch import save_file

    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora"
    save_file(
        {f"{name}_A.weight": torch.zeros(2, 32), f"{name}_B.weight": torch.zeros(32, 2)},
        tmp_path / "style.safetensors",
    )
    with pytest.raises(sf.SfumatoError, match="weights in 4 bits take none"):
        sf.load(str(folders["sd1"]), dtype="int4").adapt(tmp_path / "style.safetensors")
