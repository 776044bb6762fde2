"""Flow models against the pipelines of diffusers: same weights, same noise, same times."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import sfumato as sf
from helpers import pipelines
from helpers.pictures import mask_of, photo, pixels_of
from sfumato.core.errors import SfumatoError
from sfumato.core.noise import Tape

PROMPT, NEGATIVE = "red cat", "a dog"
KINDS = tuple(kind for kind in pipelines.FLOWS if kind != "sana-sprint")  # which draws noise


FAMILIES = {"sd3": "StableDiffusion3", "flux": "Flux", "zimage": "ZImage", "qwen": "QwenImage"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pipelines.each_once(tmp_path_factory, pipelines.flow)


def given(kind: str) -> tuple[dict[str, Any], Any]:
    """What their pipeline is told of guidance, and what ours is composed with."""
    if kind.startswith("sd3"):
        return {"guidance_scale": 4.0, "negative_prompt": NEGATIVE}, sf.CFG(4.0)
    if kind.startswith("sana"):
        told = {"guidance_scale": 4.0, "use_resolution_binning": False}
        return told | {"negative_prompt": NEGATIVE}, sf.CFG(4.0)
    if kind == "flux2-base":
        return {"guidance_scale": 3.0}, sf.CFG(3.0)
    if kind == "zimage":  # their scale is what is added
        return {"guidance_scale": 3.0, "negative_prompt": NEGATIVE}, sf.CFG(4.0)
    if kind == "qwen":  # its rescaled guidance is compared apart
        return {"true_cfg_scale": 1.0}, sf.CFG(1.0)
    if kind in ("flux-dev", "flux-fill", "flux-kontext"):
        return {"guidance_scale": 2.5}, sf.DistilledGuidance(2.5)
    return {"guidance_scale": 0.0}, None


def noise_of(kind: str) -> torch.Tensor:
    return normal(kind, torch.Generator().manual_seed(5))


def normal(kind: str, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(1, pipelines.channels_of(kind), 8, 8, generator=generator)


def latents_of(kind: str, noise: torch.Tensor) -> torch.Tensor:
    """As their pipeline takes them."""
    from diffusers import FluxPipeline

    if kind == "sana":  # its first time is 3 * 0.999 / 2.998, where ours has less noise
        return noise * math.hypot(0.001, 2.997) / 2.998
    packed = kind.startswith(("flux-", "qwen"))
    return FluxPipeline._pack_latents(noise, 1, 4, 8, 8) if packed else noise


def process_of(model: sf.Model, kind: str, **options: Any) -> Any:
    _, method = given(kind)
    negative = given(kind)[0].get("negative_prompt", "")
    process = model.process(PROMPT, negative=negative, size=32, steps=5, **options)
    return process if method is None else process | method


@pytest.mark.parametrize("spacing", ["shifted", "model"])
@pytest.mark.parametrize("kind", KINDS)
def test_text_to_image_is_the_pipelines(made: Any, kind: str, spacing: str) -> None:
    pipe, model = made(kind)
    theirs = pipe(
        prompt=PROMPT, latents=latents_of(kind, noise_of(kind)), height=32, width=32,
        num_inference_steps=5, output_type="pt", **given(kind)[0],
    ).images  # fmt: skip
    close(pixels_of(process_of(model, kind, spacing=spacing), noise_of(kind)), theirs)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith(("flux2", "sana"))])
def test_image_to_image_is_the_pipelines(made: Any, kind: str) -> None:
    import diffusers

    pipe, model = made(kind)
    family = FAMILIES[kind.split("-")[0]]
    other = getattr(diffusers, f"{family}Img2ImgPipeline")(**pipe.components)
    other.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    theirs = other(
        PROMPT, image=photo(), strength=0.6, height=32, width=32, num_inference_steps=5,
        generator=generator, output_type="pt", **given(kind)[0],
    ).images  # fmt: skip
    generator.manual_seed(3)
    normal(kind, generator)  # their sample of the posterior, which is its mode
    noise = normal(kind, generator)
    process = process_of(model, kind, spacing="model") | sf.SDEdit(photo(), t0=0.6)
    close(pixels_of(process, noise), theirs)


CELLS = (8, 8, 24, 32)  # whole tokens of 8 pixels


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("kind", ["sd3-wide", "flux-dev", "flux-schnell", "zimage", "qwen"])
def test_inpainting_is_the_pipelines(made: Any, kind: str, strength: float) -> None:
    """Theirs of SD 3 leaves the autoencoder's shift out when it decodes, so its latents count."""
    import diffusers

    pipe, model = made(kind)
    name = f"{FAMILIES[kind.split('-')[0]]}InpaintPipeline"
    other = getattr(diffusers, name)(**pipe.components)
    other.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    theirs = other(
        PROMPT, image=photo(), mask_image=mask_of(CELLS), strength=strength, height=32, width=32,
        num_inference_steps=5, generator=generator, **given(kind)[0],
        output_type="latent" if "sd3" in kind else "pt",
    ).images  # fmt: skip
    if "sd3" in kind:
        theirs = (model.space.decode(theirs) / 2 + 0.5).clamp(0, 1)
    generator.manual_seed(3)
    normal(kind, generator)  # their sample of the posterior, which is its mode
    noise = normal(kind, generator)
    process = process_of(model, kind, spacing="model") | sf.Inpaint(photo(), mask=mask_of(CELLS))
    if strength < 1:
        process = process | sf.SDEdit(photo(), t0=strength)
    close(pixels_of(process, noise), theirs)


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_fluxs_fill_reads_the_known_part_as_in_the_pipeline(made: Any, strength: float) -> None:
    pipe, model = made("flux-fill")
    generator = torch.Generator().manual_seed(3)
    theirs = pipe(
        PROMPT, image=photo(), mask_image=mask_of(CELLS), strength=strength, height=32, width=32,
        num_inference_steps=5, generator=generator, output_type="pt", **given("flux-fill")[0],
    ).images  # fmt: skip
    generator.manual_seed(3)
    normal("flux-fill", generator)  # their sample of the posterior, which is its mode
    noise = normal("flux-fill", generator)
    process = process_of(model, "flux-fill", spacing="model")
    process = process | sf.Inpaint(photo(), mask=mask_of(CELLS))
    if strength < 1:
        process = process | sf.SDEdit(photo(), t0=strength)
    close(pixels_of(process, noise), theirs)
    drawn = model.process(PROMPT, size=32, steps=2)  # of a grey picture
    assert pixels_of(drawn, noise).std() > 0.02


