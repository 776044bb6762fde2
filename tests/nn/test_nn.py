"""The networks and the loader of the OpenAI family, beyond what the reference fixtures compare."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from conformance.networks import UNETS, config_of, part
from helpers.unets import TEXT, network
from sfumato.core.errors import SfumatoError
from sfumato.models.files.checkpoint import read_state_dict
from sfumato.models.loaders.openai import PRESETS, UNTOLD, infer, load_unet
from sfumato.nn.blocks import timestep_embedding
from sfumato.nn.group_norm import GroupNorm
from sfumato.nn.unet import UNet, UNetConfig

SMALL = replace(TEXT, num_classes=4, xf_layers=2, low_res=True)
PLAIN = replace(SMALL, num_classes=None, xf_width=0, low_res=False)
HINTS = {"num_head_channels": 16, "xf_heads": 2, "low_res": True}


def inputs(rows: int = 2) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    cond = {
        "tokens": torch.randint(20, (rows, 6), generator=generator),
        "mask": torch.arange(6).repeat(rows, 1) < torch.arange(rows)[:, None] + 2,
        "label": torch.arange(rows) % 4,
        "low_res": torch.rand(rows, 3, 4, 4, generator=generator) * 2 - 1,
    }
    return torch.randn(rows, 3, 8, 12, generator=generator), torch.linspace(3, 900.5, rows), cond


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_prepared_is_the_same_as_raw_bit_for_bit() -> None:
    net, (x, time, cond) = network(SMALL), inputs()
    prepared = net.prepare(cond)
    assert torch.equal(net(x, time, prepared), net(x, time, cond))
    assert "tokens" not in prepared
    assert prepared["text_k.0"].shape == (2, 4, 6, 16)
    again = net.prepare(prepared)
    assert all(again[name] is value for name, value in prepared.items())


def test_prepared_rows_can_be_cut_expanded_and_joined() -> None:
    net, (x, time, cond) = network(SMALL), inputs()
    rows = [net.prepare({name: v[i : i + 1] for name, v in cond.items()}) for i in range(2)]
    joined = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    whole = net(x, time, cond)
    assert torch.allclose(net(x, time, joined), whole, atol=1e-5)
    assert torch.allclose(net(x[:1], time[:1], rows[0]), whole[:1], atol=1e-5)
    first = {name: v.expand(2, *v.shape[1:]) for name, v in rows[0].items()}
    twice = net(x[:1].expand(2, -1, -1, -1), time[:1].expand(2), first)
    assert torch.allclose(twice, whole[:1].expand_as(twice), atol=1e-5)


def test_tokens_under_padding_do_not_matter_and_the_mask_does() -> None:
    net, (x, time, cond) = network(SMALL), inputs()
    out = net(x, time, cond)
    other = torch.where(cond["mask"], cond["tokens"], 7)
    assert torch.equal(net(x, time, cond | {"tokens": other}), out)
    assert (net(x, time, cond | {"mask": ~cond["mask"]}) - out).abs().max() > 1e-2


def test_half_precision_is_close_and_keeps_float32_where_it_must() -> None:
    x, time, cond = inputs()
    exact = network(SMALL)(x, time, cond)
    net = network(SMALL).cast(torch.bfloat16)
    prepared = net.prepare(cond)
    out = net(x, time, prepared)
    assert out.dtype == torch.float32
    assert prepared["text_k.0"].dtype == torch.bfloat16
    assert (out - exact).abs().mean() < 0.03 * exact.abs().mean()
    wide = ("norm", "ln", "in_layers.0", "out_layers.0", "time_embed", "emb_layers", "label_emb")
    wide += ("positional_embedding", "padding_embedding")
    for name, parameter in net.named_parameters():
        is_wide = name.startswith("out.") or any(part in name for part in wide)
        assert parameter.dtype == (torch.float32 if is_wide else torch.bfloat16), name


def gradient_of(net: UNet, x: Tensor, time: Tensor, cond: dict[str, Tensor]) -> Tensor:
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(net(x, time, cond).square().sum(), x)
    assert all(parameter.grad is None for parameter in net.parameters())
    return gradient


def test_gradients_reach_x_through_frozen_weights() -> None:
    net, (x, time, cond) = network(SMALL), inputs()
    gradient = gradient_of(net, x, time, cond)
    step = 1e-2 * gradient / gradient.norm()
    ahead, behind = (net(x + s, time, cond).square().sum() for s in (step, -step))
    assert abs((ahead - behind) / 2e-2 / gradient.norm() - 1) < 1e-2
    half = gradient_of(net.cast(torch.bfloat16), x, time, cond)
    assert (half - gradient).norm() < 0.1 * gradient.norm()


def test_training_reaches_every_weight() -> None:
    net, (x, time, cond) = network(SMALL).requires_grad_().train(), inputs()
    with torch.enable_grad():
        net(x, time, cond).square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_the_wrong_order_of_qkv_loads_and_is_far_off() -> None:
    x, time, cond = inputs()
    right = network(replace(SMALL, use_new_attention_order=True))
    wrong, _ = load_unet(right.state_dict(), SMALL)
    out = right(x, time, cond)
    assert (wrong(x, time, cond) - out).abs().max() > 0.02 * out.abs().max()


def test_frozen_convolutions_follow_their_weights_and_the_size() -> None:
    net, (x, time, cond) = network(SMALL), inputs()
    before = net(x, time, cond)
    weight = net.input_blocks[1][0].in_layers[2].weight
    weight.copy_(weight.flip(1))
    after = net(x, time, cond)
    assert (after - before).abs().max() > 1e-3
    fresh, _ = load_unet(net.state_dict(), SMALL)
    assert torch.equal(after, fresh(x, time, cond))
    larger = torch.randn(2, 3, 16, 16)
    assert torch.equal(net(larger, time, cond), fresh(larger, time, cond))
    assert torch.equal(copy.deepcopy(net)(x, time, cond), after)


def test_the_network_is_one_graph_for_the_compiler() -> None:
    net, (x, time, cond) = network(SMALL), inputs()
    prepared = net.prepare(cond)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(x, time, prepared), net(x, time, prepared), atol=1e-5)


@pytest.mark.parametrize("name", ["tokens", "mask", "label", "low_res"])
def test_a_missing_condition_is_named(name: str) -> None:
    x, time, cond = inputs()
    del cond[name]
    with pytest.raises(SfumatoError, match=f"needs {name}$"):
        network(SMALL)(x, time, cond)


def test_a_missing_condition_is_named_when_text_is_prepared() -> None:
    net, (x, time, cond) = network(SMALL), inputs()
    prepared = net.prepare(cond)
    del prepared["label"]
    with pytest.raises(SfumatoError, match=r"needs label$"):
        net(x, time, prepared)


@pytest.mark.parametrize("name", ["tokens", "label", "low_res", "depth"])
def test_an_unknown_condition_is_named(name: str) -> None:
    x, time, _ = inputs()
    with pytest.raises(SfumatoError, match=f"takes no {name}; it takes none"):
        network(PLAIN)(x, time, {name: torch.zeros(2)})


def test_wrong_sizes_are_refused() -> None:
    net, (x, time, cond) = network(SMALL), inputs()
    with pytest.raises(SfumatoError, match="7x8: this network needs multiples of 2"):
        net(x[..., :7], time, cond)
    with pytest.raises(SfumatoError, match="input has 5 channels, this network reads 6"):
        net(x[:, :2], time, cond)
    with pytest.raises(SfumatoError, match="tokens has 5 positions, this network reads 6"):
        net(x, time, cond | {"tokens": cond["tokens"][:, :5]})
    with pytest.raises(SfumatoError, match="width 40"):
        replace(SMALL, model_channels=40)


def test_timestep_embedding_takes_fractions_and_odd_widths() -> None:
    out = timestep_embedding(torch.tensor([0.0, 2.5]), 5)
    expected = torch.tensor([[1, 1, 0, 0, 0], [-0.8011436, 0.9996875, 0.5984721, 0.0249974, 0]])
    assert torch.allclose(out, expected, atol=1e-6)
    assert torch.equal(
        timestep_embedding(torch.tensor([7]), 8), timestep_embedding(torch.tensor([7.0]), 8)
    )


# configurations and weights


def folder() -> Path:
    beside = Path(__file__).parents[3] / "shared" / "fixtures"
    found = Path(os.environ.get("SFUMATO_FIXTURES", beside))
    if not (found / "adm").is_dir():
        pytest.skip("needs the reference fixtures: set SFUMATO_FIXTURES to their folder")
    return found


def test_shapes_and_hints_give_the_configuration_of_every_fixture() -> None:
    seen = 0
    for path in folder().rglob("*.json"):
        case = json.loads(path.read_text())
        if case["kind"] not in UNETS:
            continue
        expected = config_of(case)
        hints: dict[str, Any] = {name: getattr(expected, name) for name in UNTOLD}
        if not expected.xf_width:  # its other text fields mean nothing
            names = [f.name for f in fields(UNetConfig) if f.name.startswith(("xf_", "text_"))]
            hints |= {name: getattr(expected, name) for name in [*names, "n_vocab"]}
        state = part(load_file(path.with_suffix(".safetensors")), "sd.")
        assert infer(state, **hints) == expected, path.stem
        seen += 1
    assert seen


def test_presets_have_the_keys_and_shapes_of_the_released_checkpoints() -> None:
    listed: dict[str, Any] = {}
    for family in ("glide", "adm"):
        data = json.loads((folder() / family / "checkpoint_keys.json").read_text())
        for names, checkpoint in data["checkpoints"].items():
            listed |= dict.fromkeys(names.split(" / "), checkpoint)
    for name, preset in PRESETS.items():
        with torch.device("meta"):
            state = UNet(preset.config).state_dict()
        shapes = {key: list(tensor.shape) for key, tensor in state.items()}
        assert shapes == listed[name]["state_dict"], name
        assert sum(t.numel() for t in state.values()) == listed[name]["parameters"]
        schedule = listed[name]["config"]["noise_schedule"]
        assert preset.schedule == {"cosine": "squaredcos_cap_v2"}.get(schedule, schedule)
        assert replace(infer(state), dropout=preset.config.dropout) == preset.config


def test_infer_asks_for_what_shapes_do_not_tell() -> None:
    state = network(SMALL).state_dict()
    for name, hint in (
        ("num_head_channels", "num_head"),
        ("xf_heads", "xf_heads"),
        ("low_res", "low_res"),
    ):
        with pytest.raises(SfumatoError, match=hint):
            infer(state, **{k: v for k, v in HINTS.items() if k != name})
    assert infer(state, **HINTS) == SMALL
    with pytest.raises(SfumatoError, match=r"no GLIDE or ADM UNet"):
        infer({"conv.weight": torch.zeros(3)})


def test_load_reports_and_refuses_readably() -> None:
    net = network(SMALL)
    state = net.state_dict()
    loaded, report = load_unet(state | {"ema": torch.zeros(1)}, SMALL)
    assert str(report).endswith("tensors matched, none missing, unexpected: ema")
    assert torch.equal(loaded.out[2].weight, net.out[2].weight)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    with pytest.raises(
        SfumatoError, match=r"none of their \d+ keys \(model\.\S+, .* and \d+ more\)"
    ):
        load_unet({f"model.{name}": value for name, value in state.items()}, SMALL)
    with pytest.raises(SfumatoError, match=r"label_emb.weight is \(4, 128\) .*, \(9, 128\) here"):
        load_unet(state, SMALL, num_classes=9)
    with pytest.raises(SfumatoError, match=r"unknown; known are base, upsample"):
        load_unet(state, "64x64")
    del state["out.2.weight"]
    with pytest.raises(SfumatoError, match=r"missing: out.2.weight"):
        load_unet(state, SMALL)
    loaded, report = load_unet(state, SMALL, allow_missing=True)
    assert report.missing == ("out.2.weight",)
    assert not loaded.out[2].weight.any()


def test_load_casts_and_keeps_the_layout() -> None:
    x, time, cond = inputs()
    state = network(SMALL).state_dict()
    loaded, _ = load_unet(state, None, dtype=torch.bfloat16, **HINTS)
    assert loaded.dtype == torch.bfloat16
    assert loaded.out[2].weight.dtype == torch.float32
    weight = loaded.input_blocks[1][0].in_layers[2].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(loaded(x, time, cond), network(SMALL).cast(torch.bfloat16)(x, time, cond))


def test_files_of_every_format_are_read(tmp_path: Path) -> None:
    state = {name: value.contiguous() for name, value in network(SMALL).state_dict().items()}
    names = sorted(state)
    shards = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    save_file({name: state[name] for name in names[::2]}, shards[0])
    save_file({name: state[name] for name in names[1::2]}, shards[1])
    torch.save(state, tmp_path / "c.pt")
    torch.save({"state_dict": state, "step": 3}, tmp_path / "d.ckpt")
    torch.save(state, tmp_path / "e.pt", _use_new_zipfile_serialization=False)
    for given in (shards, tmp_path / "c.pt", str(tmp_path / "d.ckpt"), tmp_path / "e.pt"):
        read = read_state_dict(given)
        assert read.keys() == state.keys()
        assert all(torch.equal(read[name], state[name]) for name in names)
    with pytest.raises(SfumatoError, match=r"a\.safetensors: .* is in another shard too"):
        read_state_dict([shards[0], shards[0]])


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.ckpt"])
@pytest.mark.parametrize("damage", ["cut", "empty", "page"])
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    state = {"x": torch.randn(1000)}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(
        {"cut": whole[: len(whole) // 2], "empty": b"", "page": b"<html>" * 99}[damage]
    )
    with pytest.raises(SfumatoError) as caught:
        read_state_dict(path)
    assert str(caught.value).startswith(f"{path}: cannot be read as weights: damaged")
    assert "\n" not in str(caught.value)


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="no such file"):
        read_state_dict(tmp_path / "absent.pt")
    torch.save({"step": 3}, tmp_path / "empty.pt")
    with pytest.raises(SfumatoError, match="holds no tensors"):
        read_state_dict(tmp_path / "empty.pt")
    torch.save({"net": network(PLAIN)}, tmp_path / "objects.pt")
    with pytest.raises(SfumatoError, match="save its state dict as safetensors"):
        read_state_dict(tmp_path / "objects.pt")


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("channels", [32, 96])
@pytest.mark.parametrize("deviations", [0.0, 0.9, 1.1, 10.0, 1000.0])
def test_group_norm_is_exact_however_far_the_mean_is(
    layout: torch.memory_format, channels: int, deviations: float
) -> None:
    """float32 against float64, one channel a group and three; the gradient too."""
    generator = torch.Generator().manual_seed(channels)
    x = torch.randn(2, channels, 16, 16, generator=generator) + deviations
    x = x.contiguous(memory_format=layout).requires_grad_()
    norm = GroupNorm(channels)
    up = torch.randn(x.shape, generator=generator)
    exact = x.detach().double().contiguous().requires_grad_()
    with torch.no_grad():
        sampled = norm(x)
    with torch.enable_grad():
        wanted = torch.nn.functional.group_norm(exact, norm.num_groups, eps=norm.eps)
        (slope,) = torch.autograd.grad((wanted * up.double()).sum(), exact)
        found = norm(x)
        (grad,) = torch.autograd.grad((found * up).sum(), x)
    # what a float32 keeps of x itself: half an ulp of its size
    limit = 4e-6 + 2e-7 * deviations
    for got, want in ((sampled, wanted), (found, wanted), (grad, slope)):
        assert float((got.double() - want).abs().max()) <= limit


@pytest.mark.parametrize("side", [8, 32, 48])
@torch.enable_grad()
def test_training_in_half_precision_has_the_exact_gradient_of_its_norm(side: int) -> None:
    """bfloat16 against float64, several chunks of pictures; to the input, weights and biases."""
    generator = torch.Generator().manual_seed(side)
    x = torch.randn(5, 96 * 4, side, side, generator=generator).bfloat16() * 2 + 0.5
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    norm = GroupNorm(96 * 4).train()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter, 1.0, 0.3, generator)
    up = torch.randn(x.shape, generator=generator).bfloat16()
    exact = [v.detach().double().requires_grad_() for v in (x, norm.weight, norm.bias)]
    wanted = torch.nn.functional.group_norm(exact[0], norm.num_groups, *exact[1:])
    slopes = torch.autograd.grad((wanted * up.double()).sum(), exact)
    found = norm(x)
    gradients = torch.autograd.grad((found * up).sum(), [x, norm.weight, norm.bias])
    assert found.is_contiguous(memory_format=torch.channels_last)
    for got, want in zip((found, *gradients), (wanted, *slopes), strict=True):
        assert float((got.double() - want).norm() / want.norm()) <= 5e-3
