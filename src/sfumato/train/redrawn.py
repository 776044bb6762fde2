"""Small pictures as a base redraws them: the low-resolution input that its upsampler will meet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sfumato.core.noise import Tape
from sfumato.core.process import Process
from sfumato.methods.sdedit import SDEdit
from sfumato.methods.threshold import Clamp
from sfumato.models.loaders.library import load
from sfumato.train import warm_start
from sfumato.train.captioned import cutting

STEPS = 4


class Base:
    """A base that redraws pictures: noised to t, then STEPS transitions back to 0 with the caption
    of each and no guidance (SDEdit, arXiv 2108.01073).

    What comes out shows what the picture shows, with the base's own faults, so the large picture
    stays the truth of both. name: bundled, or a model's folder.
    """

    def __init__(self, name: str, device: str) -> None:
        self.model = cutting(load(name, device=device))
        self.digests = warm_start.digests(warm_start.earlier(name, "base")[0], "data.base")

    def redraw(self, pictures: Tensor, texts: Sequence[str], t: float, noise: Tensor) -> Tensor:
        """pictures, noise (B, 3, S, S) -> (B, 3, S, S) in [-1, 1]."""
        process = Process(
            self.model.denoiser, tuple(pictures.shape[1:]), self.model.encode(list(texts)),
            n=len(pictures), n_steps=STEPS, solver="dpmpp-2m", device=str(pictures.device),
        )  # fmt: skip
        redrawn = process.add(guides=[Clamp(-1.0, 1.0)]) | SDEdit(pictures, t0=t)
        sampled: Tensor = redrawn.sample(noise=Tape({("start", 0): noise}))
        return sampled.clamp(-1, 1)