@pytest.mark.parametrize("kind", ["flux-kontext", "flux2", "flux2-base"])
def test_a_reference_is_read_as_in_the_pipeline(
    made: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, model = made(kind)
    noise, told = noise_of(kind), dict(given(kind)[0])
    if kind == "flux-kontext":
        told |= {"max_area": 32**2, "_auto_resize": False}
    else:  # theirs refuses small pictures
        monkeypatch.setattr(pipe.image_processor, "check_image_input", lambda _: None)
    theirs = pipe(
        prompt=PROMPT, image=photo(), latents=latents_of(kind, noise), height=32,
        width=32, num_inference_steps=5, output_type="pt", **told,
    ).images  # fmt: skip
    process = process_of(model, kind) | sf.Reference(photo())
    close(pixels_of(process, noise), theirs)
    plain = pixels_of(process_of(model, kind), noise)
    assert float((plain - theirs).abs().max()) > 0.02, "a reference that nothing reads"


def test_a_reference_of_another_shape_gives_the_result_its_shape(made: Any) -> None:
    _, model = made("flux-kontext")
    picture = photo(48, 32)
    process = model.process(PROMPT, steps=1, n=2) | sf.Reference(picture) | sf.CFG(2.0)
    assert process.sample(1).images[0].size == picture.size


def test_networks_that_read_no_picture_refuse_a_reference(made: Any) -> None:
    _, model = made("flux-dev")
    process = process_of(model, "flux-dev") | sf.Reference(photo())
    with pytest.raises(SfumatoError, match="reads no picture"):
        process.begin()


@pytest.mark.parametrize(
    ("kind", "file", "change", "phrase"),
    [
        ("qwen", "transformer/config.json", {"zero_cond_t": True}, "edit and layered networks"),
        ("qwen", "transformer/config.json", {"guidance_embeds": True}, "distilled networks"),
        ("qwen", "vae/config.json", {"latents_mean": [0.0]}, "latents_mean must have 4 values"),
        ("qwen", "text_encoder/config.json", {"text_config": {"hidden_act": "gelu"}}, "hidden_act"),
        ("sana", "transformer/config.json", {"guidance_embeds": True}, "Sprint"),
        ("sana", "transformer/config.json", {"out_channels": 8}, "learn a variance"),
        ("sana", "vae/config.json", {"encoder_layers_per_block": [1]}, "numbers of levels"),
        ("sana", "scheduler/scheduler_config.json", {"use_flow_sigmas": False}, "use_flow_sigmas"),
        ("flux2", "model_index.json", {"_class_name": "Flux2Pipeline"}, "large networks"),
        ("flux2", "model_index.json", {"is_distilled": "yes"}, "is_distilled = 'yes': must be"),
        ("flux2", "transformer/config.json", {"in_channels": 32}, "reads 32 channels"),
        ("flux-fill", "transformer/config.json", {"in_channels": 32}, "control networks"),
    ],
)
def test_networks_that_are_not_supported_are_refused_by_one_line(
    made: Any, tmp_path: Path, kind: str, file: str, change: dict[str, Any], phrase: str
) -> None:
    _, model = made(kind)
    folder = shutil.copytree(model.folder, tmp_path / "changed")
    told = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(told | change))
    with pytest.raises(SfumatoError, match=phrase):
        sf.load(str(folder), dtype="float32")


