"""Networks that see a picture as its Haar bands, and warm starts from networks of half the size."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.unets import TEXT, network
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import named, ratio
from sfumato.models.loaders.openai import load_unet
from sfumato.nn import lora
from sfumato.nn.bands import Bands, BandsConfig, haar, unhaar
from sfumato.nn.classifier import Classifier
from sfumato.nn.clip import CLIPConfig, NoisedCLIP
from sfumato.nn.unet import UNet, UNetConfig
from sfumato.train import warm_start

CONFIG = BandsConfig()
SMALL = replace(TEXT, inpaint=True)
BANDED = replace(SMALL, bands=CONFIG)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def words(rows: int) -> dict[str, Tensor]:
    tokens = torch.arange(6 * rows).view(rows, 6) % 20
    return {"tokens": tokens, "mask": torch.ones(rows, 6, dtype=torch.bool)}


def test_haar_is_orthonormal_and_has_its_inverse() -> None:
    x = randn(2, 3, 8, 12).double()
    assert torch.allclose(haar(x).square().sum(), x.square().sum(), atol=1e-12)
    assert torch.allclose(unhaar(haar(x)), x, atol=1e-12)
    matrix = haar(torch.eye(16, dtype=torch.float64).view(16, 1, 4, 4)).flatten(1)
    assert torch.allclose(matrix @ matrix.T, torch.eye(16, dtype=torch.float64), atol=1e-12)
    low = haar(x)[:, :3]
    assert torch.allclose(low, 2 * F.avg_pool2d(x, 2), atol=1e-12), "LL is twice the half picture"
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)  # rises to the right: LH alone answers
    assert haar(ramp)[0, 1].abs().min() > 0.9
    assert haar(ramp)[0, 2:].abs().max() == 0


def test_the_band_formula_against_its_derivation() -> None:
    """For Gaussian bands of deviation s the best o is 0, and v is then the posterior's mean."""
    schedule = named(CONFIG.schedule, CONFIG.table)
    bands = Bands(CONFIG, 3)
    x = randn(1, 3, 4, 4)
    for index in (0, 37, 500.25, 930.5, 999):
        t = (index + 1) / CONFIG.table
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        time = torch.tensor([float(index)])
        z = haar(x.double())
        best = []
        for s, part in zip([CONFIG.low, *[CONFIG.high] * 3], z.chunk(4, 1), strict=True):
            clean = alpha * s**2 / (alpha**2 * s**2 + sigma**2) * part  # E[X | z]
            best.append(alpha * (part - alpha * clean) / sigma - sigma * clean)
        v = bands.write(torch.zeros(1, 12, 2, 2), x, time)
        scale = max(1.0, float(v.abs().max()))
        assert (v.double() - unhaar(torch.cat(best, 1))).abs().max() < 2e-5 * scale, index


def test_the_target_in_units_of_the_bands_has_unit_size() -> None:
    """o of the true v: (c X - ... ) has deviation 1 where bands have the deviations they claim."""
    schedule, bands = named(CONFIG.schedule, CONFIG.table), Bands(CONFIG, 3)
    deviations = torch.tensor([CONFIG.low] * 3 + [CONFIG.high] * 9).view(1, 12, 1, 1)
    clean, noise = randn(64, 12, 16, 16) * deviations, randn(64, 12, 16, 16, seed=1)
    for index in (100, 500, 900):
        t = (index + 1) / CONFIG.table
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        x = unhaar(alpha * clean + sigma * noise)
        v = unhaar(alpha * noise - sigma * clean)
        time = torch.full((64,), float(index))
        zero, one = (bands.write(torch.full((64, 12, 16, 16), o), x, time) for o in (0.0, 1.0))
        o = haar(v - zero) / haar(one - zero)[:, :, :1, :1].mean((2, 3), keepdim=True)
        assert torch.allclose(o.std((0, 2, 3)), torch.ones(12), atol=0.03), index


