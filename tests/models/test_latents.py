"""Every method on latents: the complaints of specs about size, mode, strength, masks and drift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

import sfumato as sf
from helpers import pipelines
from helpers.clips import clip, folder
from helpers.pictures import mask_of, photo
from sfumato.core.errors import SfumatoError
from sfumato.models.encoders import parse_weights
from sfumato.models.latents import Latents

__all__ = ["folder"]  # a fixture


@pytest.fixture
def model(folder: Path) -> sf.Model:
    return sf.load(str(folder), dtype="float32")


@pytest.fixture
def seen(model: sf.Model, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Calls of the network, of the encoder and of the decoder."""
    counts = {"net": 0, "encode": 0, "decode": 0}
    network: Any = model.denoiser.network

    def counted(name: str, body: Any) -> Any:
        def run(*args: Any, **given: Any) -> Any:
            counts[name] += 1
            return body(*args, **given)

        return run

    monkeypatch.setattr(network.net, "forward", counted("net", network.net.forward))
    monkeypatch.setattr(Latents, "encode", counted("encode", Latents.encode))
    monkeypatch.setattr(Latents, "decode", counted("decode", Latents.decode))
    return counts


def pixels(image: Any) -> np.ndarray[Any, Any]:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("size", [(32, 32), (30, 22), (25, 19), (61, 33), (9, 40)])
def test_a_picture_keeps_its_size(model: sf.Model, size: tuple[int, int]) -> None:
    process = model.process("red cat", steps=2) | sf.SDEdit(photo(*size), t0=0.4)
    result = process.sample()
    assert result.images[0].size == size
    assert list(result.calls) == [2]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK", "I;16"])
def test_pictures_of_every_mode(model: sf.Model, mode: str) -> None:
    """An RGBA picture is not taken for latents, grey and palette ones do not crash."""
    given = photo()
    if mode == "I;16":
        given = PILImage.fromarray(np.asarray(given.convert("L")).astype(np.uint16) * 257)
    elif mode in ("RGBA", "LA"):
        given = given.convert(mode)
        given.putalpha(mask_of((4, 4, 28, 28)))
    else:
        given = given.convert(mode)
    result = (model.process("cat", steps=1) | sf.SDEdit(given, t0=0.3)).sample()
    assert result.images[0].size == (32, 32)
    assert result.images[0].mode == ("RGBA" if mode in ("RGBA", "LA") else "RGB")


def test_steps_are_calls_at_every_strength(model: sf.Model, seen: dict[str, int]) -> None:
    for t0 in (0.001, 0.03, 0.5, 0.999, 1.0):
        seen["net"] = 0
        result = (model.process("cat", steps=3) | sf.SDEdit(photo(), t0=t0)).sample()
        assert (seen["net"], list(result.calls)) == (3, [3]), t0
    seen |= {"net": 0, "encode": 0, "decode": 0}
    result = (model.process("cat", steps=3) | sf.SDEdit(photo(), t0=0)).sample()
    assert seen == {"net": 0, "encode": 0, "decode": 0}
    assert (pixels(result.images[0]) == pixels(photo())).all()


def test_strength_is_continuous_and_one_forgets_the_input(model: sf.Model) -> None:
    def made(t0: float, picture: Any) -> Any:
        process = model.process("cat", steps=4) | sf.CFG(1) | sf.SDEdit(picture, t0=t0)
        *_, last = process.steps(seed=3)
        return last.x

    assert not torch.equal(made(0.5, photo()), made(0.501, photo()))
    other = PILImage.new("RGB", (32, 32), "white")
    assert torch.equal(made(1.0, photo()), made(1.0, other)), "at 1 the guide still shows"


def test_a_picture_is_encoded_once_whatever_the_passes(
    model: sf.Model, seen: dict[str, int]
) -> None:
    process = model.process("cat", steps=2) | sf.SDEdit(photo(), t0=0.4, repeats=3)
    process.sample()
    assert (seen["encode"], seen["decode"], seen["net"]) == (1, 1, 6)


