"""Weights that other libraries have quantised: GGUF, torchao, bitsandbytes; what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from gguf.quants import quantize
from safetensors.torch import load_file, save_file

import sfumato as sf
from helpers import families
from helpers.places import Spoiling, loaded
from sfumato.core.errors import SfumatoError
from sfumato.models import cost, planning
from sfumato.models.files import quantised_already

EIGHT = gguf.GGMLQuantizationType.Q8_0


def pixels(model: sf.Model) -> torch.Tensor:
    result = model.process("a red cat", steps=2, size=32).sample(0)
    return torch.tensor(list(result.images[0].tobytes())).float()


def write_gguf(file: Path, weights: dict[str, torch.Tensor]) -> Path:
    """In 8 bits what has rows of whole groups."""
    out = gguf.GGUFWriter(str(file), "flux")
    for name, value in weights.items():
        array = value.float().numpy()
        if array.ndim == 2 and array.shape[1] % 32 == 0:
            out.add_tensor(name, quantize(array, EIGHT), raw_dtype=EIGHT)
        else:
            out.add_tensor(name, array)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return file


@pytest.fixture(scope="module")
def of_gguf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A Flux whose transformer is a GGUF file in its folder, and the weights before that."""
    folder = tmp_path_factory.mktemp("gguf") / "flux"
    shutil.copytree(families.pipeline("flux-dev"), folder)
    (plain,) = (folder / "transformer").glob("*.safetensors")
    weights = load_file(plain)
    plain.unlink()
    return write_gguf(folder / "flux-Q8_0.gguf", weights), weights