def test_the_inner_time_is_that_of_the_smaller_picture() -> None:
    schedule, bands = named(CONFIG.schedule, CONFIG.table), Bands(CONFIG, 3)
    for index in (0.0, 3.5, 400.0, 777.25, 998.0):
        _, inner = bands.read(torch.zeros(1, 3, 2, 2), torch.tensor([index]))
        wanted = schedule.at(ratio(schedule, (index + 1) / 1000) / 2) * 1000 - 1
        assert float(inner) == pytest.approx(max(wanted, 0.0), abs=2e-3)


def test_a_warm_start_predicts_the_low_band_of_the_smaller_network() -> None:
    """Exactly: LL of the prediction is twice the half picture's, at the time t' of the half."""
    small = network(SMALL)
    wide = UNet(BANDED).eval().requires_grad_(False)
    assert warm_start.adopt(wide, small.state_dict()) == []
    schedule = named(CONFIG.schedule, CONFIG.table)
    x, known = randn(2, 3, 16, 8), (randn(2, 1, 16, 8, seed=2) > 0).float()
    picture = randn(2, 3, 16, 8, seed=3).clamp(-1, 1)
    large = Cond({**words(2), "inpaint_image": picture, "inpaint_mask": torch.ones_like(known)})
    half = Cond(
        {
            **words(2),
            "inpaint_image": F.avg_pool2d(picture, 2),
            "inpaint_mask": torch.ones(2, 1, 8, 4),
        }
    )
    for t in (0.031, 0.4, 0.75, 0.998):
        r = ratio(schedule, t)
        inner = schedule.at(r / 2)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        ours = Denoiser(wide, schedule, "v", learned_range=True)(x, t, large)
        state = F.avg_pool2d(x, 2) / math.hypot(alpha, sigma / 2)
        theirs = Denoiser(small, schedule, "v", learned_range=True)(state, inner, half)
        assert (F.avg_pool2d(ours.x0, 2) - theirs.x0).abs().max() < 1e-4, t
        assert ours.frac is not None
        assert theirs.frac is not None
        assert torch.allclose(F.avg_pool2d(ours.frac, 2), theirs.frac, atol=1e-4)


def test_a_warm_start_may_gain_attention_where_it_had_none() -> None:
    small = network(replace(SMALL, attention_resolutions=()))
    wide = UNet(BANDED)
    fresh = warm_start.adopt(wide, small.state_dict())
    assert fresh
    assert all(".qkv." in n or ".norm." in n or "proj" in n or "encoder_kv" in n for n in fresh)
    plain = UNet(replace(SMALL, attention_resolutions=(), bands=CONFIG))
    warm_start.adopt(plain, small.state_dict())
    x, time = randn(1, 3, 16, 16), torch.tensor([500.0])
    with torch.no_grad():
        a, b = (net.eval()(x, time, words(1)) for net in (wide, plain))
    assert torch.equal(a, b), "fresh attention adds nothing"


def test_unknown_pixels_of_inpainting_are_zeros_and_masks_reach_the_stem() -> None:
    net = network(BANDED)
    x, time, picture = randn(1, 3, 16, 16), torch.tensor([400.0]), randn(1, 3, 16, 16, seed=4)
    nothing = {"inpaint_image": picture, "inpaint_mask": torch.zeros(1, 1, 16, 16)}
    some = {"inpaint_image": picture, "inpaint_mask": torch.ones(1, 1, 16, 16)}
    plain = net(x, time, words(1))
    assert torch.equal(plain, net(x, time, {**words(1), **nothing}))
    assert not torch.allclose(plain, net(x, time, {**words(1), **some}))