@pytest.mark.parametrize("way", ["sdedit", "inpaint"])
def test_ten_round_trips_do_not_drift_outside_the_mask(model: sf.Model, way: str) -> None:
    picture, box = photo(45, 37), (13, 9, 30, 26)
    mask = mask_of(box, (45, 37))
    image: Any = picture
    for seed in range(10):
        edit: Any = sf.SDEdit(image, t0=0.6, mask=mask)
        if way == "inpaint":
            edit = sf.Inpaint(image, mask=mask)
        image = (model.process("cat", steps=1) | edit).sample(seed=seed).images[0]
    kept = np.asarray(mask) == 0
    assert (pixels(image)[kept] == pixels(picture)[kept]).all()
    assert (pixels(image)[~kept] != pixels(picture)[~kept]).any()


def test_a_mask_that_touches_a_cell_frees_it(model: sf.Model) -> None:
    """One white pixel: the nearest would free none; the largest frees the cell it is in."""
    mask = mask_of((6, 9, 7, 10))
    loop = (model.process("cat", steps=1, size="input") | sf.SDEdit(photo(), mask=mask)).begin()
    run = loop.run
    keeper: Any = run.guides[0]
    cells = keeper.mask[0]
    free = {tuple(int(v) for v in where) for where in (cells > 0).nonzero()}
    left, top = run.frame.offset
    assert run.frame.source_box == run.frame.target_box or run.frame.box is not None
    scale = run.frame.scaled[0] / (run.frame.box[2] - run.frame.box[0])
    x = (6 - run.frame.box[0]) * scale + left
    y = (9 - run.frame.box[1]) * scale + top
    assert (int(y // pipelines.STRIDE), int(x // pipelines.STRIDE)) in free
    assert len(free) <= 4


def test_colour_matching_counts_in_pixels(model: sf.Model) -> None:
    guide = photo()
    edit = sf.SDEdit(guide, t0=0.9, match_colour=True)
    made = pixels((model.process("cat", steps=2) | edit).sample().images[0])
    free = pixels((model.process("cat", steps=2) | sf.SDEdit(guide, t0=0.9)).sample().images[0])
    wanted = pixels(guide).mean((0, 1))
    assert abs(made.mean((0, 1)) - wanted).max() < 8  # what clipping at 0 and 255 leaves
    assert abs(free.mean((0, 1)) - wanted).max() > 12


def test_the_same_bits_in_any_order_and_batch(model: sf.Model) -> None:
    """Of the latents; methods that were composed in other orders are the same process."""
    parts = [sf.SDEdit(photo(), t0=0.7, mask=mask_of((8, 8, 24, 24))), sf.CFG(2.0)]
    parts.append(sf.ILVR(photo(), factor=8))
    states = []
    for order in (parts, parts[::-1]):
        process: Any = model.process("red cat", steps=3)
        for part in order:
            process = process | part
        *_, last = process.steps(seed=4)
        states.append(last.x)
    assert torch.equal(*states)
    whole = model.process("cat", n=2, steps=3).sample(seed=4).images[1]
    alone = model.process("cat", steps=3).sample(seed=5).images[0]
    assert abs(pixels(whole) - pixels(alone)).max() <= 1


def test_ilvr_counts_its_factor_in_pixels(
    model: sf.Model, caplog: pytest.LogCaptureFixture
) -> None:
    """factor / stride of the latents: one cell keeps the reference, less than one is refused."""
    stride = pipelines.STRIDE
    process = model.process("cat", steps=3) | sf.ILVR(photo(), factor=stride)
    *_, last = process.steps(seed=1)
    held = Latents.encode(model.space, torch.as_tensor(work(photo())))  # type: ignore[arg-type]
    assert float((last.x - held).abs().max()) < 1e-5
    assert "holds every cell" in caplog.text
    with pytest.raises(SfumatoError, match="less than a cell of this model's latents, which is 4"):
        next((model.process("cat", steps=1) | sf.ILVR(photo(), factor=2)).steps())
    means_of_four = sf.ILVR(photo(), factor=4 * stride, kernel="box")
    *_, coarse = (model.process("cat", steps=3) | means_of_four).steps(seed=1)
    assert float((coarse.x - held).abs().max()) > 0.1
    means = [v.unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2)) for v in (coarse.x, held)]
    assert float((means[0] - means[1]).abs().max()) < 1e-5


