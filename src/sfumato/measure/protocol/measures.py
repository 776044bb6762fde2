"""The measures of one subject's pictures, and the networks that take them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sfumato import images
from sfumato.core.errors import SfumatoError
from sfumato.measure import features
from sfumato.measure.features import Features
from sfumato.metrics import fidelity
from sfumato.metrics.kernel import Estimate, interval
from sfumato.train.subject.class_pictures import pixels

MEASURES = {"DINO": "dino", "CLIP-I": "clip", "CLIP-T": "clip", "PRES": "dino", "DIV": "lpips"}
"""Each with the network that it needs."""


@dataclass(frozen=True, eq=False)
class Networks:
    """What measures: DINO's features; a CLIP's of pictures, and of texts; LPIPS's vectors."""

    dino: Features | None = None
    clip: Features | None = None
    text: Callable[[Sequence[str]], Tensor] | None = None
    lpips: Features | None = None

    @classmethod
    def of(cls, dino: str | None, clip: str | None, lpips: str | None, device: str) -> Networks:
        """From folders of transformers, and for LPIPS a TorchScript file."""
        if not (dino or clip or lpips):
            raise SfumatoError("eval: nothing to measure with; give --dino, --clip or --lpips")
        images_of, texts_of = features.clip(clip, device) if clip else (None, None)
        return cls(
            features.load(dino, device, token=True) if dino else None,
            images_of,
            texts_of,
            features.lpips(lpips, device) if lpips else None,
        )

    def look(self, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
        """Vectors (N, d) of pictures (3, H, W) in [-1, 1], by the measure that they are for."""
        networks = {"DINO": self.dino, "CLIP-I": self.clip}
        return {
            name: torch.cat([network(picture[None]) for picture in pictures])
            for name, network in networks.items()
            if network is not None
        }


def distances(lpips: Features, pictures: Sequence[Tensor]) -> Tensor:
    """LPIPS of every two pictures, (N, N)."""
    vectors = [lpips(picture[None])[0] for picture in pictures]
    rows = [[float((a - b).square().sum()) for b in vectors] for a in vectors]
    return torch.tensor(rows)


def measure_subject(
    networks: Networks,
    photos: Sequence[Tensor],
    prompts: Sequence[tuple[str, list[Path]]],
    of_class: Sequence[Path],
) -> tuple[dict[str, Estimate], dict[str, float]]:
    """A subject's measures, and the mean cosines of its different photos.

    prompts: what CLIP reads, with the pictures. Intervals are over pictures, DIV's over prompts.
    """
    values: dict[str, list[Tensor]] = {name: [] for name in MEASURES}
    real = networks.look(photos)
    for text, files in prompts:
        pictures = [pixels(images.open_image(file)) for file in files]
        generated = networks.look(pictures)
        for name, vectors in generated.items():
            values[name].append(fidelity.subject_fidelity(vectors, real[name]))
        if networks.text is not None:
            texts = networks.text([text]).expand(len(pictures), -1)
            values["CLIP-T"].append(fidelity.prompt_fidelity(generated["CLIP-I"], texts))
        if networks.lpips is not None and len(pictures) > 1:
            if len({picture.shape for picture in pictures}) > 1:
                raise SfumatoError(f"{files[0].parent}: pictures of several sizes have no LPIPS")
            values["DIV"].append(
                torch.tensor([fidelity.diversity(distances(networks.lpips, pictures))])
            )
    if networks.dino is not None and of_class:
        others = networks.look([pixels(images.open_image(file)) for file in of_class])
        values["PRES"].append(fidelity.pres(others["DINO"], real["DINO"]))
    ceilings = {name: fidelity.real_ceiling(v) for name, v in real.items() if len(v) > 1}
    return {n: interval(torch.cat(v).tolist()) for n, v in values.items() if v}, ceilings
