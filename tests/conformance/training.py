"""Checks of the training fixtures: losses of a constant model against the reference program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from conformance.case import kept_of, number, picked, table_of, total_of
from conformance.networks import part
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.schedule import Table
from sfumato.train.objective import (
    LN2,
    Objective,
    _transition,
    clean,
    column,
    discretised_log_likelihood,
    variational_bound,
)
from sfumato.train.weighting import Target

KIND: dict[str, Any] = {"epsilon": "eps", "start_x": "x0", "previous_x": "previous"}


def training_losses(case: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """`training_losses` of guided-diffusion: every mean, variance, loss and respacing."""
    assert case["cases"]
    relative = number(str(case.get("tolerance", "")), "relative {}") or 1e-4
    for config in case["cases"]:
        prefix = config["prefix"]
        # a term far below 1 is a difference of numbers near 1, of float32 in the reference
        scale = len(kept_of(config)) if config["loss_type"] == "rescaled_kl" else 1
        absolute = max(1e-6, 1e-7 * scale)
        terms = Losses.of(config, part(tensors, f"in.{prefix}")).terms()
        for name, want in part(tensors, f"out.{prefix}").items():
            assert name in terms, f"{prefix}{name}: not known to this check"
            close = torch.isclose(terms[name].float(), want, rtol=relative, atol=absolute)
            assert close.all(), f"{prefix}{name}: {terms[name]} instead of {want}"


def plain(snr: float, target: Target) -> float:
    """The weight, relative to eps-MSE, under which the error on the target counts as it is."""
    return 1 / target.eps_factor(snr)


@dataclass(frozen=True)
class Losses:
    """One case: the respaced process as a table of its own, whose times the network reads as the
    original ones."""

    config: dict[str, Any]
    inputs: dict[str, Tensor]
    kept: list[int]
    table: Table

    @classmethod
    def of(cls, config: dict[str, Any], inputs: dict[str, Tensor]) -> Losses:
        whole, kept = table_of(config), kept_of(config)
        return cls(config, inputs, kept, Table(tuple(whole.alpha_bar[k] for k in kept)))

    @property
    def times(self) -> list[float]:
        return [(int(k) + 1) / len(self.kept) for k in self.inputs["t"]]

    @property
    def learned(self) -> bool:
        return self.config["var_type"] in ("learned", "learned_range")

    def read(self, t: float) -> float:
        """The timestep that the network reads: mapped back, maybe rescaled to 0 .. 1000."""
        original = float(self.kept[round(t * len(self.kept)) - 1])
        if self.config.get("rescale_timesteps"):
            original *= 1000 / total_of(self.config)
        return original

    def terms(self) -> dict[str, Tensor]:
        config, calls = self.config, []
        x0, noise, output = (self.inputs[name] for name in ("x_start", "noise", "model_output"))

        def network(x: Tensor, time: Tensor, cond: Cond) -> Tensor:
            calls.append((x, time))
            return out

        out, var = output.chunk(2, dim=1) if self.learned else (output, None)
        kind = picked(KIND, config.get("mean_type", "epsilon"), "mean_type")
        # a mean of the step below has no error of its own in ours: its target is worked out here
        denoiser = Denoiser(
            network, self.table, "x0" if kind == "previous" else kind, code=self.read
        )
        loss = Objective(weighting=plain).at(denoiser, x0, Cond(), noise, self.times)
        x, time = calls[0]
        assert time.tolist() == [self.read(t) for t in self.times]
        mse, mean_x0 = loss.mse, None
        if kind == "previous":
            mse, mean_x0 = self.of_means(x0, x, out)
        else:
            torch.testing.assert_close(loss.total, mse.mean())
            mean_x0 = clean(denoiser, x, out, self.times)
        if config["var_type"] == "learned":  # ours interpolates between the fixed ones alone
            vb = self.bound(x0, x, mean_x0, var)
        else:
            vb = variational_bound(self.table, x0, x, mean_x0, self.frac(var, x), self.times)
        if config["var_type"] == "learned_range" and kind != "previous":
            self.hybrid(network_out=output, x0=x0, noise=noise, mse=mse, vb=vb, kind=kind)
        steps = len(self.kept)
        if config["loss_type"].endswith("kl"):
            return {"x_t": x, "loss": vb * (steps if config["loss_type"] == "rescaled_kl" else 1)}
        if not self.learned:
            return {"x_t": x, "loss": mse, "mse": mse}
        vb = vb * (steps / 1000 if config["loss_type"] == "rescaled_mse" else 1)
        return {"x_t": x, "loss": mse + vb, "mse": mse, "vb": vb}

    def hybrid(
        self, network_out: Tensor, x0: Tensor, noise: Tensor, mse: Tensor, vb: Tensor, kind: Any
    ) -> None:
        """The product's own sum of both, the "rescaled" one."""

        def network(x: Tensor, time: Tensor, cond: Cond) -> Tensor:
            return network_out

        denoiser = Denoiser(network, self.table, kind, learned_range=True, code=self.read)
        both = Objective(weighting=plain, vb=1.0).at(denoiser, x0, Cond(), noise, self.times)
        assert both.vb is not None
        torch.testing.assert_close(both.vb, vb)
        scale = len(self.kept) / 1000
        torch.testing.assert_close(both.total, (mse + scale * vb).mean(), rtol=1e-5, atol=1e-6)

    def levels(self) -> list[tuple[float, float, float, float]]:
        pairs = [(t, max(t - 1 / len(self.kept), 0.0)) for t in self.times]
        pairs = [(t, 0.0 if t * len(self.kept) < 1.5 else s) for t, s in pairs]
        return [_transition(self.table, t, s) for t, s in pairs]

    def of_means(self, x0: Tensor, x: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        """MSE of a predicted mean, and the x0 that the mean stands for."""
        of_x, of_x0, _, _ = (column(values, x) for values in zip(*self.levels(), strict=True))
        error = of_x * x + of_x0 * x0 - out
        return error.square().flatten(1).mean(1), (out - of_x * x) / of_x0

    def bound(self, x0: Tensor, x: Tensor, mean_x0: Tensor, log: Tensor | None) -> Tensor:
        """One step's term of the bound where the logarithm of the variance is given."""
        assert log is not None
        of_x, of_x0, small, _ = (column(values, x) for values in zip(*self.levels(), strict=True))
        true_mean, mean = of_x * x + of_x0 * x0, of_x * x + of_x0 * mean_x0
        kl = log - small - 1 + (small - log).exp() + (true_mean - mean).square() * (-log).exp()
        likely = -discretised_log_likelihood(x0, mean, 0.5 * log)
        first = column([float(t * len(self.kept) < 1.5) for t in self.times], x) > 0
        return torch.where(first, likely, 0.5 * kl).flatten(1).mean(1) / LN2

    def frac(self, var: Tensor | None, x: Tensor) -> Tensor:
        """The place of a variance between the small and the large one, in logarithms."""
        kind = self.config["var_type"]
        if kind == "learned_range":
            assert var is not None
            return (var + 1) / 2
        # the fixed large variance of the first step is the small one of the second
        first = column([float(t * len(self.kept) < 1.5) for t in self.times], x)
        return torch.zeros_like(first) if kind == "fixed_small" else 1 - first


KINDS: dict[str, Callable[[dict[str, Any], dict[str, Tensor]], None]] = {
    "training-losses": training_losses
}
