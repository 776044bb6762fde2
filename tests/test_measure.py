"""Measures meet their closed forms, and refuse what would mislead."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.measure import heldout
from sfumato.measure.distance import (
    bootstrap,
    frechet_distance,
    kernel_distance,
    kernel_estimate,
    mean,
)


def normal(n: int, d: int, shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return shift + scale * torch.randn(n, d, generator=generator)


def test_kernel_distance_by_hand() -> None:
    """Two pictures a side in one dimension, worked out on paper: k(x, y) = (xy + 1)^3."""
    made, real = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [1.0]])
    # within made k(0,1) = 1; within real k(2,1) = 27; across: k(0,2) = k(0,1) = 1, k(1,2) = 27,
    # k(1,1) = 8
    assert kernel_distance(made, real) == pytest.approx(1 + 27 - 2 * (1 + 1 + 27 + 8) / 4)


def test_kernel_distance_is_unbiased_and_grows_with_the_shift() -> None:
    same = [
        kernel_distance(normal(60, 8, seed=2 * k), normal(60, 8, seed=2 * k + 1)) for k in range(60)
    ]
    spread = torch.tensor(same).std() / 60**0.5
    assert abs(sum(same) / 60) < 3 * float(spread)
    far = [
        kernel_distance(normal(60, 8), normal(60, 8, shift, seed=9)) for shift in (0.3, 0.6, 1.0)
    ]
    assert far == sorted(far)
    estimate = kernel_estimate(normal(80, 8), normal(80, 8, 1.0, seed=9))
    assert estimate.low < estimate.value < estimate.high
    assert estimate.low > 0


def test_paired_sets_are_not_compared_question_by_question() -> None:
    """Both sides answer 60 questions well: no distance, though each is near its own truth."""
    truth = 3 * normal(60, 8)
    made, real = truth + 0.1 * normal(60, 8, seed=1), truth + 0.1 * normal(60, 8, seed=2)
    paired = kernel_estimate(made, real, paired=True)
    assert paired.low < 0 < paired.high
    assert kernel_estimate(made, real).value < paired.low, "unpaired, it looks better than perfect"
    assert kernel_estimate(made + 1, real, paired=True).low > 0
    with pytest.raises(SfumatoError, match="not paired"):
        kernel_estimate(made, real[:9], paired=True)


def test_frechet_distance_of_gaussians_is_exact() -> None:
    """|shift|^2 + d (1 - scale)^2 for scaled unit Gaussians, with the sample's own moments."""
    made = normal(4000, 4)
    moved = 0.5 + 2.0 * made
    spread = float(torch.cov(made.double().T).diagonal().sum())
    shift = float((moved.mean(0) - made.mean(0)).double().square().sum())
    assert frechet_distance(made, moved) == pytest.approx(shift + spread, rel=1e-4)
    assert frechet_distance(made, made) == pytest.approx(0.0, abs=1e-6)


def test_frechet_distance_refuses_what_would_mislead() -> None:
    with pytest.raises(SfumatoError, match=r"65 dimensions; at most 64.*kernel distance"):
        frechet_distance(normal(1000, 65), normal(1000, 65))
    with pytest.raises(SfumatoError, match=r"999 pictures; at least 1000"):
        frechet_distance(normal(999, 8), normal(1000, 8))


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    hits = 0
    for k in range(100):
        estimate = mean(normal(40, 1, seed=100 + k)[:, 0])
        hits += estimate.low <= 0 <= estimate.high
    assert 85 <= hits <= 99
    with pytest.raises(SfumatoError, match="too few"):
        bootstrap(lambda rows: 0.0, 1)


def test_a_judge_knows_real_pictures_it_never_saw_and_nothing_in_noise() -> None:
    """What is packaged beside it is what it says here too."""
    bench = heldout.bench("3d render")
    assert bench.features.shape == (200, 64)
    top1, top5 = bench.right.float().mean(0).tolist()
    assert 0.6 < top1 < top5
    noise = torch.randn(200, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    _, logits = bench.look(noise)
    hits = bench.hits(logits, torch.arange(200)).float().mean(0)
    assert hits[0] < 0.05
    assert logits.shape == (200, 200)


def test_an_unknown_style_has_no_judge() -> None:
    with pytest.raises(SfumatoError, match="no judge for it; there are 3d render"):
        heldout.bench("watercolour")
