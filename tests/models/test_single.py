"""Checkpoints in one file against the same weights as a pipeline, and against diffusers' names."""

from __future__ import annotations

from collections.abc import Mapping
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
from sfumato.core.schedule import ratio

HERE = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("sd1", "model.safetensors"), ("sd1", "model.ckpt"), ("sd2", "v2-1_768.safetensors"),
     ("sdxl", "xl.safetensors")],
)  # fmt: skip
def test_a_single_file_is_the_pipeline(tmp_path: Path, kind: str, name: str) -> None:
    pipe = pipelines.single(tmp_path, kind)
    wanted = sf.load(str(tmp_path / "pipeline"), dtype="float32")
    found = sf.load(str(single_file(pipe, kind, tmp_path / name)), dtype="float32")
    assert found.denoiser.kind == wanted.denoiser.kind
    made = []
    for model in (wanted, found):
        process = model.process("red cat", negative="dog", steps=3, size=32) | sf.CFG(3.0)
        *_, last = process.steps(seed=2)
        made.append(model.space.decode(last.x))
    assert made[0].shape[-1] == 32
    assert torch.equal(made[0], made[1])


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_names_are_those_that_diffusers_converts(tmp_path: Path, kind: str) -> None:
    """Their converter, given our names, finds every weight of its own network."""
    from diffusers.loaders import single_file_utils as theirs

    pipe = pipelines.single(tmp_path, kind)
    path = single_file(pipe, kind, tmp_path / "768.safetensors")
    weights = load_file(path)
    unet = theirs.convert_ldm_unet_checkpoint(dict(weights), dict(pipe.unet.config))
    same(unet, pipe.unet.state_dict())
    vae = theirs.convert_ldm_vae_checkpoint(dict(weights), dict(pipe.vae.config))
    same(vae, pipe.vae.state_dict())


def same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name].reshape(v.shape), v) for name, v in wanted.items())


def test_a_file_of_2x_without_the_spare_layer_keeps_its_last(tmp_path: Path) -> None:
    pipe = pipelines.single(tmp_path, "sd2")
    whole = single_file(pipe, "sd2", tmp_path / "768.safetensors")
    wanted: Any = sf.load(str(whole), dtype="float32").text
    weights = load_file(whole)
    layers = pipe.text_encoder.config.num_hidden_layers
    mark = f"cond_stage_model.model.transformer.resblocks.{layers}."
    spare = ("cond_stage_model.model.text_projection",)
    kept = {k: v for k, v in weights.items() if not k.startswith(mark) and k not in spare}
    assert len(kept) < len(weights) - 1
    save_file(kept, tmp_path / "768-short.safetensors")
    found: Any = sf.load(str(tmp_path / "768-short.safetensors"), dtype="float32").text
    assert torch.equal(found(["red cat"])["context"], wanted(["red cat"])["context"])


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("sd1", {"layers_per_block": (1, 2)}),
        ("sdxl", {"reverse_transformer_layers_per_block": [1, [3, 1, 2]]}),
        (
            "sdxl",
            {
                "layers_per_block": (2, 1),
                "transformer_layers_per_block": [[1, 2], 2],
                "reverse_transformer_layers_per_block": [1, [3, 1, 2]],
            },
        ),
    ],
)
def test_uneven_blocks_are_all_kept(tmp_path: Path, kind: str, given: dict[str, Any]) -> None:
    """As pruned networks have them: other depths upwards, other counts in each level."""
    pipe = pipelines.single(tmp_path, kind)
    config = {k: v for k, v in pipe.unet.config.items() if not k.startswith("_")}
    pipe.unet = pipelines.scrambled(type(pipe.unet)(**{**config, **given}), 5)
    pipe.save_pretrained(tmp_path / "uneven")
    wanted = sf.load(str(tmp_path / "uneven"), dtype="float32")
    found = sf.load(str(single_file(pipe, kind, tmp_path / "uneven.safetensors")), dtype="float32")
    ends = []
    for model in (wanted, found):
        *_, last = (model.process("red cat", steps=2, size=32) | sf.CFG(3.0)).steps(seed=2)
        ends.append(last.x)
    assert close(*ends)


