"""Claim: a picture takes a quarter of what diffusers takes by default, and less at equal types.

Four ways: theirs by default (float32) and in bfloat16, ours in float32 and by default. All get the
same weights, prompts, noise, DDIM times and guidance. Per family: seconds a picture and their ratio
(median of rounds, 95 % interval), dB to their float32 picture, peak memory, seconds to load. Each
round runs every way in a process of its own, the order turning. Weights are random. Families: sd1
has Stable Diffusion 1.5's shape (860 M); sdxl and sd3 are of their kind, a tenth as wide.

`python benchmarks/against_diffusers.py [--family NAME] [--rounds N]`; `--quick` takes sd1 at half
its width, three rounds and smaller pictures: under five minutes on two cores that do nothing else.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
WAYS = ("theirs float32", "theirs bfloat16", "ours float32", "ours default")
PAIRS = (
    ("ours default", "theirs float32", 4.0),
    ("ours float32", "theirs float32", 1.15),
    ("ours default", "theirs bfloat16", 1.15),
)
"""Ours, theirs, and by how much ours is to be faster."""
PROMPT, NEGATIVE, SCALE, REPEATS = "a red cat on a blue sofa", "blurred", 5.0, 3
FAMILIES = ("sd1", "sdxl", "sd3")


def autoencoder(width: int, channels: int = 4, **options: Any) -> Any:
    import diffusers

    return diffusers.AutoencoderKL(
        block_out_channels=(width, 2 * width, 4 * width, 4 * width), latent_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2, **options,
    )  # fmt: skip


def pipeline(folder: Path, family: str, quick: bool) -> None:
    """Saves a pipeline of random weights."""
    import diffusers

    from helpers import pipelines

    torch.manual_seed(0)
    ddim: Any = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    words = pipelines.tokenizer(folder / "words")
    if family == "sd3":
        pipe: Any = diffusers.StableDiffusion3Pipeline(
            vae=autoencoder(64, 16, scaling_factor=1.5, shift_factor=0.06),
            tokenizer=words, tokenizer_2=words, tokenizer_3=None, text_encoder_3=None,
            text_encoder=pipelines.encoder(256, projected=True, layers=6, heads=4),
            text_encoder_2=pipelines.encoder(512, projected=True, layers=6, heads=8),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            transformer=diffusers.SD3Transformer2DModel(
                sample_size=32, num_layers=8, num_attention_heads=8, attention_head_dim=64,
                caption_projection_dim=512, joint_attention_dim=1024, pooled_projection_dim=768,
                pos_embed_max_size=64, in_channels=16, out_channels=16,
            ),
        )  # fmt: skip
    elif family == "sdxl":
        pipe = diffusers.StableDiffusionXLPipeline(
            vae=autoencoder(64), tokenizer=words, tokenizer_2=words, scheduler=ddim,
            text_encoder=pipelines.encoder(256, layers=6, heads=4),
            text_encoder_2=pipelines.encoder(512, projected=True, layers=6, heads=8),
            unet=diffusers.UNet2DConditionModel(
                sample_size=32, block_out_channels=(96, 192, 384), layers_per_block=2,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 2, 4), attention_head_dim=(4, 6, 12),
                cross_attention_dim=768, use_linear_projection=True, norm_num_groups=32,
                addition_embed_type="text_time", addition_time_embed_dim=32,
                projection_class_embeddings_input_dim=512 + 6 * 32,
            ),
        )  # fmt: skip
    else:
        part = 2 if quick else 1
        pipe = diffusers.StableDiffusionPipeline(
            vae=autoencoder(128 // part), tokenizer=words, scheduler=ddim,
            text_encoder=pipelines.encoder(768, layers=12, heads=12),
            unet=diffusers.UNet2DConditionModel(
                sample_size=64, cross_attention_dim=768, attention_head_dim=8,
                block_out_channels=tuple(w // part for w in (320, 640, 1280, 1280)),
            ),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
    pipe.save_pretrained(folder / "pipeline")


def measured(folder: Path, family: str, way: str, side: int, steps: int) -> dict[str, Any]:
    """One way in this process: seconds of each picture and to load, peak memory, the picture."""
    channels = 16 if family == "sd3" else 4
    noise = torch.randn(1, channels, side // 8, side // 8,
                        generator=torch.Generator().manual_seed(1))  # fmt: skip
    began = time.perf_counter()
    draw = (
        theirs(folder, way, noise, side)
        if way.startswith("theirs")
        else ours(folder, way, noise, side)
    )
    loading = time.perf_counter() - began
    draw(1)  # warms up
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        pixels = draw(steps)
        seconds.append(time.perf_counter() - began)
    torch.save(pixels, folder / f"{way}.pt")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "load": loading, "peak": peak}


def theirs(folder: Path, way: str, noise: torch.Tensor, side: int) -> Any:
    import diffusers

    options: dict[str, Any] = {"torch_dtype": torch.bfloat16} if way.endswith("bfloat16") else {}
    index = json.loads((folder / "model_index.json").read_text())
    options |= {name: None for name, part in index.items() if part == [None, None]}  # it has none
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, **options)
    pipe.set_progress_bar_config(disable=True)

    def draw(steps: int) -> torch.Tensor:
        images: torch.Tensor = pipe(
            PROMPT, negative_prompt=NEGATIVE, latents=noise.to(pipe.dtype), height=side, width=side,
            guidance_scale=SCALE, num_inference_steps=steps, output_type="pt",
        ).images  # fmt: skip
        return images.float()

    return draw


def ours(folder: Path, way: str, noise: torch.Tensor, side: int) -> Any:
    import sfumato as sf
    from sfumato.core.noise import Tape

    model = sf.load(str(folder), dtype="auto" if way.endswith("default") else "float32")

    def draw(steps: int) -> torch.Tensor:
        process = model.process(
            PROMPT, negative=NEGATIVE, steps=steps, size=side, solver="ddim", spacing="model"
        ) | sf.CFG(SCALE)
        with torch.no_grad():
            loop = process.begin(noise=Tape({("prior", 0): noise, ("start", 0): noise}))
            state = loop.walk()
            assert state is not None
            return (loop.run.decode(state) / 2 + 0.5).clamp(0, 1)

    return draw


def decibels(one: torch.Tensor, exact: torch.Tensor) -> float:
    """Of values in [0, 1]."""
    return float(-10 * torch.log10((one - exact).pow(2).mean().clamp_min(1e-14)))


def compare(family: str, rounds: int, side: int, steps: int, quick: bool) -> bool:
    """Prints a family's table; whether every aim was met."""
    from sfumato.metrics.kernel import bootstrap

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        pipeline(root, family, quick)
        told: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for k in range(rounds):
            for way in (*WAYS[k % 4 :], *WAYS[: k % 4]):
                command = [sys.executable, __file__, "--one", str(root / "pipeline"), family, way,
                           str(side), str(steps)]  # fmt: skip
                ran = subprocess.run(command, capture_output=True, text=True)
                if ran.returncode:
                    raise SystemExit(ran.stderr)
                told[way].append(json.loads(ran.stdout.splitlines()[-1]))
        pixels = {way: torch.load(root / "pipeline" / f"{way}.pt") for way in WAYS}
    print(f"\n{family}, {side} px, {steps} steps with guidance, {rounds} rounds of {REPEATS}")
    print("| way | s a picture | s to load | peak MB | dB to theirs in float32 |")
    print("|---|---|---|---|---|")

    def middle(values: list[float]) -> float:
        return float(torch.tensor(values).median())

    best = {way: [min(run["seconds"]) for run in runs] for way, runs in told.items()}
    for way, runs in told.items():
        near = decibels(pixels[way], pixels["theirs float32"])
        equal = "" if way == "theirs float32" else f"{near:.1f}"
        print(f"| {way} | {middle(best[way]):.2f} | {middle([r['load'] for r in runs]):.1f} | "
              f"{middle([r['peak'] for r in runs]):.0f} | {equal} |")  # fmt: skip
    met = True
    for one, other, aim in PAIRS:
        ratios = torch.tensor(best[other]) / torch.tensor(best[one])

        def mid(indices: torch.Tensor, ratios: torch.Tensor = ratios) -> float:
            return float(ratios[indices].quantile(0.5))

        spread = bootstrap(mid, rounds)
        held = float(ratios.quantile(0.5)) >= aim
        met &= held
        memory = middle([r["peak"] for r in told[one]]) / middle([r["peak"] for r in told[other]])
        print(f"{one} against {other}: {spread} times as fast (aim {aim}: "
              f"{'held' if held else 'not held'}), {memory:.2f} of its peak memory")  # fmt: skip
    return met


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", nargs=5, metavar=("FOLDER", "FAMILY", "WAY", "SIDE", "STEPS"))
    parser.add_argument("--family", choices=FAMILIES, action="append")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    if asked.one:
        folder, family, way, side, steps = asked.one
        print(json.dumps(measured(Path(folder), family, way, int(side), int(steps))))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    families = asked.family or (FAMILIES[:1] if asked.quick else FAMILIES)
    for family in families:
        side = 128 if asked.quick else 256
        compare(family, asked.rounds or (3 if asked.quick else 8), side, 4, asked.quick)


if __name__ == "__main__":
    main()
