"""Mapped files: what was copied out of them leaves memory, and no byte is lost by that."""

import copy
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from helpers import pipelines
from sfumato.models.devices import choose
from sfumato.models.files import pipeline
from sfumato.nn.packed import pack
from sfumato.nn.pages import cast, let_go

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/pagemap").exists(), reason=f"{sys.platform} does not tell its pages"
)
SIDE = 1024


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file({name: torch.randn(SIDE, SIDE) for name in ("a", "b")}, path)
    return path


def resident(file: Path) -> int:
    """Bytes of a file that are in this process's memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if not first.endswith(":"):
            inside = line.endswith(str(file))
        elif inside and first == "Rss:":
            total += int(line.split()[1]) * 1024
    return total


def test_a_weight_leaves_and_comes_back(file: Path) -> None:
    weights = load_file(file)
    kept = {name: weight.clone() for name, weight in weights.items()}
    assert resident(file) > 2 * SIDE**2 * 4 * 0.9
    let_go(weights["a"])
    assert resident(file) < SIDE**2 * 4 * 1.1
    assert all(torch.equal(weights[name], kept[name]) for name in kept)


def test_what_was_written_stays(file: Path) -> None:
    weight = load_file(file)["a"]
    changed = weight.mul_(2).clone()
    let_go(weight)
    assert torch.equal(weight, changed)
    weight = load_file(file)["b"]
    weight[SIDE // 2, 0] = 7  # one page alone
    changed = weight.clone()
    let_go(weight)
    assert torch.equal(weight, changed)


@pytest.mark.parametrize("weight", [torch.randn(SIDE, SIDE), torch.ones(3), torch.ones(0)])
def test_memory_of_no_file_stays(weight: Tensor) -> None:
    kept = weight.clone()
    let_go(weight)
    assert torch.equal(weight, kept)


def test_what_is_packed_leaves_its_file(file: Path) -> None:
    layer = nn.Linear(SIDE, SIDE).requires_grad_(False)
    weights = load_file(file)  # all of them are held, so that the file stays mapped
    layer.weight = nn.Parameter(weights["a"], requires_grad=False)
    x, net = torch.randn(2, SIDE), nn.Sequential(layer)
    with torch.no_grad():
        plain = net(x)
        assert resident(file) > SIDE**2 * 4 * 0.9
        pack(net)
        packed = net(x)
    assert resident(file) < SIDE**2 * 4 * 0.1
    torch.testing.assert_close(packed, plain, rtol=1e-4, atol=1e-3)


def test_what_is_cast_leaves_its_file(file: Path) -> None:
    """Layers that share a weight still do, and the values are those of net.to()."""
    weights = load_file(file)
    net = nn.Sequential(*(nn.Linear(SIDE, SIDE, bias=False) for _ in range(3)))
    for layer, name in zip(net, ("a", "b", "a"), strict=True):
        layer.weight = nn.Parameter(weights[name], requires_grad=False)
    net[2].weight = net[0].weight
    net.register_buffer("scale", torch.ones(3))
    plain = copy.deepcopy(net).to(torch.bfloat16)
    cast(net, torch.bfloat16)  # the file's weights are still held
    assert resident(file) < SIDE**2 * 4 * 0.1
    assert net[2].weight is net[0].weight
    for name, value in plain.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_network_is_read_as_diffusers_reads_it(tmp_path: Path, dtype: torch.dtype) -> None:
    from diffusers import UNet2DConditionModel

    net = pipelines.unet(32)
    net.to(dtype).save_pretrained(tmp_path / "unet")
    theirs: Any = UNet2DConditionModel.from_pretrained(
        tmp_path / "unet", torch_dtype=torch.bfloat16
    )
    choice = choose("cpu", "bfloat16", "none")
    ours = pipeline.network(tmp_path / "unet", "UNet2DConditionModel", choice, sha256())
    assert ours.dtype == torch.bfloat16
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
