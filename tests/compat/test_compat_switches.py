"""What else pipelines of diffusers have: each is done, said, or refused by its name."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from packaging import version
from safetensors.torch import save_file

import sfumato.compat
from helpers import pipelines
from helpers.places import Spoiling, apart
from sfumato.compat.drawing import Drawn
from sfumato.compat.families import FAMILIES
from sfumato.compat.refused import why_not
from sfumato.compat.signatures import CALLS
from sfumato.compat.switches import SAID
from sfumato.core.errors import SfumatoError
from sfumato.models.devices import Choice
from sfumato.models.loaders import diffusers as loader
from sfumato.models.loaders import flows

NEWEST = version.parse(diffusers.__version__) >= version.parse("0.42")
LOADED = {*flows.FAMILIES, *loader.TRANSFORMERS, "UNet2DConditionModel", "UNet2DModel"}
"""Networks that models are made of."""
GIVEN = {"prompt": "red cat", "height": 32, "width": 32, "num_inference_steps": 3}


def pipelines_of_networks() -> list[str]:
    """Those of diffusers that are made of a network that is loaded here."""
    found = []
    for name in dir(diffusers):
        cls = getattr(diffusers, name) if name.endswith("Pipeline") else None
        if not inspect.isclass(cls):
            continue
        parts = inspect.signature(cls.__init__).parameters
        networks = "".join(str(parts[k].annotation) for k in ("transformer", "unet") if k in parts)
        if any(f"{network}" in networks for network in LOADED):
            found.append(name)
    return found


@pytest.mark.skipif(not NEWEST, reason="pipelines are those of diffusers 0.42")
def test_every_pipeline_of_a_network_that_loads_is_here_or_refused_with_its_reason() -> None:
    names = pipelines_of_networks()
    assert len(names) > 100
    silent = [name for name in names if name not in CALLS and not why_not(name)]
    assert silent == []
    for name in names:
        if name in CALLS:
            assert getattr(sfumato.compat, name).__name__ == name
        else:
            with pytest.raises(SfumatoError, match=f"{name} is not here: [a-zA-Z]"):
                getattr(sfumato.compat, name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sd1")
    pipelines.stable(place, "sd1")
    return place / "pipeline"


@pytest.fixture
def pair(folder: Path) -> tuple[Any, Any]:
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    theirs.set_progress_bar_config(disable=True)
    return theirs, sfumato.compat.StableDiffusionPipeline.from_pretrained(folder)


def drawn(pipe: Any, **given: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    images: torch.Tensor = pipe(**{**GIVEN, **given}, generator=generator, output_type="pt").images
    return images


def close(pair: tuple[Any, Any], **given: Any) -> None:
    theirs, ours = (drawn(pipe, **given) for pipe in pair)
    assert float((ours - theirs).abs().max()) < 1e-4


@pytest.mark.skipif(not NEWEST, reason="methods are those of diffusers 0.42")
@pytest.mark.parametrize("name", CALLS)
def test_whatever_theirs_have_is_here_or_refused_by_its_name(folder: Path, name: str) -> None:
    base = sfumato.compat.StableDiffusionPipeline.from_pretrained(folder)
    ours = getattr(sfumato.compat, name)._of(base.state)
    for key in dir(getattr(diffusers, name)):
        if key.startswith("_") or key in SAID or hasattr(type(ours), key):
            continue
        with pytest.raises(SfumatoError, match=rf"{name}\.{key}: is not here"):
            getattr(ours, key)


@pytest.mark.parametrize("name", SAID)
def test_what_needs_nothing_says_so_and_changes_no_picture(
    folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    ours = sfumato.compat.StableDiffusionPipeline.from_pretrained(folder)
    caplog.set_level(logging.WARNING, "sfumato")
    getattr(ours, name)()
    assert [f"{name}: {SAID[name]}"] == [record.getMessage() for record in caplog.records]


def test_what_is_switched_is_switched(pair: Any, caplog: pytest.LogCaptureFixture) -> None:
    theirs, ours = pair
    plain = drawn(ours)
    for pipe in pair:
        pipe.vae.enable_tiling()
        pipe.vae.enable_slicing()
    net = ours.model.space.autoencoder
    for autoencoder in (theirs.vae, net):
        autoencoder.tile_sample_min_size, autoencoder.tile_latent_min_size = 16, 4
    close(pair)
    assert float((drawn(ours) - plain).abs().max()) > 1e-4
    ours.to(torch.bfloat16).to(torch.float32)
    assert ours.model.space.autoencoder.use_tiling, "weights that are read again work so too"
    ours.disable_vae_tiling()
    ours.vae.disable_slicing()
    assert torch.equal(drawn(ours), plain)
    ours.enable_vae_tiling()
    ours.disable_vae_tiling()
    ours.enable_model_cpu_offload(device="cpu")
    assert "all weights stay on cpu" in caplog.text
    with apart(Spoiling()), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sfumato.compat.pipelines, "SHARED", ())
        ours.enable_sequential_cpu_offload(device="cpu")
        assert ours.model.choice.offload == "layers"
    assert float((drawn(ours) - plain).abs().max()) < 1e-4
    ours.safety_checker = None
    with pytest.raises(SfumatoError, match="'safety_checker' cannot be set"):
        ours.safety_checker = 3
    assert ours.to(device="cpu", torch_dtype=torch.float32).to("cpu") is ours
    with pytest.raises(SfumatoError, match="to: takes no 'where'"):
        ours.to(where="cpu")
    with pytest.raises(SfumatoError, match=r"sf\.load reads it"):
        type(ours).from_single_file("x.safetensors")
    for name, says in (
        ("load_ip_adapter", "sf.IPAdapter does it"), ("enable_freeu", "nothing of its kind"),
        ("enable_group_offload", "enable_sequential_cpu_offload does it"),
        ("save_pretrained", "models export"),
    ):  # fmt: skip
        with pytest.raises(SfumatoError, match=says):
            getattr(ours, name)


def lora_file(net: Any, path: Path, seed: int) -> Path:
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for name, module in net.named_modules():
        if name.endswith(("to_q", "to_v")):
            rows, columns = module.weight.shape
            for part, shape in (("A", (2, columns)), ("B", (rows, 2))):
                weight = torch.randn(shape, generator=generator)
                tensors[f"unet.{name}.lora_{part}.weight"] = weight * 0.2
    save_file(tensors, path)
    return path


def test_lora_are_fused_switched_and_taken_out_as_there(pair: Any, tmp_path: Path) -> None:
    theirs, ours = pair
    files = [lora_file(theirs.unet, tmp_path / f"{name}.safetensors", ord(name)) for name in "ab"]
    plain = drawn(ours)

    def each(method: str, *given: Any, **named: Any) -> None:
        for pipe in pair:
            getattr(pipe, method)(*given, **named)
        close(pair)

    each("load_lora_weights", files[0], adapter_name="a")
    each("disable_lora")
    each("enable_lora")
    each("fuse_lora", lora_scale=0.6)
    each("unload_lora_weights")
    assert float((drawn(ours) - plain).abs().max()) > 0.01, "what was fused stays"
    each("load_lora_weights", files[1], adapter_name="b")
    assert ours.get_active_adapters() == theirs.get_active_adapters() == ["b"]
    each("delete_adapters", "b")
    assert ours.get_active_adapters() == []
    ours.unfuse_lora()
    assert torch.equal(drawn(ours), plain)
    with pytest.raises(SfumatoError, match="delete_adapters: no 'z'"):
        ours.delete_adapters("z")
    with pytest.raises(SfumatoError, match="load_lora_weights: 'subfolder' is not supported"):
        ours.load_lora_weights(tmp_path, subfolder="x")
    with pytest.raises(SfumatoError, match="fuse_lora: 'safe_fusing' is not supported"):
        ours.fuse_lora(safe_fusing=True)
    with pytest.raises(SfumatoError, match="fuse_lora: lora_scale = 'x'"):
        ours.fuse_lora(lora_scale="x")


def test_learned_words_are_read_as_there(pair: Any, tmp_path: Path) -> None:
    theirs, ours = pair
    width = theirs.text_encoder.config.hidden_size
    vector = torch.randn(width, generator=torch.Generator().manual_seed(1))
    save_file({"<hat>": vector}, tmp_path / "hat.safetensors")
    plain = drawn(ours, prompt="red <hat>")
    for pipe in pair:
        pipe.load_textual_inversion(tmp_path / "hat.safetensors")
    close(pair, prompt="red <hat>")
    ours.unload_textual_inversion()
    assert torch.equal(drawn(ours, prompt="red <hat>"), plain)
    with pytest.raises(SfumatoError, match="the file's own name counts"):
        ours.load_textual_inversion(tmp_path / "hat.safetensors", token="<x>")


def test_noise_is_drawn_in_float32_where_theirs_is() -> None:
    """Of Sana and Z-Image, whatever the network's type."""
    for family in FAMILIES.values():
        generator, choice = torch.Generator().manual_seed(1), Choice("cpu", "bfloat16", "", "")
        noise = Drawn(generator, (1, 4, 8, 8), choice, family.full).next()
        dtype = torch.float32 if "Sana" in family.name or "ZI" in family.name else torch.bfloat16
        theirs = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=dtype)
        assert torch.equal(noise, theirs.float()), family.name


def test_a_distilled_network_reads_its_scale_under_stable_diffusions_names(
    tmp_path: Path,
) -> None:
    from helpers import decoders

    base = decoders.lcm(tmp_path)
    theirs = diffusers.StableDiffusionPipeline(**base.components, requires_safety_checker=False)
    theirs.set_progress_bar_config(disable=True)
    theirs.save_pretrained(tmp_path / "sd")
    ours = sfumato.compat.AutoPipelineForText2Image.from_pretrained(tmp_path / "sd")
    assert type(ours).__name__ == "StableDiffusionPipeline"
    close((theirs, ours), guidance_scale=5.0)
