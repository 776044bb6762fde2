"""Measures meet their closed forms, and refuse what would mislead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from sfumato.cli.verbs.eval import evaluate
from sfumato.core.errors import SfumatoError
from sfumato.measure import evaluate as evaluation
from sfumato.measure import features, heldout
from sfumato.metrics.kernel import (
    bootstrap,
    frechet_distance,
    kernel_distance,
    kernel_each,
    kernel_estimate,
    mean,
)
from sfumato.models.model import Model


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
    again = kernel_estimate(torch.cat([made, made]), real, paired=True)
    assert again.value == pytest.approx(paired.value), "two batches of the same say no more"
    assert again.high - again.low == pytest.approx(paired.high - paired.low)
    with pytest.raises(SfumatoError, match="not paired"):
        kernel_estimate(made, real[:9], paired=True)


def test_single_pictures_have_a_distance_that_means_to_the_sets() -> None:
    """Mean |phi(x) - m|^2 is the sets' distance plus the made ones' own spread."""
    made, real = normal(40, 8, 0.5), normal(50, 8, seed=1)
    kernels = (made.double() @ made.double().T / 8 + 1) ** 3
    other = ~torch.eye(40, dtype=torch.bool)
    spread = float(kernels.diag().mean() - kernels[other].mean())
    expected = kernel_distance(made, real) + spread
    assert float(kernel_each(made, real).mean()) == pytest.approx(expected)


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


@pytest.mark.parametrize("style", sorted(heldout.JUDGED))
def test_a_judge_knows_real_pictures_it_never_saw_and_nothing_in_noise(style: str) -> None:
    """What is packaged beside it is what it says here too."""
    bench = heldout.bench(style)
    assert bench.features.shape == (200, 64)
    top1, top5 = bench.right.float().mean(0).tolist()
    assert 0.6 < top1 < top5
    noise = torch.randn(200, 3, bench.size, bench.size, generator=torch.Generator().manual_seed(0))
    _, logits = bench.look(noise)
    hits = bench.hits(logits, torch.arange(200)).float().mean(0)
    assert hits[0] < 0.05
    assert logits.shape == (200, 200)


def test_more_pictures_than_questions_ask_all_of_them_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twice as many pictures, half of them white: half the names, over as many questions."""
    real = torch.randn(200, 3, 32, 32, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    asked: list[int] = []

    def drawn(model: object, texts: list[str], **options: object) -> Tensor:
        asked.append(len(texts))
        assert texts[0] == texts[-200]
        return torch.cat([real, torch.ones_like(real)])[: len(texts)]

    monkeypatch.setattr(evaluation, "sampled", drawn)
    monkeypatch.setattr(evaluation, "clip_score", lambda *given: None)
    bench = heldout.bench("3d render")
    named = [bench.hits(bench.look(x)[1], torch.arange(200)).float().mean(0)
             for x in (real, torch.ones_like(real))]  # fmt: skip
    twice = evaluation.answers(cast(Model, None), "3d render", n=400)
    assert asked == [400]
    assert twice.top1.n == 200, "intervals are over questions"
    assert twice.top5.value == pytest.approx(float(named[0][1] + named[1][1]) / 2)
    for n in (4, 201, 450):
        with pytest.raises(SfumatoError, match="or a multiple of 200"):
            evaluation.answers(cast(Model, None), "3d render", n=n)


def test_an_unknown_style_has_no_judge() -> None:
    with pytest.raises(SfumatoError, match="no judge for it; there are 3d render"):
        heldout.bench("watercolour")


class Inception(nn.Module):
    """Called as StyleGAN's file is: values 0 to 255, features on request."""

    def forward(self, pixels: Tensor, return_features: bool = False) -> Tensor:
        means = pixels.mean((2, 3))
        return means if return_features else means[:, :1]


def test_a_torchscript_file_gives_its_features(tmp_path: Path) -> None:
    torch.jit.script(Inception()).save(str(tmp_path / "inception.pt"))
    found = features.load(tmp_path / "inception.pt")(torch.tensor([-1.0, 1.0])[:, None, None, None]
                                                     .expand(2, 3, 8, 8))  # fmt: skip
    assert found.tolist() == [[0.0] * 3, [255.0] * 3]
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(SfumatoError, match=r"text\.pt: not a TorchScript file"):
        features.load(tmp_path / "text.pt")
    with pytest.raises(SfumatoError, match="no such file or folder"):
        features.load(tmp_path / "nowhere")


def test_a_transformers_folder_gives_its_features(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 16, "image_size": 28, "patch_size": 14}  # fmt: skip
    text = {**small, "vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2}
    networks = {
        "dino": Dinov2Model(Dinov2Config(**small)),
        "clip": CLIPModel(CLIPConfig(text_config=text, vision_config=small, projection_dim=24)),
    }
    for name, network in networks.items():
        network.save_pretrained(tmp_path / name)
        sides = {"height": 28, "width": 28}
        CLIPImageProcessorPil(size=sides, crop_size=sides).save_pretrained(tmp_path / name)
    pixels = torch.rand(3, 3, 40, 40) * 2 - 1
    assert features.load(tmp_path / "dino")(pixels).shape == (3, 16)
    found = features.load(tmp_path / "clip")(pixels)
    assert found.shape == (3, 24)
    assert not torch.allclose(found[0], found[1], atol=1e-4), "it looks at the pictures"


def test_eval_reports_every_measure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    torch.jit.script(Inception()).save(str(tmp_path / "inception.pt"))
    evaluate(
        "emoji", "3d render", "1", 5, 0, str(tmp_path / "inception.pt"), None,
        str(tmp_path / "report.json"), "cpu", "auto", "none", True, True,
    )  # fmt: skip
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((tmp_path / "report.json").read_text())
    for bad in (tmp_path, tmp_path / "none" / "report.json"):
        with pytest.raises(SfumatoError, match=r"is a folder|does not exist"):
            evaluate(
                "emoji",
                "3d render",
                "1",
                5,
                0,
                None,
                None,
                str(bad),
                "cpu",
                "auto",
                "none",
                True,
                True,
            )
    (row,) = shown["answers"]
    assert row["scale"] == 1
    for name in ("top1", "top5", "kernel", "own"):
        assert row[name]["low"] <= row[name]["value"] <= row[name]["high"]
    assert row["real1"]["value"] >= 0.6
    assert row["own"]["value"] > 0
    assert set(shown["denoising"]) == {"0.125", "0.375", "0.625", "0.875"}