def close(ours: torch.Tensor, theirs: torch.Tensor, most: float = 1e-4) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < most
    assert float(theirs.std()) > 0.02, "a picture of one colour would prove nothing"


def test_qwen_images_guidance_is_theirs_but_for_its_rescaling(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theirs brings every token back to the length it has without guidance, ours does not."""
    pipe, model = made("qwen")
    noise = noise_of("qwen")
    norm = torch.norm

    def one_of_tokens(*given: Any, **named: Any) -> torch.Tensor:
        return torch.ones(()) if named.get("dim") == -1 else norm(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "norm", one_of_tokens)
        theirs = pipe(
            PROMPT, negative_prompt=NEGATIVE, true_cfg_scale=3.0, height=32, width=32,
            latents=latents_of("qwen", noise), num_inference_steps=5, output_type="pt",
        ).images  # fmt: skip
    process = model.process(PROMPT, negative=NEGATIVE, size=32, steps=5) | sf.CFG(3.0)
    close(pixels_of(process, noise), theirs)


def test_sanas_rows_are_those_of_the_words_behind_its_instruction(made: Any) -> None:
    _, model = made("sana")
    spans = model.spans(" Red cat", ["a longer prompt than the other one"])
    words = [" Red cat"[first:last] for first, last in filter(None, spans)]
    assert "".join(words).replace(" ", "") == "Redcat"
    assert spans[0] is None
    cond = model.encode([" Red cat", ""])
    assert cond["context"].shape[1] == 2 + len("red cat")  # and the instruction's last token
    assert cond["mask"].sum(1).tolist() == [9, 1]
    with pytest.raises(SfumatoError, match="this model reads 300; shorten it"):
        model.encode(["x" * 300])


@pytest.mark.parametrize("kind", ["sana", "sana-euler"])
def test_pictures_are_edited_on_sana(made: Any, kind: str) -> None:
    _, model = made(kind)
    process = model.process(PROMPT, steps=2) | sf.SDEdit(photo(), t0=0.5, mask=mask_of(CELLS))
    assert process.begin().run.times[0] == 0.5
    assert process.sample(1).images[0].size == (32, 32)


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("spacing", ["shifted", "model"])
def test_sana_sprints_text_to_image_is_the_pipelines(made: Any, spacing: str, steps: int) -> None:
    pipe, model = made("sana-sprint")
    first = noise_of("sana-sprint")
    theirs = pipe(
        PROMPT, latents=first, height=32, width=32, num_inference_steps=steps, output_type="pt",
        guidance_scale=3.0, generator=torch.Generator().manual_seed(3),
        intermediate_timesteps=1.3 if steps == 2 else None, use_resolution_binning=False,
    ).images  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    tape: dict[tuple[str, int], torch.Tensor] = {("prior", 0): first}
    tape |= {("step", k + 1): normal("sana-sprint", generator) for k in range(steps - 1)}
    process = model.process(PROMPT, size=32, steps=steps, spacing=spacing)
    with torch.no_grad():
        loop = (process | sf.DistilledGuidance(3.0)).begin(noise=Tape(tape))
        *_, last = loop.steps()
        ours = (loop.run.decode(last.x) / 2 + 0.5).clamp(0, 1)
    close(ours, theirs)
    assert model.process(PROMPT).resolved().n_steps == 2


RANK = 2


def low_rank(net: torch.nn.Module, ends: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Factors for some layers, by the names of diffusers."""
    generator = torch.Generator().manual_seed(9)
    tensors = {}
    for name, module in net.named_modules():
        weight = getattr(module, "weight", None)
        if name.endswith(ends) and weight is not None:
            rows, columns = weight.shape
            down = torch.randn(RANK, columns, generator=generator) * columns**-0.5
            tensors[f"transformer.{name}.lora_A.weight"] = down
            tensors[f"transformer.{name}.lora_B.weight"] = torch.randn(
                rows, RANK, generator=generator
            )
    return tensors


@pytest.mark.parametrize("kind", ["sd3", "flux-dev", "flux2", "zimage", "qwen", "sana"])
def test_a_lora_file_changes_the_picture_as_in_the_pipeline(
    made: Any, kind: str, tmp_path: Path
) -> None:
    pipe, model = made(kind)
    file = tmp_path / "style.safetensors"
    save_file(low_rank(pipe.transformer, ("to_q", "to_k", "to_v", "to_out.0")), file)
    check_adapted(pipe, model, kind, file)


def test_kohyas_names_of_fluxs_layers_are_read(made: Any, tmp_path: Path) -> None:
    pipe, model = made("flux-dev")
    generator = torch.Generator().manual_seed(9)
    tensors = {}
    for layer, rows in (("img_attn_qkv", 96), ("txt_attn_qkv", 96), ("img_attn_proj", 32)):
        name = f"lora_unet_double_blocks_0_{layer}"
        tensors[f"{name}.lora_down.weight"] = torch.randn(RANK, 32, generator=generator) * 0.2
        tensors[f"{name}.lora_up.weight"] = torch.randn(rows, RANK, generator=generator)
        tensors[f"{name}.alpha"] = torch.tensor(1.0)
    file = tmp_path / "kohya.safetensors"
    save_file(tensors, file)
    check_adapted(pipe, model, "flux-dev", file)


def check_adapted(pipe: Any, model: sf.Model, kind: str, file: Path) -> None:
    given_theirs = {
        "latents": latents_of(kind, noise_of(kind)), "height": 32, "width": 32,
        "num_inference_steps": 5, "output_type": "pt", **given(kind)[0],
    }  # fmt: skip
    plain = pipe(prompt=PROMPT, **given_theirs).images
    pipe.load_lora_weights(str(file.parent), weight_name=file.name)
    try:
        theirs = pipe(prompt=PROMPT, **given_theirs).images
    finally:
        pipe.unload_lora_weights()
    assert float((plain - theirs).abs().max()) > 0.02, "an adapter that does nothing"
    close(pixels_of(process_of(model.adapt(file), kind), noise_of(kind)), theirs)
    close(pixels_of(process_of(model, kind), noise_of(kind)), plain)
