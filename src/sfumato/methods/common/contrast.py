"""Patchwise contrast (arXiv 2007.15651): each row most like its own among all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfumato.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def contrast(queries: Tensor, keys: Tensor, tau: float) -> Tensor:
    """(B, P, C) twice -> (B, P): -log softmax of the own key among all P, cosines over tau."""
    logits = normalised(queries) @ normalised(keys).transpose(1, 2) / tau
    own = torch.arange(logits.shape[1], device=logits.device).expand(logits.shape[:2])
    losses: Tensor = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), own.flatten(), reduction="none"
    )
    return losses.view(logits.shape[:2])


def normalised(vectors: Tensor) -> Tensor:
    """x / (|x| + 1e-7)."""
    scaled: Tensor = vectors / (torch.linalg.vector_norm(vectors, dim=-1, keepdim=True) + 1e-7)
    return scaled
