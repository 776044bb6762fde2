"""v-diffusion's networks as models: files, times, prompts; tiny ones with random weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import sfumato as sf
from helpers import pipelines
from sfumato.core.errors import SfumatoError
from sfumato.core.mixture import Branch
from sfumato.models.loaders import vdiffusion
from sfumato.nn.vdiffusion import VDiffusion

SOLVERS = ("ddim", "pie", "prk", "plms2", "plms-prk", "iplms")


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    """The released layouts at base width 16."""
    with pytest.MonkeyPatch.context() as patch:
        for name, preset in vdiffusion.PRESETS.items():
            config = replace(preset.config, width=16, head_width=32)
            patch.setitem(vdiffusion.PRESETS, name, replace(preset, config=config))
        yield


def weights(name: str) -> dict[str, Tensor]:
    torch.manual_seed(1)
    net = VDiffusion(vdiffusion.PRESETS[name].config)
    return {
        key: value.detach().clone(memory_format=torch.contiguous_format)
        for key, value in net.state_dict().items()
    }


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both files, as their author publishes them."""
    folder = tmp_path_factory.mktemp("released")
    for name in ("cc12m_1_cfg", "wikiart_256"):
        torch.save(weights(name), folder / f"{name}.pth")
    return folder


def alone(released: Path, name: str, folder: Path) -> Path:
    """The folder with a link to one file of the released ones."""
    folder.mkdir(exist_ok=True)
    (folder / name).symlink_to(released / name)
    return folder


@pytest.fixture(scope="module")
def art(released: Path) -> sf.Model:
    return sf.load(str(released / "wikiart_256.pth"), dtype="float32")


def clip(folder: Path, patch: int = 16) -> Path:
    """A CLIP that has ViT-B/16's patches and width of embeddings, and nothing else of it."""
    from transformers import CLIPConfig, CLIPModel

    size = 256 * 2 + 4 + 2
    common = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    common |= {"num_attention_heads": 2}
    text = {**common, "vocab_size": size, "max_position_embeddings": 16, "bos_token_id": size - 2}
    text |= {"eos_token_id": size - 1, "pad_token_id": size - 1}
    vision = {**common, "patch_size": patch, "image_size": 32}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=512)
    pipelines.scrambled(CLIPModel(config), 6).save_pretrained(folder)
    pipelines.tokenizer(folder).save_pretrained(folder)
    return folder


def pixels(process: Any, seed: int = 3) -> Tensor:
    with torch.no_grad():
        *_, last = process.steps(seed=seed)
    return last.x


def test_a_network_is_known_by_its_keys_whatever_its_file_is_called(
    released: Path, art: sf.Model, tmp_path: Path
) -> None:
    file = tmp_path / "a painter.safetensors"
    save_file(weights("wikiart_256"), file)
    found = sf.load(str(file), dtype="float32")
    assert found.card.native == (256, 256)
    assert found.card.multiple == 64
    assert found.card.defaults.methods == ()
    made = [pixels(m.process(size=64, steps=3)) for m in (found, art)]
    assert made[0].shape == (1, 3, 64, 64)
    assert torch.equal(*made)


def test_defaults_are_those_of_the_authors_samplers(released: Path, tmp_path: Path) -> None:
    model = sf.load(str(released / "cc12m_1_cfg.pth"), dtype="float32")
    process = model.process().resolved()
    assert (process.n_steps, process.solver, process.spacing) == (50, "iplms", "v-spliced")
    assert [method.scale for method in process.methods] == [3.0]  # type: ignore[attr-defined]
    plain = tmp_path / "cc12m_1.pth"  # trained without an empty prompt: nothing to guide away from
    plain.symlink_to(released / "cc12m_1_cfg.pth")
    assert sf.load(str(plain), dtype="float32").card.defaults.methods == ()


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_is_finite_where_the_network_is_not(art: sf.Model, solver: str) -> None:
    """pie and prk end with an evaluation at t = 0, where the network alone says NaN."""
    time = torch.zeros(1)
    assert art.denoiser.network(torch.randn(1, 3, 64, 64), time, {}).isnan().all()
    process = art.process(size=64, steps=5, solver=solver)
    made = [pixels(process, seed) for seed in (3, 3, 4)]
    assert made[0].isfinite().all()
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_times_are_t_itself_inside_the_networks_range(art: sf.Model, released: Path) -> None:
    asked = [art.denoiser.time(t) for t in (0.0, 0.3, 1.0)]
    assert asked == [0.006366145797073841, 0.3, 0.9957106709480286]
    general = sf.load(str(released / "cc12m_1_cfg.pth"), dtype="float32")
    assert [general.denoiser.time(t) for t in (0.0, 0.3, 1.0)] == [0.0, 0.3, 1.0]