def work(picture: PILImage.Image) -> torch.Tensor:
    values = np.asarray(picture).astype(np.float32) / 127.5 - 1
    return torch.from_numpy(values).permute(2, 0, 1)[None]


def test_up_and_down_again_is_the_picture(model: sf.Model) -> None:
    """Inversion of the latents, then the same solver down: equal in the limit of many steps."""
    x0 = model.space.encode(work(photo()))
    errors = []
    for n in (40, 160):
        times = tuple(0.05 * (n - k) / n for k in range(n + 1))
        process = model.process("cat", spacing=times, solver="ddim") | sf.CFG(1)
        path = process.invert(x0)
        assert len(path) == n + 1
        *_, last = process.steps(x=path[-1])
        errors.append(float((last.x - x0).abs().mean()))
    assert errors[1] < 0.4 * errors[0], "the order of DDIM is one"
    assert errors[1] < 0.05 * float((path[-1] - x0).abs().mean())


@pytest.mark.parametrize("decoder", ["full", "tiny"])
def test_clip_guidance_goes_through_the_decoder(folder: Path, tmp_path: Path, decoder: str) -> None:
    """A clean CLIP sees the predicted picture; its score rises with the scale."""
    carried = tmp_path / "model"
    carried.symlink_to(folder) if decoder == "full" else mirrored(folder, carried)
    if decoder == "tiny":
        tiny = pipelines.tiny_autoencoder()
        tiny.save_pretrained(carried / "vae_tiny")
    model = sf.load(str(carried), dtype="float32")
    judge = str(clip(tmp_path / "clip"))
    scores = []
    for scale in (0.0, 2.0):
        guide: Any = sf.CLIPGuidance(scale, clip=judge, noised=False, decoder=decoder)  # type: ignore[arg-type]
        *_, last = (model.process("red cat", steps=6) | sf.CFG(1) | guide).steps(seed=2)
        space = model.space if decoder == "full" else model.tiny()
        scores.append(agreement(model, judge, space.decode(last.x.detach())))
    assert scores[1] > scores[0]


def mirrored(source: Path, target: Path) -> None:
    """A folder of links, to which something can be added."""
    target.mkdir()
    for part in source.iterdir():
        (target / part.name).symlink_to(part)


def agreement(model: sf.Model, judge: str, made: torch.Tensor) -> float:
    found = model.clip(judge)
    seen = torch.nn.functional.interpolate(made, (24, 24), mode="bilinear", antialias=True)
    image = found.image(seen, torch.zeros(1))
    return float((image * found.text(["red cat"])).sum())


def test_what_makes_no_sense_on_latents_is_refused(model: sf.Model, tmp_path: Path) -> None:
    judge = str(clip(tmp_path / "clip"))
    cases = [
        (sf.CLIPGuidance(1.0, clip=judge), "has never seen latents; give noised=false"),
        (sf.CLIPGuidance(1.0), "this model has no CLIP; give clip"),
        (sf.CLIPGuidance(1.0, clip="no/such"), "sfumato models pull no/such"),
        (
            sf.CLIPGuidance(1.0, clip=judge, noised=False, decoder="tiny"),
            "no tiny autoencoder of this model here",
        ),
        (sf.Threshold("dynamic"), "latents, which have no bounds"),
    ]
    for guide, said in cases:
        with pytest.raises(SfumatoError, match=said):
            next((model.process("cat", steps=1) | guide).steps())


