"""A diffusion network: base, inpainting and upsampler alike, whole or as a low-rank adapter."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.denoiser import Cond, Denoiser, Kind
from sfumato.core.errors import SfumatoError
from sfumato.core.mixture import Branch
from sfumato.core.noise import keyed
from sfumato.core.process import Process
from sfumato.core.schedule import named
from sfumato.methods.threshold import Clamp
from sfumato.models.card import Part
from sfumato.models.devices import DTYPES, choose
from sfumato.nn import lora
from sfumato.nn.unet import UNet, UNetConfig
from sfumato.train import checkpoint, networks, redrawn, super_resolution, warm_start
from sfumato.train.batches import Batches
from sfumato.train.config import Config
from sfumato.train.data.erasing import erased
from sfumato.train.grids import tiled
from sfumato.train.reads import Reads
from sfumato.train.tuners import Outcome

READS = Reads(packed=True, network=True, levels=True, times=True, denoiser=True, adapter=True)
QUARTERS = ("0-250", "250-500", "500-750", "750-1000")
"""Parts of the time axis in thousandths, for the log's columns."""


@dataclass(frozen=True)
class Batch:
    """x0 and noise (B, 3, S, S), the condition, and for each row its time and importance.

    pooled (B, 1): 0 where the pooled text vector is dropped, else 1.
    """

    x0: Tensor
    noise: Tensor
    cond: Cond
    times: list[float]
    importance: list[float]
    pooled: Tensor | None = None


