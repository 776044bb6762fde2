"""How well a model knows its subject (DreamBooth's protocol, arXiv 2208.12242, section 4.2).

Features are unit-normalised here; which network they come from is the caller's to say (DINO and
CLIP in the paper).
"""

from __future__ import annotations

from torch import Tensor


def unit(features: Tensor) -> Tensor:
    normalised: Tensor = features / features.norm(dim=-1, keepdim=True)
    return normalised


def subject_fidelity(generated: Tensor, real: Tensor) -> Tensor:
    """Mean cosine of each generated picture with all real ones, (N,): features (N, d), (M, d)."""
    return (unit(generated) @ unit(real).T).mean(1)


def real_ceiling(real: Tensor) -> float:
    """Mean cosine of different real pictures: what a perfect copy of the subject would score."""
    cosines = unit(real) @ unit(real).T
    n = len(real)
    return float((cosines.sum() - cosines.diagonal().sum()) / (n * (n - 1)))


def prompt_fidelity(generated: Tensor, texts: Tensor) -> Tensor:
    """Cosine of every picture with its own text, (N,): features (N, d) of both."""
    return (unit(generated) * unit(texts)).sum(1)


def pres(of_class: Tensor, real: Tensor) -> Tensor:
    """Prior preservation: cosine of class pictures of the tuned model with the subject's, (N,).

    Lower is better: "a dog" should not be this dog.
    """
    return subject_fidelity(of_class, real)


def diversity(distances: Tensor) -> float:
    """Mean over unordered pairs of a matrix of distances (N, N), LPIPS in the paper."""
    n = len(distances)
    upper = distances.triu(diagonal=1).sum()
    return float(upper / (n * (n - 1) / 2))
