"""Prior preservation (DreamBooth, arXiv 2208.12242): what the subject's and the class's rows weigh.

The class pictures come from the untouched model, so that "a dog" stays what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Convention = Literal["sum", "mean"]


def per_sample(out: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error of each row (B,), over channels and pixels.

    out may have more channels than the target (a learned variance): the first ones count. mask
    (B, 1, H, W): the error counts there alone, divided by the mask's area times the channels.
    """
    error = (out[:, : target.shape[1]].float() - target.float()).square()
    if mask is None:
        return error.flatten(1).mean(1)
    area = mask.flatten(1).sum(1) * target.shape[1]
    return (error * mask).flatten(1).sum(1) / area


def preserved(
    rows: Tensor, of_class: Sequence[bool], strength: float, convention: Convention = "sum"
) -> Tensor:
    """The loss of weighted rows (B,), of which some are class pictures.

    "sum": mean over the subject's rows + strength times the mean over the class's, as in the paper.
    "mean": mean over the whole batch, class rows times strength, as other trainers do; for equal
    numbers half as large.
    """
    marks = torch.tensor(list(of_class), device=rows.device)
    if convention == "mean":
        return (rows * torch.where(marks, strength, 1.0)).mean()
    total = rows[~marks].mean()
    if marks.any() and strength:
        total = total + strength * rows[marks].mean()
    return total
