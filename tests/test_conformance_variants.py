"""Variants of every kind that has a closed form or a second implementation pass their check."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import conformance.guided_variants as guided
import conformance.laws as laws
import conformance.token_variants as tokens
import conformance.variants as variants
import conformance.velocity_variants as velocity
from conformance.kinds import KINDS
from conformance.made import recorded
from conformance.tokens import folder
from conformance.variants import Made
from sfumato.models.files.vocabularies import clean

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


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize(("rows", "instances"), [(4, 2), (5, 1), (3, 3)])
def test_prior_loss_of_other_batches_and_weights(kind: str, rows: int, instances: int) -> None:
    for seed, (masked, zero) in enumerate([(False, False), (True, False), (False, True)]):
        made = laws.prior_loss(seed, rows, instances, kind, masked, zero)
        passes(made, "c.out.per_sample")


def test_measures_of_other_counts() -> None:
    for seed, counts in enumerate([(1, 2, 2), (7, 3, 5)]):
        passes(laws.metrics(seed, *counts), "metric.out.pres")


def test_law_of_ilvr_on_other_pixels_tables_and_ends() -> None:
    made = laws.ilvr_pixels(
        [[0.8, -0.2], [-0.2, 0.5]], [0.3, -0.4], 60, (0.002, 0.3), "small", [-1, 0, 20, 59]
    )
    KINDS[made[0]["kind"]](*made)
    made = laws.ilvr_pixels(
        [[1.0, 0.1, 0.2], [0.1, 0.7, 0.0], [0.2, 0.0, 0.4]], [0.1, 0.5, -0.2], 40, (0.01, 0.2),
        "large", [5],
    )  # fmt: skip
    KINDS[made[0]["kind"]](*made)
    made[0]["rows"][1]["diff_std"] *= 1.001
    with pytest.raises(AssertionError):
        KINDS[made[0]["kind"]](*made)


@pytest.mark.parametrize("kind", ["fixed_large", "fixed_small"])
def test_maps_of_ilvr_of_other_sides_factors_means_and_spreads(kind: str) -> None:
    passes(laws.ilvr_maps(1, 6, 3, -0.2, 0.5, "12", 4, kind), "std_level_matched")
    passes(laws.ilvr_maps(2, 8, 4, 0.3, 0.09, "ddim10", -1, kind), "mean_code")


def test_laws_of_sdedit_on_other_tables() -> None:
    case, tensors = laws.sdedit_gaussian(
        400, (0.0002, 0.05), [60, 250, 400], [0.6, 0.1],
        [(0.02, 90.0, 0.5, 0.3), (0.005, 500.0, 0.4, 0.02)],
    )  # fmt: skip
    KINDS[case["kind"]](case, tensors)
    for name in ("gaussian", "ve"):
        wrong = [{**row, "sde_coef_K3": 0.5, "std": 0.7} for row in case[name]]
        with pytest.raises(AssertionError):
            KINDS[case["kind"]]({**case, name: wrong}, tensors)


LOOPS: dict[str, dict[str, Any]] = {
    "no words at all": {"scale": 0.0, "eta": 0.0, "rows": 2},
    "no guidance": {"scale": 1.0, "eta": 0.6, "rows": 1, "xf_padding": False},
    "noise": {"scale": 4.0, "eta": 1.0, "rows": 3, "out_channels": 3},
    "no clamp": {"scale": 2.0, "eta": 0.0, "rows": 1, "clip": False, "channel_mult": [1, 2]},
}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize(
    ("schedule", "total", "respacing"),
    [("squaredcos_cap_v2", 1000, "ddim4"), ("linear", 300, "3,2")],
)
def test_guided_loops_of_other_scales_and_etas(
    name: str, schedule: str, total: int, respacing: str
) -> None:
    passes(guided.glide_loop(1, schedule, total, respacing, **LOOPS[name]), "out.trajectory")


@pytest.mark.parametrize(("scale", "rows", "out"), [(0.0, 1, 6), (1.0, 2, 6), (5.0, 2, 3)])
def test_inpainting_loops_of_other_scales_and_batches(scale: float, rows: int, out: int) -> None:
    made = guided.glide_loop(
        2, "linear", 1000, "3,2", scale, 0.0, rows, inpaint=True, out_channels=out
    )
    passes(made, "out.sample")


@pytest.mark.parametrize(("temperature", "eta", "width"), [(1.0, 0.0, 32), (0.6, 0.7, 0)])
def test_upsampling_loops_of_other_temperatures(temperature: float, eta: float, width: int) -> None:
    made = guided.upsample_loop(3, "4,2", temperature, eta, rows=2, xf_width=width)
    passes(made, "out.sample")


@pytest.mark.parametrize("kind", ["learned_range", "fixed_small", "fixed_large"])
@pytest.mark.parametrize(("pool", "classes"), [("spatial", None), ("attention", 5)])
def test_classifier_loops_of_every_variance(kind: str, pool: str, classes: int | None) -> None:
    loops = [
        {"prefix": "a.", "sampler": "p", "schedule": "cosine", "respacing": "4", "eta": None},
        {"prefix": "b.", "sampler": "ddim", "schedule": "linear", "respacing": "3,2", "eta": 0.4,
         "total_steps": 500, "rescale_timesteps": True},
        {"prefix": "c.", "sampler": "ddim", "schedule": "cosine", "respacing": "ddim5",
         "eta": 0.0, "clip_denoised": False},
    ]  # fmt: skip
    passes(guided.classifier_loop(4, 3.0, pool, classes, kind, loops), "out.b.sample")


@pytest.mark.parametrize(("head", "text_head"), [(8, 8), (16, 4), (4, 12)])
def test_noised_clip_with_other_heads_for_text_than_for_pictures(head: int, text_head: int) -> None:
    made = guided.noised_clip(5, head, text_head, rows=1 + head // 8, scale=1.5)
    passes(made, "out.text_features")


@pytest.mark.parametrize(("scale", "schedule"), [(0.0, "linear"), (4.0, "squaredcos_cap_v2")])
def test_clip_guided_loops_of_other_strengths(scale: float, schedule: str) -> None:
    passes(guided.clip_loop(6, "3,2", schedule, scale, rows=2), "out.sample")


TEXTS = (
    "", " ", "an oil painting of a corgi", "It's WE'LL don`t ''''", "a " * 40 + "end",
    "word " * 300, "50% OFF!!!??? #tag @user _under_ 123456 ½ ² ٣", "ΟΔΟΣ Σίσυφος İstanbul ẞ",
    "日本語テキスト 한국어 🙂👨‍👩‍👧", "tab\tand\r\nlines  end ", "&eacute; &quot;hi&quot; &notit;",
    *tokens.REPAIRED,
)  # fmt: skip


@pytest.mark.parametrize(("context", "of_clip"), [(128, 77), (16, 12), (5, 3)])
def test_tokenizers_on_other_texts_and_contexts(context: int, of_clip: int) -> None:
    case = tokens.tokenizers(folder(), TEXTS, context, of_clip)
    KINDS["tokenizers"](case, {})
    for name in ("glide_ids", "clip_ids", "clip_length"):
        wrong = {**case["items"][3], name: case["items"][0][name]}
        with pytest.raises(AssertionError):
            KINDS["tokenizers"]({**case, "items": [wrong]}, {})


@pytest.mark.parametrize("text", tokens.REPAIRED)
def test_text_of_clip_is_cleaned_of_what_was_pasted_with_it(text: str) -> None:
    assert clean(text) == tokens.REPAIRED[text]


def test_times_of_v_diffusion_of_other_counts() -> None:
    passes(velocity.schedules([1, 3, 40], "log_40", (2, 39)), "ddpm_40")
    passes(velocity.schedules([7, 200], "spliced_7", (1, 7)), "spliced_200")


@pytest.mark.parametrize(
    ("rule", "n", "top", "place", "spread", "scale"),
    [
        ("spliced", 6, 0.9, 3, 0.3, 5.0),
        ("ddpm", 15, 0.4, 14, 1.0, 0.0),
        ("log", 9, 1.0, 1, 0.8, 20.0),
    ],
)
def test_v_diffusion_of_other_counts_spreads_and_scales(
    rule: str, n: int, top: float, place: int, spread: float, scale: float
) -> None:
    made = velocity.sampling(
        n, rule, n, top, place, spread, scale, 1 + n % 2, [(0.5, 0.2), (0.1, 0.6)][: 1 + n % 2],
        [0.8, 0.3, 0.6][: n % 3 + 1], (5, 8),
    )  # fmt: skip
    for out in ("mt.plms.out", "step0.iplms3.pred", "paper.out", "ddpm.out", "guide.v0"):
        passes(made, out)


def test_strokes_of_other_sizes_windows_and_palettes() -> None:
    passes(laws.strokes(1, (20, 31), 5, [2, 7]), "median")
    passes(laws.strokes(2, (33, 16), 23, [12]), "stroke_12")


def test_losses_of_style_with_other_counts_and_sizes() -> None:
    for seed, sizes in enumerate([(1, 1, 8, (5, 9)), (6, 3, 20, (12, 4))]):
        for out in ("sph.grad", "prompt.combined", "tv.grad"):
            passes(laws.style_losses(seed, *sizes), out)


NETWORKS: list[tuple[str, str, dict[str, Any]]] = [
    ("adm-unet", "UNetModel", {"num_classes": 3, "channel_mult": [1, 2, 1], "num_heads": 4}),
    ("adm-unet", "UNetModel", {"in_channels": 1, "out_channels": 1, "channel_mult": [2]}),
    ("adm-unet", "UNetModel", {"use_new_attention_order": True, "conv_resample": False,
                               "resblock_updown": False, "num_heads_upsample": 4}),
    ("adm-superres", "SuperResModel", {"num_head_channels": 8, "out_channels": 3}),
    ("glide-text2im", "Text2ImUNet", {"text": True, "xf_heads": 4, "num_res_blocks": 2}),
    ("glide-superres", "SuperResText2ImUNet", {"text": True, "attention_resolutions": [1, 2]}),
    ("glide-inpaint", "InpaintText2ImUNet", {"text": True, "xf_padding": False}),
    ("glide-superres-inpaint", "SuperResInpaintText2ImUnet", {"text": True, "xf_layers": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "model", "changes"), NETWORKS)
def test_networks_of_other_levels_heads_and_conditions_are_read_from_the_case(
    kind: str, model: str, changes: dict[str, Any]
) -> None:
    case, tensors = guided.network(7, kind, model, 2, 8, **changes)
    passes((case, recorded(KINDS[kind], case, tensors)), "out.sample")


def test_what_a_check_does_not_know_fails_in_one_line_that_names_it() -> None:
    steps, tensors = variants.sampler_steps(1, "linear", 100, "5", "fixed_small", "epsilon")
    net, state = guided.network(7, "adm-unet", "UNetModel", 1, 8)
    for case, given, told in (
        (steps, {**tensors, "out.c0.p_guess.sample": tensors["in.c0.x"]}, "p_guess"),
        ({**steps, "cases": [{**steps["cases"][0], "var_type": "odd"}]}, tensors, "'odd'"),
        ({**steps, "cases": [{**steps["cases"][0], "mean_type": "odd"}]}, tensors, "'odd'"),
        ({**net, "config": {**net["config"], "odd": 1}}, state, "odd"),
        ({**net, "config": {**net["config"], "use_fp16": True}}, state, "use_fp16"),
        ({**net, "tolerance_max_abs": {"out.other": 1.0}}, state, "tolerance"),
    ):
        with pytest.raises(AssertionError, match=told):
            KINDS[case["kind"]](case, given)