class Diffusion:
    """Implements Tuner."""

    def __init__(self, config: Config, data: Path, folder: Path, device: str) -> None:
        self.config, self.device = config, device
        self.seed = config.run.seed
        self.batches = Batches(config, data, folder, device)
        self.base: dict[str, str] = {}
        self.net = self._network()
        self.redrawer = self._redrawer()
        self.adapter: dict[str, nn.Parameter] = {}
        if config.adapter.rank:
            adapter = config.adapter
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(keyed(f"{self.seed}/adapter"))
                self.adapter = lora.attach(self.net, adapter.rank, adapter.alpha, adapter.targets)
        self.denoiser = Denoiser(
            self.net,
            named(config.model.schedule, config.model.table),
            cast(Kind, config.model.kind),
            config.model.learned_range,
        )
        self.trained = self.denoiser
        if config.optim.compile:
            self.trained = replace(self.denoiser, network=torch.compile(self.net))
        text = self.net.config.xf_width
        shape = self.net.config
        self.prompts = self.batches.prompts(shape.text_ctx, shape.n_vocab) if text else None

    def _network(self) -> UNet:
        model = self.config.model
        shape = networks.described(UNetConfig, model.network)
        if shape.out_channels != (wanted := shape.in_channels * (2 if model.learned_range else 1)):
            raise SfumatoError(
                f"model.network.out_channels = {shape.out_channels}: must be {wanted}, for "
                f"{shape.in_channels} channels {'and' if model.learned_range else 'without'} a "
                "learned variance"
            )
        net = networks.initialised(lambda: UNet(shape), self.seed)
        if model.start:
            part: Part = "upsampler" if net.config.low_res else "base"
            self.base = warm_start.start(net, model.start, part, self.batches.tokenizer_file)
        dtype = choose(self.device, self.config.optim.dtype).dtype
        return net.to(self.device).cast(DTYPES[dtype]).train()

    def _redrawer(self) -> redrawn.Base | None:
        data = self.config.data
        if not data.base:
            return None
        if not self.low_res:
            raise SfumatoError("data.base: redraws what an upsampler reads; leave it out")
        base = redrawn.Base(data.base, self.device)
        self.base |= base.digests
        return base

    def digests(self) -> dict[str, str]:
        return self.batches.digests(words=True) | self.base

    def parameters(self) -> dict[str, nn.Parameter]:
        return self.adapter or dict(self.net.named_parameters())

    @property
    def low_res(self) -> bool:
        return self.net.config.low_res

    @property
    def factor(self) -> int:
        return self.config.model.factor

    def batch(self, step: int, share: slice) -> Batch:
        data, n = self.config.data, self.config.optim.batch
        plans = self.batches.plans(step, share)
        rng = self.batches.rng("times", step)
        times = self.config.objective.times(n, self.denoiser.schedule, rng)[share]
        x0, small = self.batches.pixels(plans), None
        if self.low_res:
            small = self._lowered(x0, [plan.caption for plan in plans], step, share)
        if data.crop:
            x0, small = self._cropped(x0, small, step, share)
        noise = self.batches.randn((n, *x0.shape[1:]), "noise", step)[share]
        cond: dict[str, Tensor] = {}
        if self.prompts is not None:
            cond |= self.prompts([plan.caption for plan in plans]).map(lambda v: v.to(self.device))
        if small is not None:
            cond["low_res"] = self._noised(small, step, share)
        if self.net.config.inpaint:
            known = erased(step, n, x0.shape[-1], self.seed, self.device)[share]
            cond |= {"inpaint_image": x0 * known, "inpaint_mask": known}
        pooled = self._pooled(step, share) if self.prompts and data.pooled_drop else None
        return Batch(x0, noise, Cond(cond), [t for t, _ in times], [w for _, w in times], pooled)

    def _pooled(self, step: int, share: slice) -> Tensor:
        """Which rows keep their pooled text vector."""
        rng, n = self.batches.rng("pooled", step), self.config.optim.batch
        kept = [float(rng.random() >= self.config.data.pooled_drop) for _ in range(n)][share]
        return torch.tensor(kept, device=self.device)[:, None]

    def _cropped(
        self, x0: Tensor, small: Tensor | None, step: int, share: slice
    ) -> tuple[Tensor, Tensor | None]:
        """Random squares whose corners lie on the low-resolution grid, of both sizes."""
        side, n, factor = self.config.data.crop, self.config.optim.batch, self.factor
        rng = self.batches.rng("crop", step)
        places = super_resolution.corners(x0.shape, side, factor, n, rng)[share]
        if small is not None:
            corners = [(y // factor, x // factor) for y, x in places]
            small = super_resolution.cut(small, side // factor, corners)
        return super_resolution.cut(x0, side, places), small

    def _lowered(self, x0: Tensor, texts: Sequence[str], step: int, share: slice) -> Tensor:
        """The small pictures, some of them as the base redraws them."""
        small, data = F.avg_pool2d(x0, self.factor), self.config.data
        if self.redrawer is None:
            return small
        rng, n = self.batches.rng("redrawn", step), self.config.optim.batch
        t = rng.uniform(0.05, data.base_level)
        chosen = [rng.random() < data.base_share for _ in range(n)][share]
        rows = torch.tensor([k for k, yes in enumerate(chosen) if yes], device=self.device)
        if len(rows):
            noise = self.batches.randn((n, *small.shape[1:]), "redrawn", step)[share]
            words = [text for text, yes in zip(texts, chosen, strict=True) if yes]
            small[rows] = self.redrawer.redraw(small[rows], words, t, noise[rows])
        return small

    def _noised(self, small: Tensor, step: int, share: slice) -> Tensor:
        """Noise of a random amount for each row."""
        n, rng = self.config.optim.batch, self.batches.rng("low", step)
        amounts = [rng.uniform(0, self.config.data.low_noise) for _ in range(n)][share]
        noise = self.batches.randn((n, *small.shape[1:]), "low", step)[share]
        return super_resolution.noised(small, amounts, noise)

    def loss(self, batch: Batch, step: int) -> Outcome:
        torch.manual_seed(keyed(f"{self.seed}/dropout/{step}/{os.environ.get('RANK', '0')}"))
        cond = batch.cond
        if batch.pooled is not None:
            prepared = self.net.prepare(cond)
            cond = Cond(prepared | {"text_emb": prepared["text_emb"] * batch.pooled})
        loss = self.config.objective.at(
            self.trained, batch.x0, cond, batch.noise, batch.times, batch.importance
        )
        quarters: list[list[float]] = [[] for _ in QUARTERS]
        for t, mse in zip(loss.times, loss.mse.tolist(), strict=True):
            quarters[min(math.ceil(t * 4) - 1, 3)].append(mse)
        parts = {
            name: sum(values) / len(values) if values else math.nan
            for name, values in zip(QUARTERS, quarters, strict=True)
        }
        if loss.vb is not None:
            parts["vb"] = float(loss.vb.mean())
        return Outcome(loss.total, parts)

    def judge(self) -> dict[str, float]:
        """MSE on the target at four levels: training and held-out pictures, without caption too."""
        errors: dict[str, float] = {}
        self.net.eval()
        for test, who in zip(self.batches.tests, ("train", "held-out"), strict=False):
            for worded in ("", " no caption") if self.prompts and who != "train" else ("",):
                texts = [""] * len(test.texts) if worded else test.texts
                for t in (0.125, 0.375, 0.625, 0.875):
                    errors[f"{who}{worded} {t:g}"] = self._error(test.pixels, texts, t)
        self.net.train()
        return errors

    def _error(self, x0: Tensor, texts: Sequence[str], t: float, rows: int = 64) -> float:
        total = 0.0
        noise = self.batches.randn(tuple(x0.shape), "judge", 0)
        for k in range(0, len(x0), rows):
            part = slice(k, k + rows)
            cond = dict(self.prompts(texts[part])) if self.prompts else {}
            cond = {name: v.to(self.device) for name, v in cond.items()}
            if self.low_res:
                cond["low_res"] = F.avg_pool2d(x0[part], self.factor)
            times = [t] * len(x0[part])
            loss = self.config.objective.at(self.denoiser, x0[part], Cond(cond), noise[part], times)
            total += float(loss.mse.sum())
        return total / len(x0)

    def show(self, file: Path) -> None:
        """Prompts of the recipe, two seeds each; an upsampler: input, output, truth."""
        self.net.eval()
        rows, labels = self._upsampled() if self.low_res else self._prompted()
        self.net.train()
        checkpoint.put_picture(file, tiled(rows, labels=labels))

    def _prompted(self) -> tuple[list[Tensor], list[str]]:
        prompts = list(self.config.run.prompts) or self.batches.tests[0].texts[:24]
        cond, null = Cond(), None
        if self.prompts is not None:
            cond = self.prompts(prompts).map(lambda v: v.to(self.device))
            null = self.prompts([""]).map(lambda v: v.to(self.device))
        size = self.config.data.size
        process = Process(
            self.denoiser, (3, size, size), cond, null, n=len(prompts), n_steps=16,
            solver="dpmpp-2m", device=self.device,
        )  # fmt: skip
        process = process.add(guides=[Clamp(-1.0, 1.0)])
        if null is not None:
            process = process.add(aways=[Branch("away", weight=3.0)])
        columns = [process.sample(seed=1000 * k) for k in range(2)]
        rows = list(torch.split(torch.stack(columns, dim=1).flatten(0, 1), 12))
        pairs = [" | ".join(prompts[k : k + 2]) for k in range(0, len(prompts), 2)]
        return rows, ["\n".join(pairs[k : k + 3]) for k in range(0, len(pairs), 3)]

    def _upsampled(self) -> tuple[list[Tensor], list[str]]:
        x0 = self.batches.tests[-1].pixels[:12]
        low = F.avg_pool2d(x0, self.factor)
        process = Process(
            self.denoiser, tuple(x0.shape[1:]), Cond({"low_res": low}), n=len(x0), n_steps=6,
            solver="dpmpp-2m", device=self.device,
        )  # fmt: skip
        sampled = process.add(guides=[Clamp(-1.0, 1.0)]).sample(seed=0)
        return [F.interpolate(low, x0.shape[-2:]), sampled, x0], ["given", "made", "true"]

    def export(self, folder: Path, average: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """Shards in float16, stage.json and maybe the tokenizer; or the adapter's one file."""
        if self.adapter:
            adapter = self.config.adapter
            note = {"alpha": adapter.alpha, "rank": adapter.rank, "training": dict(facts)}
            checkpoint.write(folder / "adapter.safetensors", average, note)
            return folder / "adapter.safetensors"
        full = {**self.net.state_dict(), **average}
        half = {name: tensor.half() for name, tensor in full.items()}
        stem = "upsampler" if self.low_res else "base"
        names = checkpoint.write_shards(folder, stem, half)
        model = self.config.model
        stage = {
            "network": asdict(self.net.config),
            "weights": names,
            "schedule": model.schedule,
            "table": model.table,
            "kind": model.kind,
            "learned_range": model.learned_range,
            "factor": self.factor,
            "training": dict(facts),
        }
        if self.prompts is not None:
            stage["tokenizer"] = "tokenizer.json"
            checkpoint.put_text(
                folder / "tokenizer.json", self.batches.tokenizer_file.read_text(encoding="utf-8")
            )
        checkpoint.put_text(folder / "stage.json", json.dumps(stage, indent=1))
        return folder


def tuner(config: Config, data: Path, folder: Path, device: str) -> Diffusion:
    """What `tuner = "diffusion"` in a recipe makes."""
    return Diffusion(config, data, folder, device)