def test_a_picture_of_any_size_runs_and_both_networks_mix(art: sf.Model, released: Path) -> None:
    """Padded to the multiple and cropped; the art network is asked beside the general one."""
    from PIL import Image

    model = sf.load(str(released / "cc12m_1_cfg.pth"), dtype="float32")
    photo = Image.new("RGB", (70, 50), (200, 90, 30))
    result = (model.process(steps=3) | sf.SDEdit(photo, t0=0.4) | sf.CFG(1)).sample()
    assert result.images[0].size == (70, 50)
    mixed = model.process(steps=2, size=64, solver="ddim") | sf.CFG(1)
    branches = [
        Branch("general", weight=0.5),
        Branch("art", "", 0.5, art.denoiser, source=art),
    ]
    assert pixels(mixed.add(positives=branches)).isfinite().all()


def test_prompts_are_clips_own_vectors_and_the_empty_one_is_zero(
    released: Path, tmp_path: Path
) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    folder = alone(released, "cc12m_1_cfg.pth", tmp_path / "model")
    clip(folder / "clip")
    model = sf.load(str(folder), dtype="float32")
    cond = model.encode(["red cat", "", "  "])["clip_embed"]
    network = CLIPModel.from_pretrained(folder / "clip")
    given = CLIPTokenizer.from_pretrained(folder / "clip")(["red cat"], return_tensors="pt")
    with torch.no_grad():
        found = network.text_projection(network.text_model(**given).pooler_output)
    torch.testing.assert_close(cond[:1], found)
    assert not torch.allclose(found.norm(), torch.ones(()), atol=0.1), "the check sees the length"
    assert not cond[1:].any()
    assert model.text.model.clip() is model.clip()  # type: ignore[union-attr]
    made = [pixels(model.process(prompt, size=64, steps=2)) for prompt in ("red cat", "dog", "")]
    assert made[0].isfinite().all()
    assert not torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    with pytest.raises(SfumatoError, match="22 tokens, this model reads 16; shorten it by 6"):
        model.encode(["x " * 20])


