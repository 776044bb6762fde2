"""Checks of the training fixtures: losses of a constant model against the reference program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.schedule import named
from sfumato.train.levels import Constant
from sfumato.train.objective import Objective, clean, variational_bound


def training_losses(case: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """`training_losses` of guided-diffusion: hybrid, rescaled, fixed variance, bound alone."""
    assert case["cases"]
    for config in case["cases"]:
        assert config["respacing"] == "", "respaced losses have no case yet"
        assert config["mean_type"] == "epsilon"
        prefix = config["prefix"]
        given = {
            k.removeprefix(f"in.{prefix}"): v for k, v in tensors.items() if k.startswith("in.")
        }
        expected = {
            k.removeprefix(f"out.{prefix}"): v for k, v in tensors.items() if f"out.{prefix}" in k
        }
        made = _losses(config, given)
        for name in (*config["keys"], "x_t"):
            close = torch.isclose(made[name].float(), expected[name], rtol=1e-4, atol=1e-6)
            assert close.all(), f"{prefix}{name}: {made[name]} instead of {expected[name]}"


def _losses(config: dict[str, Any], given: dict[str, Tensor]) -> dict[str, Tensor]:
    x0, noise, output = given["x_start"], given["noise"], given["model_output"]
    learned = config["var_type"] == "learned_range"
    seen = []

    def network(x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        seen.append((x, time))
        return output

    schedule = named(config["schedule"], config["num_timesteps"])
    denoiser = Denoiser(network, schedule, "eps", learned_range=learned)
    times = [(int(k) + 1) / config["num_timesteps"] for k in given["t"]]
    loss = Objective(weighting=Constant(), vb=1.0).at(denoiser, x0, Cond(), noise, times)
    x, time = seen[0]
    assert torch.equal(time, given["t"].float()), "the network reads the original timesteps"
    if config["loss_type"] == "rescaled_kl":
        eps, var = output.chunk(2, dim=1)
        mean_x0 = clean(denoiser, x, eps, times)
        bound = variational_bound(schedule, x0, x, mean_x0, (var + 1) / 2, times)
        return {"x_t": x, "loss": bound * config["num_timesteps"]}
    if not learned:
        assert loss.vb is None
        return {"x_t": x, "loss": loss.mse, "mse": loss.mse}
    assert loss.vb is not None
    scale = config["num_timesteps"] / 1000 if config["loss_type"] == "rescaled_mse" else 1.0
    vb = loss.vb * scale
    torch.testing.assert_close(loss.total, (loss.mse + vb).mean())
    return {"x_t": x, "loss": loss.mse + vb, "mse": loss.mse, "vb": vb}


KINDS: dict[str, Callable[[dict[str, Any], dict[str, Tensor]], None]] = {
    "training-losses": training_losses
}
