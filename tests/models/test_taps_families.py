"""Taps mean the same in every family: places, their numbers, and that looking changes nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import pipelines
from helpers.taps import Look, LookBeside, LookDeep, run
from sfumato.core.context import Call
from sfumato.core.denoiser import Traits
from sfumato.core.errors import SfumatoError
from sfumato.core.spaces import IDENTITY
from sfumato.core.taps import Site, Tap
from sfumato.models.latents import Conditional, Unconditional
from sfumato.nn.bands import BandsConfig
from sfumato.nn.unet import UNet, UNetConfig
from sfumato.nn.vdiffusion import VDiffusion, VDiffusionConfig

OURS = UNetConfig(
    model_channels=32, num_res_blocks=1, attention_resolutions=(2,), channel_mult=(1, 2),
    num_head_channels=16, text_ctx=6, xf_width=32, xf_layers=1, xf_heads=2, n_vocab=20,
    xf_final_ln=True,
)  # fmt: skip
DEEP = (1, 1, 1, 1, 1, 1, 1)

Case = tuple[Any, Tensor, Tensor, dict[str, Tensor]]


def shaped(channels: int, side: int, rows: int = 2) -> tuple[Tensor, Tensor]:
    x = torch.randn(rows, channels, side, side, generator=torch.Generator().manual_seed(1))
    return x, torch.full((rows,), 300.0)


def ours(config: UNetConfig, side: int = 8) -> Case:
    net = pipelines.scrambled(UNet(config), 0).requires_grad_(False)
    words = {"tokens": torch.arange(12).view(2, 6)} if config.xf_width else {}
    return net, *shaped(3, side), net.prepare(words)


def v_diffusion() -> Case:
    config = VDiffusionConfig(width=8, multipliers=DEEP, head_width=8, embedding=0)
    net = pipelines.scrambled(VDiffusion(config), 0).requires_grad_(False)
    x, _ = shaped(3, 64)
    return net, x, torch.full((2,), 0.4), {}


def conditional(**given: Any) -> Case:
    net = pipelines.unet(32, **given).requires_grad_(False)
    context = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(2))
    return Conditional(net, Traits(), IDENTITY), *shaped(4, 8), {"context": context}


def simple() -> Case:
    """IF's and GLIDE's blocks in diffusers: text beside pixels under one softmax."""
    return conditional(
        down_block_types=("SimpleCrossAttnDownBlock2D", "ResnetDownsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("ResnetUpsampleBlock2D", "SimpleCrossAttnUpBlock2D"),
    )


def unconditional() -> Case:
    from diffusers import UNet2DModel

    net = UNet2DModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    net = pipelines.scrambled(net, 0).requires_grad_(False)
    return Unconditional(net, Traits()), *shaped(3, 8), {}


CASES = {
    "text": lambda: ours(OURS),
    "plain": lambda: ours(replace(OURS, xf_width=0)),
    "bands": lambda: ours(replace(OURS, bands=BandsConfig()), 16),
    "v-diffusion": v_diffusion,
    "conditional": conditional,
    "simple": simple,
    "unconditional": unconditional,
}


@cache
def case(name: str) -> Case:
    return CASES[name]()


@pytest.fixture(params=CASES)
def network(request: pytest.FixtureRequest) -> Case:
    return case(request.param)


def test_looking_changes_nothing(network: Case) -> None:
    """Maps and what attentions give: not a bit. Written out: but rounding."""
    bare = run(*network)
    assert torch.equal(run(*network, Look()), bare)
    assert torch.equal(run(*network, LookBeside()), bare)
    assert torch.allclose(run(*network, LookDeep()), bare, atol=2e-5 * float(bare.abs().max()))
    assert torch.equal(run(*network), bare)


def test_every_place_is_told_and_reached_once(network: Case) -> None:
    look = LookDeep()
    run(*network, look)
    reached = [
        replace(site, size=(0, 0), text=0)
        for hook, site, _ in look.seen
        if hook in ("feature", "probs")
    ]
    key = [(site.kind, site.index) for site in reached]
    assert len(set(key)) == len(key)
    assert set(key) == {(site.kind, site.index) for site in network[0].sites}
    for kind in ("self", "cross", "joint", "down", "middle", "up"):
        indices = [index for name, index in key if name == kind]
        assert indices == list(range(len(indices)))  # in the order in which they run


def test_places_mean_the_same(network: Case) -> None:
    net, x, _, cond = network
    look = LookDeep()
    run(*network, look)
    down = {site.index: (site, h) for site, h in look.of("feature", "down")}
    for site, h in look.of("feature", "skip"):
        assert torch.equal(h, down[site.index][1])  # what the way up reads of that block
    (middle,) = look.of("feature", "middle")
    assert middle[0].size == min(site.size for site, _ in look.of("feature"))
    half = 2 if getattr(net, "bands", None) else 1
    *_, last = look.of("feature", "up")
    assert last[0].size == (x.shape[2] // half, x.shape[3] // half)
    for site, h in look.of("feature"):
        assert site.size == tuple(h.shape[-2:])
    width = next((v.shape[-2] for name, v in cond.items() if name != "text_emb"), 0)
    for site, p in look.of("probs"):
        pixels = site.size[0] * site.size[1]
        assert site.text == (0 if site.kind == "self" else width)
        keys = {"self": pixels, "cross": width, "joint": pixels + width}[site.kind]
        assert p.shape[2:] == (pixels, keys)
        assert torch.allclose(p.sum(-1), torch.ones(()), atol=1e-5)


class Push(Tap):
    """Adds to one place."""

    name = "push"

    def __init__(self, kind: str, by: float = 0.5, hook: str = "feature") -> None:
        self.kind, self.by, self.hook = kind, by, hook

    def at(self, site: Site) -> bool:
        return site.kind == self.kind and site.index == 0

    def feature(self, h: Tensor, site: Site, call: Call) -> Tensor:
        return h + self.by


@pytest.mark.parametrize("kind", ["down", "middle", "up"])
def test_a_change_of_a_map_is_read_on(network: Case, kind: str) -> None:
    bare = run(*network)
    assert not torch.allclose(run(*network, Push(kind)), bare, atol=1e-4)
    assert torch.equal(run(*network, Push(kind, 0.0)), bare)


class Spread(Tap):
    """Everywhere the mean of all values: attention without a choice."""

    name = "spread"

    def probs(self, p: Tensor, site: Site, call: Call) -> Tensor:
        return torch.full_like(p, 1 / p.shape[-1])


def test_changed_probabilities_reach_the_output(network: Case) -> None:
    assert not torch.allclose(run(*network, Spread()), run(*network), atol=1e-4)


def test_attention_masks_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A masked column gets nothing, written out as in the fused kernel."""
    net, x, time, cond = case("conditional")
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[:, 4:] = False
    inner = net.net.forward
    monkeypatch.setattr(
        net.net,
        "forward",
        lambda *args, **given: inner(*args, encoder_attention_mask=mask, **given),
    )
    bare, look = run(net, x, time, cond), LookDeep()
    assert torch.allclose(run(net, x, time, cond, look), bare, atol=1e-4)
    for _, p in look.of("probs", "cross"):
        assert float(p[..., 4:].max()) < 1e-6


