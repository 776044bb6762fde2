"""Single files that lack or have something, and parts that do not fit: one clear line each."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import sfumato as sf
from helpers import pipelines
from helpers.singles import close, single_file
from sfumato.core.errors import SfumatoError
from sfumato.models.files.schedulers import Scheduler
from sfumato.models.loaders import noise_tables

NET, VAE = "model.diffusion_model.", "first_stage_model."


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for kind in ("sd1", "sd2", "sdxl"):
        folder = tmp_path_factory.mktemp(kind)
        made[kind] = single_file(pipelines.single(folder, kind), kind, folder / "768.safetensors")
    return made


def changed(file: Path, weights: dict[str, Tensor]) -> str:
    """A file of these weights beside the first, whose tokenizer it shares."""
    path = file.with_name("768-changed.safetensors")
    save_file(weights, path)
    return str(path)


@pytest.mark.parametrize(
    ("kind", "lost", "said"),
    [
        ("sd1", f"{VAE}post_quant_conv.weight", "post_quant_conv.weight is missing"),
        ("sd1", f"{VAE}encoder.", "its encoder is missing"),
        ("sd1", f"{VAE}encoder.down.0.", r"down\.0\..* is missing"),
        ("sd1", f"{VAE}decoder.", "is missing"),
        ("sd1", f"{NET}out.2.weight", "out.2.weight is missing"),
        ("sd1", f"{NET}input_blocks.1.", "is missing"),
        ("sd1", f"{NET}middle_block.", "weights are missing"),
        ("sd1", f"{NET}output_blocks.", "weights are missing"),
        ("sd1", "cond_stage_model.transformer.text_model.encoder.", "is missing"),
        ("sd1", "cond_stage_model.transformer.text_model.embeddings.", "is missing"),
        ("sd1", "cond_stage_model.transformer.text_model.encoder.layers.0.", "is missing"),
        ("sd2", "cond_stage_model.model.transformer.", "is missing"),
        ("sdxl", "conditioner.embedders.0.", "only a part"),
        ("sdxl", "conditioner.embedders.1.", "only a part"),
        ("sdxl", "conditioner.embedders.1.model.text_projection", "text_projection"),
        ("sdxl", f"{NET}label_emb.", "reads no sizes"),
    ],
)
def test_what_is_lost_is_named(files: dict[str, Path], kind: str, lost: str, said: str) -> None:
    weights = load_file(files[kind])
    kept = {name: value for name, value in weights.items() if not name.startswith(lost)}
    assert len(kept) < len(weights)
    with pytest.raises(SfumatoError, match=said):
        sf.load(changed(files[kind], kept))


TEXT = "cond_stage_model.transformer.text_model."
XL_TEXT = "conditioner.embedders.1.model."
SIZES = [
    ("sd1", f"{NET}input_blocks.0.0.weight"),
    ("sd1", f"{NET}input_blocks.1.0.in_layers.2.weight"),
    ("sd1", f"{NET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"),
    ("sd1", f"{NET}input_blocks.1.1.proj_in.weight"),
    ("sd1", f"{NET}out.2.weight"),
    ("sd1", f"{VAE}post_quant_conv.weight"),
    ("sd1", f"{VAE}encoder.conv_in.weight"),
    ("sd1", f"{VAE}decoder.conv_out.weight"),
    ("sd1", f"{VAE}encoder.down.0.block.0.conv1.weight"),
    ("sd1", f"{VAE}decoder.mid.attn_1.q.weight"),
    ("sd1", f"{TEXT}embeddings.token_embedding.weight"),
    ("sd1", f"{TEXT}embeddings.position_embedding.weight"),
    ("sd1", f"{TEXT}encoder.layers.0.mlp.fc1.weight"),
    ("sdxl", f"{NET}label_emb.0.0.weight"),
    ("sdxl", f"{XL_TEXT}text_projection"),
    ("sdxl", f"{XL_TEXT}token_embedding.weight"),
    ("sdxl", f"{XL_TEXT}transformer.resblocks.0.attn.in_proj_weight"),
    ("sdxl", f"{XL_TEXT}transformer.resblocks.0.mlp.c_fc.weight"),
]


@pytest.mark.parametrize(("kind", "name"), SIZES)
def test_weights_that_tell_no_sizes(files: dict[str, Path], kind: str, name: str) -> None:
    weights = load_file(files[kind])
    whole = weights[name]
    for wrong in (whole.sum(), whole.flatten(), whole[None], whole[:0]):
        weights[name] = wrong.contiguous()
        with pytest.raises(SfumatoError) as caught:
            sf.load(changed(files[kind], weights))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [1, 2])
def test_a_text_encoder_without_room_for_a_word(files: dict[str, Path], count: int) -> None:
    weights = load_file(files["sd1"])
    name = f"{TEXT}embeddings.position_embedding.weight"
    weights[name] = weights[name][:count].contiguous()
    with pytest.raises(SfumatoError, match=f"has {count} positions, too few"):
        sf.load(changed(files["sd1"], weights))


@pytest.mark.parametrize(
    ("added", "said"),
    [
        (f"{NET}output_blocks.99.0.in_layers.0.weight", "have no place"),
        (f"{VAE}decoder.up.0.block.9.conv1.weight", "have no place"),
        ("edm_mean", "is marked edm_mean"),
    ],
)
def test_blocks_and_marks_that_no_network_has(
    files: dict[str, Path], added: str, said: str
) -> None:
    with pytest.raises(SfumatoError, match=said):
        sf.load(changed(files["sd1"], {**load_file(files["sd1"]), added: torch.ones(4)}))


def test_an_autoencoder_of_other_pictures(files: dict[str, Path]) -> None:
    weights = load_file(files["sd1"])
    name = f"{VAE}encoder.conv_in.weight"
    weights[name] = weights[name][:, :1].contiguous()
    with pytest.raises(SfumatoError, match="only RGB"):
        sf.load(changed(files["sd1"], weights))


def test_weights_of_no_part_are_counted(
    files: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    for added, told in (({}, 0), ({"foo.bar": 1, "cond_stage_model.other": 2}, 1)):
        caplog.clear()
        weights = load_file(files["sd1"]) | {k: torch.ones(v) for k, v in added.items()}
        with caplog.at_level(logging.WARNING, logger="sfumato"):
            sf.load(changed(files["sd1"], {**weights, "betas": betas(0.00085, 0.012)}))
        lines = [r.getMessage() for r in caplog.records if "not used" in r.getMessage()]
        assert len(lines) == told
    assert "2 weights of no part" in lines[0]


def betas(first: float, last: float) -> Tensor:
    roots = torch.linspace(first**0.5, last**0.5, 1000, dtype=torch.float64)
    return (roots**2).float()


FAMILY = betas(0.00085, 0.012)
OTHER = betas(0.0015, 0.0195)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("held", ["betas", "alphas_cumprod", "both", "rescaled"])
def test_the_familys_own_table_is_known_again(dtype: torch.dtype, held: str) -> None:
    scheduler = Scheduler(
        kind="DDIMScheduler", beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
        rescale_betas_zero_snr=held == "rescaled",
    )  # fmt: skip
    bars = (1 - FAMILY.double()).cumprod(0)
    if held == "rescaled":
        bars = torch.tensor(noise_tables.noise_table(scheduler).alpha_bar, dtype=torch.float64)
        bars[-1] = 0
    both = {"betas": FAMILY.to(dtype), "alphas_cumprod": bars.to(dtype)}
    given = {k: v for k, v in both.items() if held in (k, "both")} or {"alphas_cumprod": bars}
    assert noise_tables.own_table(Path("x"), given, scheduler) is None


@pytest.mark.parametrize("held", ["betas", "alphas_cumprod"])
def test_a_files_own_table_is_taken(files: dict[str, Path], held: str) -> None:
    given = OTHER if held == "betas" else (1 - OTHER.double()).cumprod(0).float()
    weights = load_file(files["sd1"])
    model = sf.load(changed(files["sd1"], {**weights, held: given}))
    schedule: Any = model.denoiser.schedule
    wanted = (1 - OTHER.double()).cumprod(0)
    assert torch.allclose(torch.tensor(schedule.alpha_bar, dtype=torch.float64), wanted, rtol=1e-4)
    assert model.card.base.schedule == "own"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"betas": torch.ones(4)}, "betas is no noise table"),
        ({"betas": -FAMILY}, "betas is no noise table"),
        ({"betas": FAMILY * float("nan")}, "betas is no noise table"),
        ({"betas": torch.ones(2, 2)}, r"betas is torch.float32 \(2, 2\)"),
        ({"betas": torch.ones(4, dtype=torch.int64)}, "a noise table is 2 to"),
        ({"betas": torch.ones(1)}, "a noise table is 2 to"),
        ({"betas": OTHER, "alphas_cumprod": (1 - FAMILY).cumprod(0)}, "are of two noise tables"),
        ({"alphas_cumprod": (1 - OTHER.double()).cumprod(0).half()}, "has not the digits"),
        ({"alphas_cumprod": torch.linspace(0.1, 0.9, 1000)}, "alphas_cumprod is no noise table"),
    ],
)
def test_a_table_that_is_none(files: dict[str, Path], given: dict[str, Tensor], said: str) -> None:
    with pytest.raises(SfumatoError, match=said):
        sf.load(changed(files["sd1"], {**load_file(files["sd1"]), **given}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    root = tmp_path_factory.mktemp("pipeline")
    pipe = pipelines.stable(root, "sd1")
    return root / "pipeline", pipe


def test_text_of_another_width_is_refused(folder: tuple[Path, Any], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder[0], tmp_path / "other"))
    shutil.rmtree(copy / "unet")
    pipelines.unet(48).save_pretrained(copy / "unet")
    with pytest.raises(SfumatoError, match="cross_attention_dim 48, but the text encoders give 32"):
        sf.load(str(copy))


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_sharded_pickles_are_the_same(folder: tuple[Path, Any], tmp_path: Path, part: str) -> None:
    whole, pipe = folder
    copy = Path(shutil.copytree(whole, tmp_path / "shards"))
    shutil.rmtree(copy / part)
    getattr(pipe, part).save_pretrained(
        copy / part, safe_serialization=False, max_shard_size="40KB"
    )
    assert len(list((copy / part).glob("*.bin"))) > 1
    made = []
    for path in (whole, copy):
        model = sf.load(str(path), dtype="float32")
        *_, last = model.process("red cat", steps=1, size=32).steps(seed=1)
        made.append(model.space.decode(last.x))
    assert close(*made)