def test_what_a_prompt_lacks_is_one_line(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = alone(released, "cc12m_1_cfg.pth", tmp_path / "model")
    model = sf.load(str(folder), dtype="float32")
    assert model.clip() is None
    assert pixels(model.process(size=64, steps=2)).isfinite().all(), "no prompt, no CLIP"
    line = r"^prompt: .* CLIP ViT-B/16, .* models pull openai/clip-vit-base-patch16`, or .* clip/"
    with pytest.raises(SfumatoError, match=line):
        model.process("red cat", size=64, steps=2).sample()
    clip(folder / "clip", patch=8)
    with pytest.raises(SfumatoError, match="patches of 8 px; CLIP ViT-B/16 is needed"):
        sf.load(str(folder), dtype="float32").encode(["red cat"])
    snapshot = tmp_path / "hub" / "models--openai--clip-vit-base-patch16" / "snapshots" / "main"
    snapshot.parent.mkdir(parents=True)
    (folder / "clip").rename(tmp_path / "other")
    clip(snapshot)
    assert sf.load(str(folder), dtype="float32").encode(["red cat"])["clip_embed"].any()


def test_a_clean_clip_guides_the_network_without_text(released: Path, tmp_path: Path) -> None:
    folder = alone(released, "wikiart_256.pth", tmp_path / "model")
    clip(folder / "clip")
    model = sf.load(str(folder), dtype="float32")
    guide = sf.CLIPGuidance(1.0, prompt="red cat", noised=False)
    plain = model.process(size=64, steps=3)
    made = [pixels(process) for process in (plain, plain | guide)]
    assert made[1].isfinite().all()
    assert not torch.equal(*made)
    with pytest.raises(SfumatoError, match="reads no text"):
        model.process("red cat")


def test_what_does_not_fit_is_one_line(
    released: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = weights("wikiart_256")
    file = tmp_path / "cut.safetensors"
    save_file({k: v for k, v in whole.items() if not k.startswith("net.8.")}, file)
    with pytest.raises(SfumatoError, match=r"cut.* 332 tensors matched, missing: net\.8\."):
        sf.load(str(file))
    save_file({**whole, "net.0.main.0.weight": torch.zeros(8, 3, 3, 3)}, file)
    with pytest.raises(SfumatoError, match=r"net\.0\.main\.0\.weight is \(8, 3, 3, 3\), not \(8"):
        sf.load(str(file))
    save_file({**whole, "step": torch.zeros(1)}, file)
    with caplog.at_level(logging.WARNING, "sfumato"):
        sf.load(str(file))
    assert "unexpected: step" in caplog.text
    with pytest.raises(SfumatoError, match=r"holds cc12m_1_cfg\.pth, wikiart_256\.pth; give one"):
        sf.load(str(released))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SfumatoError, match=r"no card\.json"):
        sf.load(str(tmp_path / "empty"))


def test_what_the_network_cannot_read_is_one_line(art: sf.Model, released: Path) -> None:
    general = sf.load(str(released / "cc12m_1_cfg.pth"), dtype="float32").denoiser.network
    x, time = torch.zeros(1, 3, 64, 64), torch.full((1,), 0.5)
    with pytest.raises(SfumatoError, match="this network needs clip_embed"):
        general(x, time, {})
    with pytest.raises(SfumatoError, match=r"clip_embed is \(1, 768\), .* reads \(B, 512"):
        general(x, time, {"clip_embed": torch.zeros(1, 768)})
    with pytest.raises(SfumatoError, match="takes no clip_embed; it takes none"):
        art.denoiser.network(x, time, {"clip_embed": torch.zeros(1, 512)})
    with pytest.raises(SfumatoError, match="size 96x64: this network needs multiples of 64"):
        art.denoiser.network(torch.zeros(1, 3, 64, 96), time, {})
    with pytest.raises(SfumatoError, match="input has 4 channels, this network reads 3"):
        art.denoiser.network(torch.zeros(1, 4, 64, 64), time, {})


def test_time_stays_in_float32_in_a_half_precision_network(released: Path) -> None:
    """In bfloat16 the phases alone would be off by more than the whole network may be here."""
    file = str(released / "cc12m_1_cfg.pth")
    full, half = (sf.load(file, dtype=d).denoiser.network for d in ("float32", "bfloat16"))
    assert half.dtype == torch.bfloat16  # type: ignore[attr-defined]
    time, embed = torch.tensor([0.123456, 0.9]), torch.randn(2, 512)
    torch.testing.assert_close(half.mapped(time, embed), full.mapped(time, embed))  # type: ignore[attr-defined]
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        a, b = (net(x, time, {"clip_embed": embed}) for net in (full, half))
    assert b.dtype == torch.float32
    assert float((a - b).norm() / a.norm()) < 0.03


def test_gradients_reach_the_state_through_both_networks(art: sf.Model, released: Path) -> None:
    """What guides need: the derivative along a direction is that of finite differences."""
    general = sf.load(str(released / "cc12m_1_cfg.pth"), dtype="float32").denoiser.network
    time = torch.full((1,), 0.4)
    generator = torch.Generator().manual_seed(5)
    x, way, probe = (torch.randn(1, 3, 64, 64, generator=generator) for _ in range(3))
    for net, cond in ((general, {"clip_embed": torch.ones(1, 512)}), (art.denoiser.network, {})):
        leaf = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad((net(leaf, time, cond) * probe).sum(), leaf)
        h = 1e-2
        with torch.no_grad():
            ends = [(net(x + sign * h * way, time, cond) * probe).sum() for sign in (1, -1)]
        slope = float(ends[0] - ends[1]) / (2 * h)
        assert float((grad * way).sum()) == pytest.approx(slope, rel=0.05)


def test_a_picture_is_made_again_from_its_recipe(released: Path, tmp_path: Path) -> None:
    model = sf.load(str(released / "wikiart_256.pth"), dtype="float32")
    made = model.process(size=64, steps=2).sample(seed=5).images[0]
    made.save(tmp_path / "made.png")
    assert sf.run(tmp_path / "made.png").images[0].tobytes() == made.tobytes()