def test_xl_with_its_projection_as_a_layer(tmp_path: Path) -> None:
    path = single_file(pipelines.single(tmp_path, "sdxl"), "sdxl", tmp_path / "xl.safetensors")
    weights = load_file(path)
    wanted: Any = sf.load(str(path), dtype="float32").text
    name = "conditioner.embedders.1.model.text_projection"
    weights[f"{name}.weight"] = weights.pop(name).T.contiguous()
    save_file(weights, tmp_path / "layer.safetensors")
    found: Any = sf.load(str(tmp_path / "layer.safetensors"), dtype="float32").text
    pairs = zip(*(text.encoders[1].network.parameters() for text in (wanted, found)), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert close(found(["red cat"])["pooled"], wanted(["red cat"])["pooled"])


def test_weights_and_marks_without_a_place_are_refused(tmp_path: Path) -> None:
    path = single_file(pipelines.single(tmp_path, "sd1"), "sd1", tmp_path / "model.safetensors")
    weights = load_file(path)
    deeper = "model.diffusion_model.output_blocks.9.0.in_layers.0.weight"
    for name, said in ((deeper, "have no place"), ("edm_vpred.sigma_max", "is marked edm_vpred")):
        save_file({**weights, name: torch.ones(4)}, tmp_path / "other.safetensors")
        with pytest.raises(SfumatoError, match=said):
            sf.load(str(tmp_path / "other.safetensors"))


def test_files_of_edms_kind_are_read_by_their_marks(tmp_path: Path) -> None:
    path = single_file(pipelines.single(tmp_path, "sdxl"), "sdxl", tmp_path / "xl.safetensors")
    weights = load_file(path)
    marked = {"edm_vpred.sigma_max": torch.tensor(120.0), "edm_vpred.sigma_min": torch.tensor(0.01)}
    save_file({**weights, **marked}, tmp_path / "cosxl.safetensors")
    cosxl = sf.load(str(tmp_path / "cosxl.safetensors"), dtype="float32")
    assert (cosxl.denoiser.kind, cosxl.card.defaults.spacing) == ("v", "logsnr")
    assert ratio(cosxl.denoiser.schedule, 1.0) == pytest.approx(120)
    marked = {"edm_mean": torch.arange(4.0).view(1, 4, 1, 1), "edm_std": torch.ones(1, 4, 1, 1) * 5}
    save_file({**weights, **marked}, tmp_path / "playground.safetensors")
    model = sf.load(str(tmp_path / "playground.safetensors"), dtype="float32")
    assert (model.denoiser.kind, model.denoiser.sigma_data) == ("edm", 0.5)
    space: Any = model.space
    assert (space.scale, space.mean.flatten().tolist()) == (0.5, [0, 1, 2, 3])
    for name, value, said in (
        ("edm_std", torch.zeros(4), "it has 4 numbers"),
        ("edm_vpred.sigma_max", torch.tensor(0.5), "sigma_max"),
    ):
        own = {"edm_mean": torch.zeros(4)} if name == "edm_std" else {}
        save_file({**weights, **own, name: value}, tmp_path / "other.safetensors")
        with pytest.raises(SfumatoError, match=said):
            sf.load(str(tmp_path / "other.safetensors"))


def test_xls_refiner_is_its_folders(tmp_path: Path) -> None:

    base = pipelines.single(tmp_path, "sdxl")
    unet = pipelines.unet(
        128, addition_embed_type="text_time", addition_time_embed_dim=8, use_linear_projection=True,
        projection_class_embeddings_input_dim=128 + 5 * 8, attention_head_dim=(1, 1),
        transformer_layers_per_block=(2, 3), norm_num_groups=32, layers_per_block=2,
        widths=(32, 64),
    )  # fmt: skip
    pipe = pipelines.refiner(base, unet)
    pipe.save_pretrained(tmp_path / "refiner")
    folder = sf.load(str(tmp_path / "refiner"), dtype="float32")
    file = sf.load(str(single_file(pipe, "refiner", tmp_path / "r.safetensors")), dtype="float32")
    assert file.card.defaults.methods[1] == {"method": "refine"}
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    given = [model.denoiser(x, 0.5, model.encode(["red cat"])) for model in (folder, file)]
    assert close(given[0].eps, given[1].eps)


def test_what_a_single_file_lacks_is_said(tmp_path: Path) -> None:
    pipe = pipelines.single(tmp_path, "sd2")
    path = single_file(pipe, "sd2", tmp_path / "model.safetensors")
    with pytest.raises(SfumatoError, match="put 768 or 512 into its name"):
        sf.load(str(path))
    named = path.rename(tmp_path / "512.safetensors")
    for file in (tmp_path / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(SfumatoError, match=r"vocab\.json and merges\.txt beside the file"):
        sf.load(str(named))
    pipelines.words(tmp_path / "tokenizer")
    weights = load_file(named)
    save_file({k: v for k, v in weights.items() if "first_stage" not in k}, named)
    with pytest.raises(SfumatoError, match="holds only a part"):
        sf.load(str(named))
    kept = {k: v for k, v in weights.items() if not k.endswith("out.2.weight")}
    save_file({**kept, "model.diffusion_model.out.2.weight": torch.zeros(4, 99, 3, 3)}, named)
    with pytest.raises(SfumatoError, match=r"conv_out\.weight is"):
        sf.load(str(named))


def test_the_networks_of_sdedits_authors_load(tmp_path: Path) -> None:
    """The fixture's weights in a file, as theirs are published; attention says the size."""
    weights = load_file(HERE / "fixtures" / "sdedit" / "vp_ddpm_unet.safetensors")
    file = tmp_path / "celeba_hq.ckpt"
    torch.save({k.removeprefix("model."): v for k, v in weights.items() if k[:6] == "model."}, file)
    model = sf.load(str(file), dtype="float32")
    assert model.card.native == (32, 32), "attention at the second level"
    time, x = weights["fwd.t"].float(), weights["fwd.x"]
    with torch.no_grad():
        found = model.denoiser.network(x, time, {})
    assert float((found - weights["fwd.eps"]).abs().max()) < 1e-4
    result = (model.process(steps=2) | sf.SDEdit(torch_picture(), t0=0.3)).sample()
    assert result.images[0].size == (40, 24)


def torch_picture() -> Any:
    from PIL import Image

    return Image.new("RGB", (40, 24), (200, 90, 30))