def test_previews_take_the_tiny_autoencoder(folder: Path, tmp_path: Path) -> None:
    mirrored(folder, tmp_path / "model")
    tiny = pipelines.tiny_autoencoder()
    tiny.save_pretrained(tmp_path / "model" / "vae_tiny")
    for root, expected in ((folder, "full"), (tmp_path / "model", "tiny")):
        model = sf.load(str(root), dtype="float32")
        steps = list(model.process("cat", steps=1).steps(seed=1))
        found = pixels(steps[-1].preview())
        latent = steps[-1].pixels()
        decoder = model.space.decode if expected == "full" else lambda x: tiny.decode(x).sample
        wanted = ((decoder(latent)[0] + 1) * 127.5).round().clamp(0, 255)
        assert abs(found - wanted.permute(1, 2, 0).detach().numpy()).max() <= 1, expected


def test_long_prompts_are_read_to_the_end_and_words_have_weights(model: sf.Model) -> None:
    text: Any = model.text
    long = "cat " * 30 + "red"
    found = text([long])["context"]
    assert found.shape[1] == 3 * 16, "31 words in chunks of 14"
    assert not torch.equal(found, text(["cat " * 30 + "blue"])["context"])
    both = model.process(long, negative="dog", steps=2) | sf.CFG(3.0)
    assert (both.calls, list(both.sample().calls)) == (2, [2]), "one call for both branches"
    plain, heavy = text(["a red cat"])["context"], text(["a (red:1.5) cat"])["context"]
    empty, faint = text([""])["context"], text(["a (red:0) cat"])["context"]
    others = [row for row in range(plain.shape[1]) if row != 2]
    assert torch.equal(heavy[:, others], plain[:, others]), "unweighted words stay"
    wanted = empty[0, 2] + 1.5 * (plain[0, 2] - empty[0, 2])
    assert torch.allclose(heavy[0, 2], wanted, atol=1e-5)
    assert torch.allclose(faint[0, 2], empty[0, 2], atol=1e-6)
    for figure in ("(ratio 16:9)", "(at 10: 30)", "(4 :3)"):
        assert [(piece.text, piece.weight) for piece in parse_weights(figure)] == [(figure, 1.0)]
    (piece,) = parse_weights("(model 3:1.5)")
    assert (piece.text, piece.weight) == ("model 3", 1.5)
    same = text(["a (red:1.0) cat"])["context"]
    assert torch.equal(same, plain)
    brackets = text(["a (red) cat"])["context"]
    assert not torch.equal(brackets, plain), "brackets without a number are text"
    with pytest.raises(SfumatoError, match="weight 50 of 'red'"):
        text(["(red:50)"])


def test_a_recipe_of_a_latent_model_runs_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    model = sf.load(str(folder), dtype="float32")
    photo().save(tmp_path / "in.png")
    edit = sf.SDEdit(tmp_path / "in.png", t0=0.5)
    (picture,) = (model.process("red cat", steps=2) | edit).sample(seed=3).images
    picture.save(tmp_path / "made.png")
    again = sf.run(tmp_path / "made.png").images[0]
    assert (pixels(again) == pixels(picture)).all()
    recorded = picture.recipe
    assert recorded is not None
    assert recorded.methods[-1]["scale"] == 7.5, "the card's guidance"


