"""Claim: a DreamBooth step here is twice as fast as a plain loop, at the same loss.

The peer is a loop as the public scripts write it: each step opens the pictures, encodes them with
the autoencoder and the prompts with the text encoder, and runs the network with peft's adapters on
both halves of the batch. Ours keeps latents and text vectors and merges its adapters.
Both take the same rows, noise, times and starting weights on a latent pipeline of random weights
(network 15 M, autoencoder and text encoder of half their usual width), each in a process of its own
for its peak memory. `python benchmarks/dreambooth.py [--steps N]`.
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
from PIL import Image
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
SIDE, STRIDE = 128, 8


def pipeline(folder: Path) -> None:
    """A small pipeline whose parts cost about what they do in Stable Diffusion."""
    import diffusers

    from helpers import pipelines

    vae = diffusers.AutoencoderKL(
        block_out_channels=(64, 128, 256, 256), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, layers_per_block=2,
    )  # fmt: skip
    unet = diffusers.UNet2DConditionModel(
        sample_size=SIDE // STRIDE, block_out_channels=(96, 192), layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=384,
        attention_head_dim=8,
    )  # fmt: skip
    pipe = diffusers.StableDiffusionPipeline(
        vae=vae, unet=unet, tokenizer=pipelines.tokenizer(folder / "words"),
        text_encoder=pipelines.encoder(384, layers=12, heads=6), scheduler=pipelines.scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder / "pipeline")


def pictures(folder: Path, n: int, seed: int) -> None:
    """Smooth random pictures of a phone's shape of file."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    for k in range(n):
        small = torch.rand(1, 3, 6, 6, generator=generator)
        large = F.interpolate(small, (1024, 1024), mode="bicubic").clamp(0, 1)[0]
        pixels = (large * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{k}.jpg", quality=92)


def tuner_of(root: Path, steps: int) -> Any:
    from sfumato.train import config
    from sfumato.train.tuners import dreambooth

    tables = {
        "name": "bench", "tuner": "dreambooth", "model": {"start": str(root / "pipeline")},
        "subject": {"pictures": str(root / "subject"), "noun": "dog", "name": "jok",
                    "class_folder": str(root / "class"), "drop": 0.0},
        "adapter": {"rank": 4, "alpha": 4.0},
        "objective": {"times": "uniform", "weighting": "plain"},
        "optim": {"batch": 1, "steps": steps, "rate": 1e-4, "warmup": 1, "decay_from": 1.0,
                  "ema": 0.0, "weight_decay": 0.01, "dtype": "float32"},
    }  # fmt: skip
    made = config.parse(tables)
    return made, dreambooth.tuner(made, root / "subject", root / "run", "cpu")


def ours(root: Path, steps: int) -> tuple[float, list[float]]:
    """Seconds a step and the losses of the trainer's own parts."""
    from sfumato.train.optim import Weights

    config, tuner = tuner_of(root, steps)
    weights = Weights(tuner.parameters(), config.optim)
    losses = []
    for step in range(steps):
        if step == 2:
            began = time.perf_counter()
        outcome = tuner.loss(tuner.batch(step, slice(0, 1)), step)
        outcome.total.backward()
        weights.step(step, weights.gather())
        losses.append(float(outcome.total.detach()))
    return (time.perf_counter() - began) / (steps - 2), losses


def plain(root: Path, steps: int) -> tuple[float, list[float]]:
    """The peer; rows, noise, times and starting weights are the tuner's."""
    import diffusers
    from peft import LoraConfig

    _, tuner = tuner_of(root, steps)
    batches = [tuner.batch(step, slice(0, 1)) for step in range(steps)]
    rows = [row_order(tuner, step) for step in range(steps)]
    start = {name: value.detach().clone() for name, value in tuner.parameters().items()}
    del tuner
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(root / "pipeline")
    unet, vae, encoder, words = pipe.unet, pipe.vae, pipe.text_encoder, pipe.tokenizer
    for net in (unet, vae, encoder):
        net.requires_grad_(False)
    unet.add_adapter(
        LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    )
    trained = {n: p for n, p in unet.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in trained.items():
            layer, _, which = name.removesuffix(".default.weight").rpartition(".")
            mine = start[f"unet.{layer}.{'down' if which == 'lora_A' else 'up'}"]
            parameter.copy_(mine.view_as(parameter))
    adam = torch.optim.AdamW(list(trained.values()), lr=1e-4, betas=(0.9, 0.99), weight_decay=0.01)
    table = pipe.scheduler.alphas_cumprod
    files = [sorted((root / name).iterdir()) for name in ("subject", "class")]
    losses = []
    for step, (batch, chosen) in enumerate(zip(batches, rows, strict=True)):
        if step == 2:
            began = time.perf_counter()
        both = [batch.subject, batch.classes]
        pixels = torch.stack([opened(files[k][chosen[k]]) for k in range(2)])
        with torch.no_grad():
            latents = vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
            ids = words(
                [part.texts[0] for part in both], padding="max_length", max_length=16,
                return_tensors="pt",
            ).input_ids  # fmt: skip
            context = encoder(ids)[0]
        noise = torch.cat([part.noise for part in both])
        index = torch.tensor([round(part.times[0][0] * 1000) - 1 for part in both])
        bar = table[index].view(-1, 1, 1, 1)
        noisy = bar.sqrt() * latents + (1 - bar).sqrt() * noise
        out = unet(noisy, index, encoder_hidden_states=context).sample
        mine, prior = ((out - noise) ** 2).flatten(1).mean(1)
        loss = mine + prior
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        adam.step()
        adam.zero_grad()
        losses.append(float(loss.detach()))
    return (time.perf_counter() - began) / (steps - 2), losses


def row_order(tuner: Any, step: int) -> tuple[int, int]:
    """Which pictures a step takes."""
    found = []
    for album in (tuner.album, tuner.class_album):
        found.append(album.turn(range(len(album.states)), step))
    return found[0], found[1]


def opened(file: Path) -> torch.Tensor:
    import numpy as np

    image = Image.open(file).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(image).astype(np.float32) / np.float32(127.5) - 1
    return torch.from_numpy(values).permute(2, 0, 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--only", choices=["ours", "plain"])
    parser.add_argument("--root", type=Path)
    given = parser.parse_args()
    if given.only:
        seconds, losses = {"ours": ours, "plain": plain}[given.only](given.root, given.steps)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "losses": losses, "peak": peak}))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pipeline(root)
        pictures(root / "subject", 4, 1)
        pictures(root / "class", 16, 2)
        found = {}
        for who in ("plain", "ours"):
            command = [sys.executable, __file__, "--only", who, "--root", str(root)]
            done = subprocess.run(
                [*command, "--steps", str(given.steps)], stdout=subprocess.PIPE, check=True
            )
            found[who] = json.loads(done.stdout.splitlines()[-1])
    for who, row in found.items():
        print(
            f"{who:6} {1 / row['seconds']:6.2f} steps/s   peak {row['peak']:6.0f} MB   "
            f"last loss {row['losses'][-1]:.6f}"
        )
    gap = max(
        abs(a - b) for a, b in zip(found["plain"]["losses"], found["ours"]["losses"], strict=True)
    )
    ratio = found["plain"]["seconds"] / found["ours"]["seconds"]
    print(f"ours is {ratio:.2f} times as fast; losses differ by at most {gap:.1e}")


if __name__ == "__main__":
    main()