def test_activations_adapters_copies_and_half_precision_reach_through() -> None:
    net = network(BANDED)
    x, time = randn(2, 3, 16, 16), torch.tensor([10.0, 800.0])
    out = net(x, time, words(2))
    assert out.shape == (2, 6, 16, 16)
    assert next(tuple(h.shape[1:]) for _, h in net.encoding(x, time, words(2))) == (32, 8, 8)
    assert torch.equal(copy.deepcopy(net)(x, time, words(2)), out)
    assert UNetConfig(**asdict(BANDED)) == BANDED, "a card keeps it"
    assert BANDED.multiple == 2 * SMALL.multiple
    loaded, _ = load_unet(net.state_dict(), BANDED)
    assert torch.equal(loaded(x, time, words(2)), out)
    half = copy.deepcopy(net).cast(torch.bfloat16)(x, time, words(2))
    assert half.dtype == torch.float32
    assert (half - out).abs().mean() < 0.02 * out.abs().mean()
    lora.attach(net, 2, 2.0, ("attention",))
    assert torch.allclose(net(x, time, words(2)), out, atol=1e-5), "a fresh adapter changes nothing"


def test_sizes_are_refused_in_one_line() -> None:
    with pytest.raises(SfumatoError, match="size 14x16: this network needs multiples of 4"):
        network(BANDED)(randn(1, 3, 16, 14), torch.zeros(1), words(1))


def test_an_upsampler_of_bands_starts_from_one_of_half_the_size() -> None:
    """32 -> 64 px becomes 32 -> 128 px: the same low_res, enlarged to the bands' size."""
    config = replace(SMALL, inpaint=False, low_res=True, xf_width=0)
    small, wide = network(config), UNet(replace(config, bands=CONFIG)).eval()
    assert warm_start.adopt(wide, small.state_dict()) == []
    low, x, index = randn(1, 3, 4, 4, seed=5), randn(1, 3, 16, 16), torch.tensor([600.0])
    bands = Bands(CONFIG, 3)
    c_z, inner = bands.read(x, index)
    with torch.no_grad():
        theirs = small(c_z[:, :3], inner, {"low_res": low})
        zeros = torch.zeros(1, 12, 8, 8)
        zeros[:, :3] = theirs[:, :3]
        ours = wide(x, index, {"low_res": low})
    assert torch.allclose(ours[:, :3], bands.write(zeros, x, index), atol=1e-5)


def test_a_clip_and_a_classifier_see_the_smaller_network_s_state() -> None:
    """Taken over, they answer for x_t as they answered for its half at t'."""
    shape = CLIPConfig(
        embedding=16, head_width=16, size=8, patch=4, image_width=32, image_layers=1,
        text_width=16, text_layers=1, context=6, vocabulary=20,
    )  # fmt: skip
    torch.manual_seed(0)
    small = NoisedCLIP(shape).eval()
    wide = NoisedCLIP(replace(shape, size=16, bands=CONFIG)).eval()
    assert warm_start.adopt(wide, small.state_dict()) == []
    plain = replace(SMALL, inpaint=False, xf_width=0, out_channels=5)
    judge = Classifier(plain, 8).eval()
    larger = Classifier(replace(plain, bands=CONFIG), 16).eval()
    assert warm_start.adopt(larger, judge.state_dict()) == []
    x, schedule = randn(1, 3, 16, 16), named(CONFIG.schedule, CONFIG.table)
    for index in (200, 700):
        t = (index + 1) / CONFIG.table
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        half = F.avg_pool2d(x, 2) / math.hypot(alpha, sigma / 2)
        inner = torch.tensor([schedule.at(sigma / alpha / 2) * CONFIG.table - 1])
        time = torch.tensor([float(index)])
        with torch.no_grad():
            assert torch.allclose(wide.image(x, time), small.image(half, inner.round()), atol=1e-5)
            assert torch.allclose(larger(x, time), judge(half, inner), atol=1e-4)
    assert CLIPConfig(**asdict(wide.config)) == wide.config, "a card keeps it"


def test_a_banded_network_is_one_graph_for_the_compiler() -> None:
    net = network(BANDED)
    x, time, cond = randn(1, 3, 16, 16), torch.tensor([500.0]), net.prepare(words(1))
    graph = torch.compile(net, fullgraph=True, backend="eager")
    assert torch.allclose(graph(x, time, cond), net(x, time, cond), atol=1e-5)
