"""Variants of every kind that has a closed form or a second implementation pass their check."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import conformance_variants as variants
from conformance_variants import Made
from test_conformance import KINDS

KIND_OF_VARIANCE = ["learned_range", "learned", "fixed_small", "fixed_large"]


def passes(made: Made, out: str) -> None:
    """The check agrees with the variant, and does not with a wrong answer in its place."""
    case, tensors = made
    check = KINDS[case["kind"]]
    check(case, tensors)
    with pytest.raises(AssertionError):
        check(case, {**tensors, out: tensors[out] * 1.05 + 0.02})


@pytest.mark.parametrize("kind", KIND_OF_VARIANCE)
@pytest.mark.parametrize("mean", ["epsilon", "start_x", "previous_x"])
def test_steps_of_every_variance_and_mean(kind: str, mean: str) -> None:
    for seed, (schedule, total, respacing, rescale) in enumerate(
        [
            ("linear", 1000, "", False),
            ("cosine", 400, "10,10", True),
            ("linear", 300, "ddim20", True),
            ("squaredcos_cap_v2", 1000, "7", False),
        ]
    ):
        made = variants.sampler_steps(
            seed, schedule, total, respacing, kind, mean, rescale,
            side=3 + seed, channels=(3, 1)[seed % 2],
        )  # fmt: skip
        passes(made, "out.c0.p_sample.sample")


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_multistep_of_every_order_from_any_level(order: int, schedule: str) -> None:
    for seed, (total, respacing) in enumerate([(1000, "ddim5"), (500, "6,3"), (1000, "7")]):
        made = variants.plms(
            seed, schedule, total, respacing, order, scored=seed != 1, learned=seed != 2,
            rows=1 + seed, clip=seed != 1,
        )  # fmt: skip
        passes(made, "out.a.samples")


def test_tables_of_other_lengths_and_respacings() -> None:
    made = variants.schedules(
        [
            ("linear", 40, ""),
            ("squaredcos_cap_v2", 12, ""),
            ("linear", 600, "4,3,2"),
            ("squaredcos_cap_v2", 600, "ddim6"),
        ]
    )
    passes(made, "out.spaced.linear.4,3,2.posterior_variance")


@pytest.mark.parametrize("kernel", ["cubic", "linear", "lanczos2", "lanczos3"])
def test_filters_of_other_sizes(kernel: str) -> None:
    sizes = [(16, 16, 1, 3), (12, 18, 3, 2), (32, 64, 32, 1), (20, 10, 5, 4), (7, 14, 7, 1)]
    passes(variants.resizer(1, kernel, sizes), "3.phi")
    passes(variants.matrices(kernel, [(12, 3), (20, 5), (64, 8), (16, 16)]), "20_5.D")


@pytest.mark.parametrize("kind", ["learned_range", "fixed_small", "fixed_large"])
def test_ilvr_of_other_sizes_factors_and_ends(kind: str) -> None:
    for seed, (schedule, total, respacing, factor, range_t, shape) in enumerate(
        [
            ("linear", 1000, "9", 2, 3, (1, 8, 12)),
            ("cosine", 500, "ddim5", 4, -1, (3, 8, 8)),
            ("linear", 250, "4,3", 3, 100, (2, 6, 9)),  # it never acts
            ("linear", 60, "", 8, 20, (3, 8, 16)),
        ]
    ):
        made = variants.ilvr_loop(
            seed, schedule, total, respacing, factor, range_t, seed % 2 == 0, kind, 1 + seed % 2,
            shape, v=0.25 + 0.25 * seed, gain=0.1, clock=(1000, total)[seed % 2],
        )  # fmt: skip
        passes(made, "out")


def masks(shape: tuple[int, int, int]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    soft = torch.rand(shape, generator=generator)
    return {
        "none": torch.zeros(shape),
        "half": (soft > 0.5).float(),
        "soft": (1.5 * soft).clamp(max=1),
        "one channel": torch.stack([torch.ones(shape[1:]), *torch.zeros(shape)[1:]]),
    }


@pytest.mark.parametrize("which", ["none", "half", "soft", "one channel"])
@pytest.mark.parametrize("kind", ["fixedsmall", "fixedlarge"])
def test_sdedit_of_other_tables_depths_and_masks(kind: str, which: str) -> None:
    for seed, (ends, total, t, repeats, rows, shape) in enumerate(
        [
            ((1e-4, 0.02), 1000, 1, 2, 1, (3, 4, 6)),
            ((0.001, 0.3), 70, 70, 1, 2, (2, 5, 4)),
            ((0.002, 0.1), 120, 31, 3, 1, (3, 8, 8)),
        ]
    ):
        made = variants.sdedit_vp(
            seed, ends, total, t, repeats, rows, kind, masks(shape)[which], v=0.25 * (seed + 1),
            gain=0.1 * seed, clock=(1000, total)[seed % 2],
        )  # fmt: skip
        passes(made, "out")


@pytest.mark.parametrize("kind", ["vp", "ve"])
@pytest.mark.parametrize("which", ["half", "one channel", "all"])
def test_published_sdedit_of_other_levels_and_counts(kind: str, which: str) -> None:
    levels = {"vp": [(0.1, 20.0), (0.05, 12.0)], "ve": [(0.01, 348.0), (0.02, 60.0)]}[kind]
    for seed, (steps, t0, repeats, rows) in enumerate([(25, 0.4, 1, 2), (40, 0.9, 2, 1)]):
        shape = (3, 6, 5)
        omega = torch.ones(shape) if which == "all" else masks(shape)[which]
        made = variants.sdedit_paper(
            seed, kind, levels[seed], steps, t0, repeats, rows, omega, v=0.3, gain=0.05 + 0.1 * seed
        )
        passes(made, "out")
