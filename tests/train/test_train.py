"""The trainer: nothing is lost, nothing is random, and what it optimises is what it says."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import sfumato as sf
from helpers.training import RECIPE, config, data, trained
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import VP, linear, squared_cosine
from sfumato.models.loaders.library import BUNDLED
from sfumato.train import super_resolution
from sfumato.train.config import read
from sfumato.train.objective import Objective, clean, pose, x_in
from sfumato.train.optim import rate
from sfumato.train.report import Log, memory, plot
from sfumato.train.timesteps import LogNormal, Lowest, SoftTruncation, Stratified, Uniform
from sfumato.train.trainable import Trainable
from sfumato.train.trainer import Trainer, one_worker
from sfumato.train.weighting import P2, Constant, MinSNR, Plain, Target, weights

__all__ = ["data"]  # a fixture

ROOT = Path(__file__).parents[2]
LORA = RECIPE + '[adapter]\nrank = 2\nalpha = 2\ntargets = ["attention", "conv"]\n'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "times"),
    [
        pytest.param(RECIPE, 5, id="base"),
        pytest.param(LORA, 5, id="lora"),
    ],
)
def test_resume_is_bit_identical_through_kills(
    text: str, times: int, data: Path, tmp_path: Path
) -> None:
    """SIGKILL at random moments; what was being written then does not matter."""
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(text.replace("steps = 24", "steps = 60"))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    base = [sys.executable, "-m", "sfumato.train", str(recipe), "--data", str(data)]
    base += ["--device", "cpu"]
    whole_run = subprocess.Popen([*base, "-o", str(whole)], stderr=subprocess.DEVNULL)
    rng = random.Random(7)
    kills = 0
    for stop in sorted(rng.sample(range(1, 46), times)):
        process = subprocess.Popen([*base, "-o", str(broken)], stderr=subprocess.DEVNULL)
        while process.poll() is None and steps_done(broken) < stop:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))  # anywhere inside a step or a save
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        assert process.wait() in (0, -signal.SIGKILL)
    assert kills >= times - 1, "the run was over before it could be killed"
    subprocess.run([*base, "-o", str(broken)], check=True, stderr=subprocess.DEVNULL)
    assert whole_run.wait() == 0
    first, second = (load_file(folder / "state.safetensors") for folder in (whole, broken))
    assert first.keys() == second.keys()
    assert len(first) > 10
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    rows = [[row["loss"] for row in table(folder)] for folder in (whole, broken)]
    assert rows[0] == rows[1], "the log is not that of one run"
    assert len(rows[0]) == 60


def test_eight_bit_moments_resume_to_the_same_bits(data: Path, tmp_path: Path) -> None:
    """bitsandbytes keeps counts as numbers and its tables beside the moments; all must come back.

    It ranks blocks of 4,096 values; smaller weights keep float32 moments, so both are here.
    """
    pytest.importorskip("bitsandbytes", reason="8-bit moments need bitsandbytes (make test has it)")
    made = config(optimizer="adamw-8bit", steps=6)
    trained(made, data, tmp_path / "whole")
    trained(made, data, tmp_path / "broken", until=3)
    trained(made, data, tmp_path / "broken")
    one, two = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "broken"))
    assert {v.dtype for k, v in one.items() if k.startswith("adam.state1")} == {
        torch.uint8, torch.float32,
    }  # fmt: skip
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_muon_steps_hidden_matrices_and_resumes_to_the_same_bits(
    data: Path, tmp_path: Path
) -> None:
    """Its state lies under each weight, though it steps a view of it."""
    made = config(optimizer="muon", steps=6)
    whole = trained(made, data, tmp_path / "whole").weights
    trained(made, data, tmp_path / "broken", until=3)
    trained(made, data, tmp_path / "broken")
    one, two = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "broken"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    stepped = {name for name in whole.masters if f"adam.momentum_buffer/{name}" in one}
    assert "input_blocks.1.0.in_layers.2.weight" in stepped
    assert "middle_block.1.qkv.weight" in stepped
    outer = {"input_blocks.0.0.weight", "out.2.weight", "token_embedding.weight"}
    assert not outer & stepped
    assert {name for name in whole.masters if f"adam.exp_avg/{name}" in one} == (
        whole.masters.keys() - stepped
    )


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def steps_done(folder: Path) -> int:
    try:
        return int(table(folder)[-1]["step"])
    except (OSError, IndexError, KeyError, TypeError, ValueError):
        return 0


def test_one_batch_can_be_learned_by_heart(data: Path, tmp_path: Path) -> None:
    """A tenth of the first loss on one fixed batch, at fixed levels."""
    made = config(steps=1000, rate=3e-3)
    made = replace(made, objective=replace(made.objective, vb=0.0))
    trainer = Trainer(made, data, tmp_path, say=lambda line: None)
    tuner: Any = trainer.tuner
    batch = tuner.batch(0, slice(0, 4))
    first = None
    for step in range(400):
        tuner.net.eval()  # no dropout: the same function is asked for every time
        outcome = tuner.loss(batch, 0)
        outcome.total.backward()
        first = first or float(outcome.total.detach())
        trainer.weights.step(step, trainer.weights.gather())
        if float(outcome.total.detach()) < first / 10:
            return
    pytest.fail(f"loss {float(outcome.total.detach()):.4f} of {first:.4f} after 400 steps")


def test_a_nan_stops_the_run_and_keeps_the_last_good_state(data: Path, tmp_path: Path) -> None:
    made = config(dtype="bfloat16")  # the network's weights then are copies of the masters
    trainer = trained(made, data, tmp_path, until=5)
    good = {k: v.clone() for k, v in load_file(tmp_path / "state.safetensors").items()}
    tuner: Any = trainer.tuner
    batch = tuner.batch(5, slice(0, 4))
    with torch.no_grad():  # in the network alone, as an overflow would be
        tuner.net.input_blocks[0][0].bias.fill_(math.nan)
    with pytest.raises(SfumatoError, match=r"step 6: loss nan.*lower optim\.rate"):
        trainer.advance(batch)
    after = load_file(tmp_path / "state.safetensors")
    assert all(torch.equal(value, after[name]) for name, value in good.items())
    again = trained(made, data, tmp_path)
    assert again.step == 24
    assert all(torch.isfinite(v).all() for v in load_file(tmp_path / "state.safetensors").values())


@pytest.mark.slow
def test_two_processes_make_the_batch_of_one(data: Path, tmp_path: Path) -> None:
    """Gradients averaged over two halves: the same loss curve but for rounding."""
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE.replace("dropout = 0.1", "dropout = 0.0"))
    base = [sys.executable, "-m", "sfumato.train", str(recipe), "--data", str(data)]
    base += ["--device", "cpu", "--steps", "4"]
    subprocess.run([*base, "-o", str(tmp_path / "one")], check=True, stderr=subprocess.DEVNULL)
    runs = []
    for rank in range(2):
        places = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        env = {**os.environ, **places, "MASTER_PORT": str(29500 + os.getpid() % 1000)}
        command = [*base, "-o", str(tmp_path / "two")]
        runs.append(subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL))
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    one, two = (load_file(tmp_path / name / "state.safetensors") for name in ("one", "two"))
    weight = "weight/input_blocks.1.0.in_layers.2.weight"
    torch.testing.assert_close(one[weight], two[weight], rtol=0, atol=2e-4)


def test_the_result_loads_and_the_average_is_what_is_exported(data: Path, tmp_path: Path) -> None:
    trainer = trained(config(steps=3), data, tmp_path)
    files = sorted((tmp_path / "model").iterdir())
    names = [file.name for file in files]
    assert names == ["base-1-of-1.safetensors", "stage.json", "tokenizer.json"]
    exported = load_file(files[0])
    average = trainer.weights.average["out.2.weight"]
    torch.testing.assert_close(exported["out.2.weight"].float(), average, rtol=1e-3, atol=1e-6)
    assert not torch.equal(average, trainer.weights.masters["out.2.weight"])
    for name in ("log.csv", "curves.png", "recipe.toml"):
        assert (tmp_path / name).stat().st_size > 0


def test_recipes_of_the_project_can_be_read() -> None:
    recipes = sorted((ROOT / "recipes").glob("*.toml"))
    assert len(recipes) >= 8
    for recipe in recipes:
        assert read(recipe).name == recipe.stem


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("[optim]\nbatsh = 4", "there is no field 'optim.batsh'"),
        ("[optim]\nbatch = 'four'", "optim.batch = 'four': input should be a valid integer"),
        ("[objective]\ntimes = 'sometimes'", "known are uniform, stratified"),
        (
            "[objective]\nweighting = {name = 'p2', gama = 1}",
            "there is no field 'objective.weighting.p2.gama'",
        ),
        ("[mix]\nstyles = ['ink']", "mix.styles = ['ink']: must be a table"),
    ],
)
def test_mistakes_in_a_recipe_are_named(change: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(f'name = "x"\ntuner = "diffusion"\n{change}\n')
    with pytest.raises(SfumatoError) as error:
        read(file)
    assert message in str(error.value)
    assert "wrong.toml" in str(error.value)


def test_missing_data_and_unknown_tuners_are_named(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="no such folder"):
        Trainer(config(), tmp_path / "nowhere", tmp_path / "run", say=lambda line: None)
    wrong = replace(config(), tuner="dreamboth")
    with pytest.raises(SfumatoError, match=r"unknown; known are .*diffusion"):
        Trainer(wrong, tmp_path, tmp_path / "run", say=lambda line: None)


# what is optimised


SCHEDULE = squared_cosine()


def test_weightings_agree_whatever_the_network_predicts() -> None:
    """One error of eps, expressed in each target, costs the same (they are relative to eps-MSE)."""
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(4, 3, 4, 4, generator=generator)
    noise, error = (torch.randn(x0.shape, generator=generator) for _ in range(2))
    times = [0.1, 0.35, 0.6, 0.9]
    costs: dict[str, list[float]] = {}
    replies: list[torch.Tensor] = []
    for kind in ("eps", "v", "x0", "edm"):
        denoiser = Denoiser(lambda x, time, cond: replies[-1], SCHEDULE, kind)  # type: ignore[arg-type]
        alpha = torch.tensor([SCHEDULE.alpha(t) for t in times]).view(-1, 1, 1, 1)
        sigma = torch.tensor([SCHEDULE.sigma(t) for t in times]).view(-1, 1, 1, 1)
        wrong_x0 = x0 - sigma / alpha * error  # eps + error in terms of x0
        x, target = pose(denoiser, x0, noise, times)
        _, answer = pose(denoiser, wrong_x0, (x - alpha * wrong_x0) / sigma, times)
        replies.append(answer)
        torch.testing.assert_close(
            clean(denoiser, x, answer, times), wrong_x0, rtol=1e-4, atol=1e-4
        )
        for weighting in (Constant(), P2(1.0), MinSNR(5.0)):
            loss = Objective(weighting=weighting).at(denoiser, x0, Cond(), noise, times)
            costs.setdefault(str(weighting), []).append(float(loss.total))
        assert target.shape == x0.shape
    for name, found in costs.items():
        assert max(found) == pytest.approx(min(found), rel=1e-3), name


def test_the_absolute_error_ends_where_it_is_told_to() -> None:
    """Rows at little noise have that of l1, the others that of l2, and so have their gradients."""
    x0 = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    weight, times = torch.ones(3, 1, 1, 1, requires_grad=True), [0.1, 0.3, 0.6]
    denoiser = Denoiser(lambda x, time, cond: weight * x, SCHEDULE, "v")  # type: ignore[arg-type]
    found = {}
    for name, objective in (
        ("l2", Objective()),
        ("l1", Objective(norm="l1")),
        ("both", Objective(norm="l1", l1_until=0.3)),
    ):
        loss = objective.at(denoiser, x0, Cond(), x0.flip(0), times)
        (moved,) = torch.autograd.grad(loss.total, weight)
        found[name] = torch.stack([loss.rows.detach(), loss.mse, moved.flatten()])
    torch.testing.assert_close(found["both"][:, :2], found["l1"][:, :2])
    torch.testing.assert_close(found["both"][:, 2], found["l2"][:, 2])
    assert (found["l1"] - found["l2"]).abs().min() > 1e-3


def test_a_noised_small_picture_has_the_range_of_pictures() -> None:
    """So noise makes white darker on average, by sigma / sqrt(2 pi), as a base's noise does."""
    white = torch.ones(2, 3, 64, 64)
    noise = torch.randn(white.shape, generator=torch.Generator().manual_seed(0))
    made = super_resolution.noised(white, [0.0, 0.1], noise)
    assert torch.equal(made[0], white[0])
    assert made.abs().max() <= 1
    assert 1 - float(made[1].mean()) == pytest.approx(0.1 / math.sqrt(2 * math.pi), rel=0.1)