def test_unsupported_pipelines_are_named(folder: Path, tmp_path: Path) -> None:
    import json

    mirrored(folder, tmp_path / "model")
    index = json.loads((folder / "model_index.json").read_text())
    (tmp_path / "model" / "model_index.json").unlink()
    other = {k: v for k, v in index.items() if k != "unet"} | {"_class_name": "CogView4Pipeline"}
    other["transformer"] = ["diffusers", "CogView4Transformer2DModel"]
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(other))
    with pytest.raises(
        SfumatoError, match=r"CogView4Pipeline \(CogView4Transformer2DModel\) is not"
    ):
        sf.load(str(tmp_path / "model"))
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "model" / "vae").unlink()
    with pytest.raises(SfumatoError, match="vae: no weights there; the model is incomplete"):
        sf.load(str(tmp_path / "model"))
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    from sfumato.models.files import schedulers

    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({**scheduler, "beta_schedule": "exponential"}))
    with pytest.raises(SfumatoError, match="beta_schedule = 'exponential'"):
        schedulers.scheduler(file)


def test_tables_are_the_schedulers(folder: Path) -> None:
    """alpha_bar of every supported configuration, to float32's rounding."""
    import json

    from diffusers import DDIMScheduler

    from sfumato.models.files.schedulers import Scheduler
    from sfumato.models.loaders.noise_tables import noise_table

    own = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    cases: list[dict[str, Any]] = [
        own, {}, {"beta_schedule": "squaredcos_cap_v2"}, {"num_train_timesteps": 50},
        {"trained_betas": [0.01, 0.02, 0.05]}, {**own, "rescale_betas_zero_snr": True},
    ]  # fmt: skip
    for case in cases:
        given = {k: v for k, v in case.items() if not k.startswith("_")}
        given.pop("skip_prk_steps", None)
        if "trained_betas" in given and given["trained_betas"] is not None:
            given["num_train_timesteps"] = 3
        wanted = DDIMScheduler(**given).alphas_cumprod.double()
        found = torch.tensor(
            noise_table(Scheduler(kind="DDIMScheduler", **given)).alpha_bar, dtype=torch.float64
        )
        assert float((found - wanted).abs().max()) < 1e-5


@pytest.mark.parametrize("kind", ["ddpm", "ldm"])
def test_unconditional_pipelines_load_and_run(tmp_path: Path, kind: str) -> None:
    import diffusers

    inputs = 3 if kind == "ddpm" else 4
    net = diffusers.UNet2DModel(
        sample_size=8, in_channels=inputs, out_channels=inputs, block_out_channels=(16, 32),
        layers_per_block=1, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"), norm_num_groups=8, attention_head_dim=8,
    )  # fmt: skip
    pipelines.scrambled(net, 2)
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    if kind == "ddpm":
        pipe = diffusers.DDIMPipeline(unet=net, scheduler=scheduler)
    else:
        vqvae = diffusers.VQModel(
            block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4,
            num_vq_embeddings=64, vq_embed_dim=4, scaling_factor=0.5,
        )  # fmt: skip
        pipelines.scrambled(vqvae, 2)
        pipe = diffusers.LDMPipeline(vqvae=vqvae, unet=net, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path / "model")
    noise = torch.randn(1, inputs, 8, 8, generator=torch.Generator().manual_seed(3))
    model = sf.load(str(tmp_path / "model"), dtype="float32")
    pipe.scheduler.set_timesteps(5)
    times = (*((int(t) + 1) / 1000 for t in pipe.scheduler.timesteps), 0.0)
    from helpers.pictures import pixels_of

    ours = pixels_of(model.process(spacing=times, solver="ddim"), noise)
    theirs = pipe(generator=torch.Generator().manual_seed(3), num_inference_steps=5,
                  output_type="np").images  # fmt: skip
    wanted = torch.from_numpy(theirs).permute(0, 3, 1, 2)
    if kind == "ddpm":
        ours = pixels_of(model.process(spacing=times, solver="ddim") | sf.Threshold("none"), noise)
    assert float((ours - wanted).abs().max()) < 1e-4
    assert float(wanted.std()) > 0.02
    edit = (model.process(steps=2) | sf.SDEdit(photo(29, 17), t0=0.5)).sample()
    assert edit.images[0].size == (29, 17)
    with pytest.raises(SfumatoError, match="reads no text"):
        model.process("a cat")