def test_threads_see_their_own_taps() -> None:
    net, x, time, cond = case("conditional")
    wanted = {by: run(net, x, time, cond, Push("middle", by)) for by in (0.0, 0.5, 1.0)}
    bare = run(net, x, time, cond)

    def one(k: int) -> bool:
        by = (None, 0.0, 0.5, 1.0)[k % 4]
        found = run(net, x, time, cond, None if by is None else Push("middle", by))
        return torch.equal(found, bare if by is None else wanted[by])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, range(24)))


def test_an_attention_of_another_kind_is_refused() -> None:
    from diffusers.models.attention_processor import AttnProcessor

    net, x, time, cond = conditional()
    net.net.set_attn_processor(AttnProcessor())
    run(net, x, time, cond, Look())
    with pytest.raises(SfumatoError, match="AttnProcessor does not attend by torch's kernel"):
        run(net, x, time, cond, LookDeep())


def test_blocks_of_another_kind_are_refused() -> None:
    from diffusers import UNet2DModel

    net = UNet2DModel(
        sample_size=16, block_out_channels=(32, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("SkipDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "SkipUpBlock2D"),
    )  # fmt: skip
    with pytest.raises(SfumatoError, match="UNet2DModel: its SkipDownBlock2D"):
        _ = Unconditional(net, Traits()).sites