def test_p2_and_min_snr_have_their_published_values() -> None:
    """Spec: weights of P2 (gamma 1) on the linear table; gamma 0 is the plain loss; VP gives
    sigma^2."""
    table = linear()
    times = [(k + 1) / 1000 for k in (0, 99, 299, 499, 699, 999)]
    found = weights(P2(1.0), Target("eps"), table, times)
    assert found == pytest.approx([1e-4, 0.10, 0.60, 0.92, 0.99, 1.0], rel=0.06)
    assert weights(P2(0.0), Target("eps"), table, times) == [1.0] * 6
    vp = VP()
    assert weights(P2(1.0), Target("eps"), vp, [0.3])[0] == pytest.approx(vp.sigma(0.3) ** 2)
    assert sorted(found) == found, "falls with the signal-to-noise ratio"
    eps = weights(MinSNR(5.0), Target("eps"), table, times)
    ratios = [(table.alpha(t) / table.sigma(t)) ** 2 for t in times]
    assert eps == pytest.approx([min(r, 5) / r for r in ratios])
    of_v = weights(MinSNR(5.0), Target("v"), table, times)
    assert of_v == pytest.approx([min(r, 5) / (r + 1) for r in ratios])
    held = weights(MinSNR(5.0, least=2.0), Target("v"), table, times)
    assert held[-1] == pytest.approx(2 / 3)
    assert weights(Plain(), Target("edm"), table, times) == pytest.approx([1.0] * 6)