def test_a_gguf_is_near_its_own_in_less_memory_and_replays(
    of_gguf: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = of_gguf
    monkeypatch.chdir(file.parent)
    model, plain = sf.load(file.name, device="cpu"), families.family("flux-dev")
    few = sf.load(str(file), dtype="float32", device="cpu")
    assert cost.weight_bytes(few) < 0.8 * cost.weight_bytes(plain)
    assert 0 < (pixels(few) - pixels(plain)).pow(2).mean().sqrt() < 4
    result = model.process("a red cat", steps=2, size=32).sample(0)
    assert result.recipe.model == file.name
    (path,) = result.save(tmp_path / "a.png")
    assert sf.run(path).images[0].tobytes() == result.images[0].tobytes()


def test_a_plan_knows_the_bytes_of_a_gguf(of_gguf: tuple[Path, Any]) -> None:
    model = sf.load(str(of_gguf[0]), dtype="float32", device="cpu")
    plan = planning.plan_data(model.process("a", steps=2, size=32), 0)
    whole = planning.plan_data(families.family("flux-dev").process("a", steps=2, size=32), 0)
    assert plan["weights"] < whole["weights"]
    assert plan["memory"] == whole["memory"]
    assert plan["seconds"] is not None


@pytest.mark.parametrize("how", ["modules", "layers"])
def test_a_gguf_can_lie_in_main_memory(how: str, of_gguf: tuple[Path, Any]) -> None:
    wanted = pixels(sf.load(str(of_gguf[0]), dtype="float32", device="cpu"))
    assert torch.equal(pixels(loaded(of_gguf[0], how, Spoiling())), wanted)


def test_a_gguf_finds_its_pipeline_in_or_beside_its_folder(
    of_gguf: tuple[Path, Any], tmp_path: Path
) -> None:
    file, _ = of_gguf
    inner = file.parent / "transformer" / "again.gguf"
    beside = file.parent.parent / "beside.gguf"
    for one in (inner, beside):
        shutil.copy(file, one)
        assert sf.load(str(one), device="cpu").card.title.startswith("Flux.1 dev")
        one.unlink()
    shutil.copy(file, tmp_path / "alone.gguf")
    with pytest.raises(SfumatoError, match=r"alone\.gguf: holds a transformer alone; put it into"):
        sf.load(str(tmp_path / "alone.gguf"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text("{}")
    with pytest.raises(SfumatoError, match="of which 2 lie beside it"):
        sf.load(str(tmp_path / "alone.gguf"))


def test_a_gguf_that_is_none_of_its_pipeline_says_so(
    of_gguf: tuple[Path, dict[str, torch.Tensor]],
) -> None:
    file, weights = of_gguf
    less = {name: value for name, value in weights.items() if name != "proj_out.weight"}
    wrong = write_gguf(file.parent / "less.gguf", less)
    (file.parent / "junk.gguf").write_bytes(b"GGUFjunk" * 9)
    try:
        with pytest.raises(SfumatoError, match=r"less\.gguf: "):
            sf.load(str(wrong), device="cpu")
        with pytest.raises(SfumatoError, match=r"junk\.gguf: cannot be loaded"):
            sf.load(str(file.parent / "junk.gguf"), device="cpu")
    finally:
        wrong.unlink()
        (file.parent / "junk.gguf").unlink()
    with pytest.raises(SfumatoError, match="quantised already, so dtype int8 says nothing"):
        sf.load(str(file), dtype="int8")
    unet = shutil.copytree(families.pipeline("sd1"), file.parent.parent / "sd1")
    shutil.copy(file, unet / "x.gguf")
    with pytest.raises(SfumatoError, match=r"x\.gguf: is for a transformer, and .+ has none"):
        sf.load(str(unet / "x.gguf"))
    shutil.rmtree(unet)


def test_adapters_are_refused_on_what_is_quantised_already(
    of_gguf: tuple[Path, Any], tmp_path: Path
) -> None:
    name = "transformer.transformer_blocks.0.attn.to_q.lora"
    save_file(
        {f"{name}_A.weight": torch.zeros(2, 32), f"{name}_B.weight": torch.zeros(32, 2)},
        tmp_path / "style.safetensors",
    )
    with pytest.raises(SfumatoError, match="weights quantised by gguf take none"):
        sf.load(str(of_gguf[0]), device="cpu").adapt(tmp_path / "style.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(families.pipeline("sd3"), tmp_path_factory.mktemp("bits") / "sd3")


def test_a_text_encoder_in_8_bits_by_bitsandbytes_reads_prompts(folder: Path) -> None:
    from transformers import BitsAndBytesConfig, T5EncoderModel

    source, there = families.pipeline("sd3"), folder / "text_encoder_3"
    net = T5EncoderModel.from_pretrained(
        source / there.name, quantization_config=BitsAndBytesConfig(load_in_8bit=True),
        torch_dtype=torch.float32,
    )  # fmt: skip
    shutil.rmtree(there)
    net.save_pretrained(there)
    model, plain = sf.load(str(folder), dtype="float32", device="cpu"), families.family("sd3")
    assert cost.weight_bytes(model) < cost.weight_bytes(plain)
    one, other = (m.encode(["a red cat"])["context"] for m in (model, plain))
    assert 0 < float((one - other).abs().max()) < 0.2 * float(other.std())
    with pytest.raises(SfumatoError, match="offload modules: bitsandbytes' weights stay"):
        loaded(folder, "modules", Spoiling())
    with pytest.raises(SfumatoError, match="quantised already, so dtype int4 says nothing"):
        sf.load(str(folder), dtype="int4", device="cpu")
    shutil.rmtree(there)
    shutil.copytree(source / there.name, there)


LINES = {
    "bitsandbytes": (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "_load_in_4bit": True},
        r"transformer: cannot be loaded \(No GPU found",
    ),
    "torchao": (
        {"quant_method": "torchao", "quant_type": "int8wo"},
        "its weights are quantised by torchao; pip install torchao$",
    ),
    "another": ({"quant_method": "nunchaku"}, "weights quantised by nunchaku are not read"),
    "none": ({}, "weights quantised by None are not read"),
    "a list": ({"quant_method": ["x"]}, "are not read"),
    "no object": ("int8", "are not read"),
}


@pytest.mark.parametrize("kind", LINES)
def test_what_cannot_be_read_is_one_line(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchao is as if it were not installed, and a GPU, without which diffusers reads none."""
    told, line = LINES[kind]
    find = quantised_already.find_spec
    monkeypatch.setattr(
        quantised_already, "find_spec", lambda name: None if name == "torchao" else find(name)
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    file = folder / "transformer" / "config.json"
    before = file.read_text()
    file.write_text(json.dumps(json.loads(before) | {"quantization_config": told}))
    try:
        with pytest.raises(SfumatoError, match=line):
            sf.load(str(folder), device="cpu")
    finally:
        file.write_text(before)


def test_an_autoencoder_that_is_quantised_is_refused(folder: Path) -> None:
    file = folder / "vae" / "config.json"
    before = file.read_text()
    file.write_text(json.dumps(json.loads(before) | {"quantization_config": {"x": 1}}))
    try:
        with pytest.raises(SfumatoError, match="quantised weights of this part are not read"):
            sf.load(str(folder), device="cpu")
    finally:
        file.write_text(before)


def test_torchao_is_read_where_it_is(folder: Path) -> None:
    pytest.importorskip("torchao", reason="not among the pinned packages: it slows every import")
    import diffusers
    from torchao.quantization import Int8WeightOnlyConfig

    source, there = families.pipeline("sd3"), folder / "transformer"
    net = diffusers.SD3Transformer2DModel.from_pretrained(
        source / there.name, torch_dtype=torch.bfloat16,
        quantization_config=diffusers.TorchAoConfig(Int8WeightOnlyConfig()),
    )  # fmt: skip
    shutil.rmtree(there)
    net.save_pretrained(there)
    model = sf.load(str(folder), dtype="bfloat16", device="cpu")
    plain = sf.load(str(source), dtype="bfloat16", device="cpu")
    assert cost.weight_bytes(model) < cost.weight_bytes(plain)
    assert (pixels(model) - pixels(plain)).pow(2).mean().sqrt() < 4
    shutil.rmtree(there)
    shutil.copytree(source / there.name, there)
