"""Weights in oneDNN's layout: the same results, one copy, and a layer for all that reads layers."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import sfumato as sf
from helpers import pipelines
from sfumato.models import cost
from sfumato.models.adapters import overlay
from sfumato.nn import packed
from sfumato.nn.packed import Packed, PackedLinear, pack, unpack

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "3x3": lambda: nn.Conv2d(24, 40, 3, padding=1),
    "strided": lambda: nn.Conv2d(24, 40, 3, stride=2, padding=1, bias=False),
    "1x1": lambda: nn.Conv2d(24, 40, 1),
    "linear": lambda: nn.Linear(24, 77),
    "linear without bias": lambda: nn.Linear(24, 77, bias=False),
}


def pair(kind: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Packed]:
    """A frozen layer, and the same one packed."""
    torch.manual_seed(0)
    plain = LAYERS[kind]().to(dtype).requires_grad_(False)
    other = nn.Sequential(copy.deepcopy(plain))
    pack(other)
    (layer,) = other
    assert isinstance(layer, Packed)
    return plain, layer


def read(kind: str, rows: int = 3, side: int = 8) -> Tensor:
    shape = (rows, 5, 24) if kind.startswith("linear") else (rows, 24, side, side + 1)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def is_dense(layer: Packed) -> bool:
    return layer.held._now[0] is None


def net() -> nn.Sequential:
    torch.manual_seed(0)
    convs = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 8, 1))
    layers = nn.Sequential(convs, nn.GroupNorm(2, 8), nn.Flatten(), nn.Linear(8 * 36, 7))
    return layers.requires_grad_(False)


X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_gives_what_the_plain_one_gives(
    kind: str, dtype: torch.dtype, bound: float
) -> None:
    plain, layer = pair(kind, dtype)
    for side in (8, 5, 8):  # the layout goes by the size
        x = read(kind, side=side).to(dtype)
        ours, theirs = layer(x), plain(x)
        assert not is_dense(layer)
        assert ours.dtype == theirs.dtype
        assert ours.stride() == theirs.stride()
        assert float((ours - theirs).abs().max()) <= bound * float(theirs.abs().max())
    given = plain.weight
    assert isinstance(given, Tensor)
    assert torch.equal(layer.weight, given)


@pytest.mark.parametrize("kind", LAYERS)
def test_no_bit_depends_on_the_rows_or_on_the_calls_before(kind: str) -> None:
    _, layer = pair(kind)
    x = read(kind, rows=4)
    whole = layer(x)
    layer(read(kind, side=5))
    layer(x.clone().requires_grad_())
    assert torch.equal(layer(x), whole)
    assert torch.equal(torch.cat([layer(row) for row in x.split(1)]), whole)
    assert layer(x[:0]).shape == whole[:0].shape
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(threads, 2))
        assert torch.equal(layer(x), whole)
    finally:
        torch.set_num_threads(threads)


def test_one_row_has_the_bits_of_several() -> None:
    """As wide as a network's time is embedded; a single row is added up in another order there."""
    layers = nn.Sequential(nn.Linear(1280, 1280)).requires_grad_(False)
    pack(layers)
    x = torch.randn(3, 1280)
    rows = [layers(row) for row in (x[0], x[1:2], x[None, 2:])]
    assert [row.shape for row in rows] == [(1280,), (1, 1280), (1, 1, 1280)]
    assert torch.equal(torch.cat([row.view(1, -1) for row in rows]), layers(x))


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_are_the_plain_layers(kind: str) -> None:
    plain, layer = pair(kind)
    layer(read(kind))
    grads = []
    for one in (plain, layer):
        x = read(kind).requires_grad_()
        grads.append(torch.autograd.grad(one(x).square().sum(), x)[0])
    assert torch.equal(*grads)
    weight = layer.weight.requires_grad_()  # a call of a weight that learns is not packed
    (grad,) = torch.autograd.grad(layer(read(kind)).square().sum(), weight)
    assert float(grad.abs().max()) > 0


def test_maps_lie_as_they_came() -> None:
    _, layer = pair("3x3")
    x = read("3x3")
    assert layer(x).is_contiguous()
    last = x.contiguous(memory_format=torch.channels_last)
    assert layer(last).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(layer(last), layer(x))


def test_a_weight_is_dense_or_packed_and_what_is_changed_in_it_counts() -> None:
    _, layer = pair("linear")
    x = read("linear")
    layer(x)
    assert not is_dense(layer)
    layer.weight.mul_(2)
    assert is_dense(layer)
    twice = layer(x)
    assert not is_dense(layer)
    layer.weight = nn.Parameter(layer.weight / 2, requires_grad=False)
    bias = layer.bias
    assert isinstance(bias, Tensor)
    assert torch.allclose(twice - bias, 2 * (layer(x) - bias), atol=1e-5)