def test_a_network_that_predicts_the_mean_of_a_step_is_not_trained(tmp_path: Path) -> None:
    """It was read as EDM's."""
    x0 = torch.zeros(1, 3, 4, 4)
    denoiser = Denoiser(lambda x, t, c: torch.zeros_like(x), SCHEDULE, "previous")
    with pytest.raises(SfumatoError, match="predicts the mean of a step"):
        Objective().at(denoiser, x0, Cond(), x0, [0.5])
    with pytest.raises(SfumatoError, match="predicts the mean of a step"):
        clean(denoiser, x0, x0, [0.5])
    copy = Path(shutil.copytree(BUNDLED["emoji"], tmp_path / "model"))
    card = json.loads((copy / "card.json").read_text(encoding="utf-8"))
    card["base"]["kind"] = "previous"
    (copy / "card.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(SfumatoError, match="predicts the mean of a step"):
        Trainable(sf.load(str(copy)), config(RECIPE), ["a dog"])


def test_edm_preconditioning_keeps_unit_variance_and_is_the_identity_at_no_noise() -> None:
    """arXiv 2206.00364: inputs and targets have unit variance for data of std sigma_data."""
    generator = torch.Generator().manual_seed(1)
    x0 = 0.5 * torch.randn(4, 1, 64, 64, generator=generator)
    noise = torch.randn(x0.shape, generator=generator)
    denoiser = Denoiser(lambda x, t, c: torch.zeros_like(x), SCHEDULE, "edm")
    times = [0.05, 0.3, 0.6, 0.9]
    x, target = pose(denoiser, x0, noise, times)
    for row in (*x_in(denoiser, x, times), *target):
        assert float(row.std()) == pytest.approx(1.0, abs=0.05)
    assert torch.equal(denoiser(x0, 0.0, Cond()).x0, x0)


def test_time_samplers_have_their_distributions() -> None:
    rng = Random(3)
    share = [
        sum(t < 0.1 for _ in range(4000) for t, _ in SoftTruncation(1e-5, k)(16, SCHEDULE, rng))
        / 64000
        for k in (1.0, 0.9, 1.2)
    ]
    assert share == pytest.approx([0.072, 0.060, 0.090], abs=0.006)  # spec of paper 7
    assert SoftTruncation(1e-5, 1.0).tau(0.25) == pytest.approx(1e-5**0.75)
    assert SoftTruncation(1e-3, math.inf).tau(0.9) == 1e-3
    smallest = [min(t for t, _ in SoftTruncation(1e-5, 1.0)(64, SCHEDULE, rng)) for _ in range(50)]
    assert max(smallest) > 10 * min(smallest), "one smallest time a batch"
    parts = sorted(t for t, _ in Stratified()(8, SCHEDULE, rng))
    assert all(k / 8 < t <= (k + 1) / 8 + 1e-9 for k, t in enumerate(parts))
    noisy = [t for t, _ in Stratified(power=0.5)(4000, SCHEDULE, rng)]
    assert sum(noisy) / 4000 == pytest.approx(2 / 3, abs=0.001)  # of the density 2 t
    assert Lowest()(3, SCHEDULE, rng) == [(0.001, 1.0)] * 3
    drawn = [t for t, _ in Uniform()(4000, SCHEDULE, rng)]
    assert all(
        float(t * 1000).is_integer() or abs(t * 1000 - round(t * 1000)) < 1e-9 for t in drawn
    )
    assert sum(drawn) / 4000 == pytest.approx(0.5, abs=0.02)
    logs = [
        math.log(SCHEDULE.sigma(t) / SCHEDULE.alpha(t)) for t, _ in LogNormal()(4000, SCHEDULE, rng)
    ]
    mean = sum(logs) / len(logs)
    assert mean == pytest.approx(-1.2, abs=0.08)
    assert sum((v - mean) ** 2 for v in logs) / len(logs) == pytest.approx(1.44, abs=0.12)


def test_the_best_step_is_marked_and_memory_is_told(tmp_path: Path) -> None:
    log = Log(tmp_path / "heldout.csv")
    for step, balance in ((1, 0.2), (2, 0.9), (3, 0.4)):
        log.put({"step": step, "subject": 0.5, "balance": balance})
    plot(tmp_path / "heldout.csv", tmp_path / "marked.png")
    (tmp_path / "heldout.csv").unlink()
    for step in (1, 2, 3):
        log.put({"step": step, "subject": 0.5, "other": 0.4})
    plot(tmp_path / "heldout.csv", tmp_path / "plain.png")
    # at 2 of 3 steps, between the legend's and the axis's ink, only the mark is nearly black
    columns = []
    for name in ("marked", "plain"):
        image = Image.open(tmp_path / f"{name}.png").convert("L")
        dark = [x for x in range(70, 700) if max(image.getpixel((x, y)) for y in (60, 250)) < 60]  # type: ignore[type-var, operator]
        columns.append(dark)
    (mark,), nothing = columns
    assert abs(mark - (64 + (710 - 64) * 2 / 3)) <= 1
    assert nothing == []
    assert 0.05 < memory("cpu") < 100


def test_the_rate_warms_up_stays_and_decays_to_its_floor() -> None:
    optim = config(steps=100, warmup=10, rate=1.0).optim
    optim = replace(optim, decay_from=0.5, floor=0.1)
    assert rate(optim, 0) == pytest.approx(0.1)
    assert [rate(optim, k) for k in (9, 30, 49)] == [1.0, 1.0, 1.0]
    assert rate(optim, 75) == pytest.approx(0.55)
    assert rate(optim, 100) == pytest.approx(0.1)


def test_a_log_is_cut_where_a_run_resumes_and_can_be_drawn(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.csv")
    for step in range(1, 6):
        log.put({"step": step, "loss": 1 / step, "0-250": math.nan if step == 2 else 0.5})
    log.cut(3)
    assert [row["step"] for row in table(tmp_path)] == ["1", "2", "3"]
    plot(tmp_path / "log.csv", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        colours: Sequence[Any] = picture.getcolors(1 << 16) or ()
        assert len(colours) > 4


def test_the_trainer_needs_no_command_line(data: Path, tmp_path: Path) -> None:
    """A bare GPU machine has torch, numpy, Pillow, pydantic, safetensors and tokenizers."""
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE.replace("steps = 24", "steps = 1"))
    code = (
        "import sys\n"
        "for name in ('typer', 'rich', 'platformdirs', 'click'):\n"
        "    sys.modules[name] = None\n"
        f"sys.argv = ['train', {str(recipe)!r}, '--data', {str(data)!r}, "
        f"'-o', {str(tmp_path / 'run')!r}]\n"
        "from sfumato.train.__main__ import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model" / "stage.json").exists()


def test_the_next_batch_is_made_by_one_thread_and_only_it() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_worker() as pool:
            assert pool.submit(torch.get_num_threads).result() == 1
            assert torch.get_num_threads() == 2
            with ThreadPoolExecutor(1) as later:
                assert later.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)
