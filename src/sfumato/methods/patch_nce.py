"""Patchwise contrastive loss (CUT, arXiv 2007.15651): each place stays most like itself.

A place of the result must be told from other places of the content by its features; what they look
like in absolute terms is free. No head is trained here, the features of a layer are centred over
its positions instead and normalised; a denoiser's serve as well (ZeCon, arXiv 2303.08622).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sfumato.core.lazy import torch
from sfumato.methods import knob, method
from sfumato.methods.common.contrast import contrast
from sfumato.methods.common.loss import FeatureLoss
from sfumato.methods.common.penalty import Measure, View

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.context import Run


@method
class PatchNCE(FeatureLoss):
    """Cross-entropy of telling the same place of the content, mean of positions, sum of layers.

    3D renders redrawn as ink on the bundled base (t0 = 0.6, its own features): loss 4.9, with
    weight 10 3.2, with 30 1.8, with 100 1.1.
    """

    weight: Annotated[
        float, knob("strength: every place stays most like itself", main=True, ge=0, le=1e6)
    ] = 30.0
    tau: Annotated[float, knob("temperature of the softmax", gt=0, le=10)] = 0.07
    positions: Annotated[int, knob("of each layer, the same at every step", ge=2, le=4096)] = 256

    def measure(self, run: Run) -> Measure:
        features = self.extractor(run)
        content = self.maps(features, features.contrast, run)
        where = {name: self.chosen(name, maps, run) for name, maps in content.items()}
        keys = {name: rows(centred(content[name]), positions) for name, positions in where.items()}

        def measured(view: View) -> Tensor:
            maps = view.maps(features)
            losses = []
            for name, positions in where.items():
                queries = rows(centred(maps[name].float()), positions)
                losses.append(contrast(queries, keys[name], self.tau).mean(1))
            return torch.stack(losses).sum(0)

        return measured

    def chosen(self, name: str, content: Tensor, run: Run) -> Tensor:
        """(n, positions) indices into h w: all, or if there are more, drawn for each picture."""
        total = content.shape[2] * content.shape[3]
        if total <= self.positions:
            return torch.arange(total, device=content.device).expand(run.n, total)
        drawn = run.noise.draw(f"positions {name}", 0, 0, torch.empty(run.n, total))
        return drawn.argsort(1)[:, : self.positions].to(content.device)


def centred(maps: Tensor) -> Tensor:
    """(B, C, h, w) less each channel's mean over the positions."""
    return maps - maps.mean((2, 3), keepdim=True)


def rows(maps: Tensor, positions: Tensor) -> Tensor:
    """(B or 1, C, h, w) and (B, P) -> the features at those positions, (B, P, C)."""
    flat = maps.flatten(2).transpose(1, 2)
    flat = flat.expand(len(positions), *flat.shape[1:])
    return flat.gather(1, positions[..., None].expand(-1, -1, flat.shape[2]))