def test_other_layers_stay() -> None:
    class Own(nn.Linear):
        pass

    layers = [
        Own(8, 8),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.Conv2d(8, 8, 5),
        nn.Conv2d(8, 8, 3, padding="same"),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular"),
        nn.Linear(8, 8, dtype=torch.float16),
        nn.Linear(8, 8, device="meta"),
    ]
    holder = nn.Sequential(*layers).requires_grad_(False)
    holder.append(nn.Linear(8, 8))  # learns
    kinds = [type(layer) for layer in holder]
    pack(holder)
    assert [type(layer) for layer in holder] == kinds


def test_states_are_those_of_the_plain_network_and_load() -> None:
    plain, ours = net(), net()
    pack(ours)
    before = ours(X)
    state, wanted = ours.state_dict(), plain.state_dict()
    assert list(state) == list(wanted)
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    ours(X)
    ours.load_state_dict({name: value * 0 for name, value in wanted.items()})
    assert not ours(X).any()
    ours.load_state_dict(wanted, assign=True)
    assert torch.equal(ours(X), before)
    with pytest.raises(RuntimeError, match=r"Missing key.* \"3.weight\""):
        ours.load_state_dict({name: v for name, v in wanted.items() if name != "3.weight"})


def test_a_network_is_plain_again_to_be_trained() -> None:
    plain, ours = net(), net()
    pack(ours)
    ours(X)
    unpack(ours)
    assert [type(layer) for layer in ours.modules()] == [type(layer) for layer in plain.modules()]
    assert [name for name, _ in ours.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert torch.equal(ours(X), plain(X))


def test_weights_are_counted_once() -> None:
    plain, ours = net(), net()
    shared = nn.Linear(8, 8).requires_grad_(False)
    twin = nn.Linear(8, 8).requires_grad_(False)
    twin.weight = shared.weight
    for one in (plain, ours):
        one.extend(copy.deepcopy(nn.ModuleList([shared, twin])))
    count = sum(weight.numel() for weight in plain.parameters())
    pack(ours)
    assert cost.weight_bytes(ours) == cost.weight_bytes(plain) == 4 * count
    with torch.no_grad():
        ours[:4](X)
    assert sum(weight.numel() for weight in packed.weights(ours)) == count
    assert cost.weight_bytes(ours) == 4 * count


def test_copies_are_apart_and_an_overlay_shares() -> None:
    ours = net()
    pack(ours)
    before = ours(X)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(other(X), before)
        other[3].weight.zero_()
        assert torch.equal(ours(X), before)
    changed = overlay(ours, {"3.weight": torch.zeros(7, 8 * 36)})
    assert changed[0][0].held is ours[0][0].held
    assert isinstance(changed[3], PackedLinear)
    assert torch.equal(changed(X), changed[3].bias.expand(2, 7))
    assert torch.equal(ours(X), before)


def test_other_types_and_devices_are_taken() -> None:
    ours = net()
    pack(ours)
    before = ours(X)
    half = copy.deepcopy(ours).to(torch.bfloat16)
    assert half(X.bfloat16()).dtype == torch.bfloat16
    assert torch.allclose(half(X.bfloat16()).float(), before, atol=0.05)
    ours(X)
    there = cost.meta_copy(ours)
    assert there(X.to("meta")).shape == before.shape
    assert not is_dense(ours[3]), "the network may be at work meanwhile"
    assert ours.to("meta")(X.to("meta")).shape == before.shape


def test_autocast_is_the_plain_layers() -> None:
    plain, layer = pair("3x3")
    layer(read("3x3"))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(read("3x3")), plain(read("3x3")))


@pytest.mark.parametrize("kind", ["sd1", "sd3"])
def test_networks_of_folders_are_packed_and_keep_one_copy(tmp_path: Path, kind: str) -> None:
    (pipelines.stable if kind == "sd1" else pipelines.flow)(tmp_path, kind)
    model = sf.load(str(tmp_path / "pipeline"), dtype="float32")
    network = model.denoiser.network
    size = cost.weight_bytes(network)
    process = model.process("a red cat", steps=2)
    first = process.sample(0)
    layers = [m for m in network.net.modules() if isinstance(m, Packed)]  # type: ignore[attr-defined]
    assert layers
    assert any(not is_dense(layer) for layer in layers)
    assert cost.weight_bytes(network) == size
    rest = [value for value in network.net.parameters() if value.ndim == 1]  # type: ignore[attr-defined]
    assert all(value.untyped_storage().nbytes() == value.nbytes for value in rest), "no file's"
    assert process.sample(0).images[0].tobytes() == first.images[0].tobytes()
