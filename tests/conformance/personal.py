"""Checks of the DreamBooth fixtures: the loss with prior preservation, and the measures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from conformance.case import picked
from sfumato.core.denoiser import Kind
from sfumato.metrics import fidelity
from sfumato.models.loaders.unets import KINDS as PREDICTED
from sfumato.train.prior import per_sample, preserved
from sfumato.train.weighting import Constant, MinSNR, Target

Case = Mapping[str, Any]
Tensors = Mapping[str, Tensor]


def check_prior_loss(case: Case, t: Tensors) -> None:
    near = case["tolerance"]["relative"]
    for name, entry in case["cases"].items():
        kind = picked(PREDICTED, entry["kind"], "kind")
        bars = t[f"alphas_cumprod.{entry['schedule']}"][t[f"{name}.in.t"]]
        x0, noise = t[f"{name}.in.x0"].double(), t[f"{name}.in.noise"].double()
        target = asked(kind, x0, noise, bars.view(-1, 1, 1, 1))
        losses = per_sample(t[f"{name}.in.pred"], target, t.get(f"{name}.in.mask"))
        agrees(losses, t[f"{name}.out.per_sample"], near)
        of_class = [bool(v) for v in t[f"{name}.in.is_class"]]
        for gamma in told(t, f"{name}.out.weights."):
            weighting = None if gamma == "gnone" else MinSNR(float(gamma.removeprefix("g")))
            weights = torch.tensor([weight(kind, weighting, float(bar)) for bar in bars])
            agrees(weights, t[f"{name}.out.weights.{gamma}"], near)
            for rest in told(t, f"{name}.out.lam"):
                if not re.search(rf"\.{re.escape(gamma)}\.", rest):
                    continue
                strength, _, form = rest.partition(f".{gamma}.")
                lam, rows = float(strength), weights * losses
                plain = torch.where(torch.tensor(of_class), losses, rows)
                if form == "both":
                    total = preserved(rows, of_class, lam)
                elif form == "inst_only":
                    total = preserved(plain, of_class, lam)
                else:
                    assert form == "batchmean", f"{form}: not known to this check"
                    total = preserved(rows, of_class, lam, "mean")
                agrees(total, t[f"{name}.out.lam{rest}"], near)


def told(t: Tensors, prefix: str) -> list[str]:
    """What follows a prefix in the names of a case's tensors."""
    endings = [name.removeprefix(prefix) for name in t if name.startswith(prefix)]
    assert endings, f"no {prefix}*"
    return endings


def asked(kind: Kind, x0: Tensor, noise: Tensor, bar: Tensor) -> Tensor:
    if kind == "eps":
        return noise
    return x0 if kind == "x0" else bar.sqrt() * noise - (1 - bar).sqrt() * x0


def weight(kind: Kind, weighting: Any, bar: float) -> float:
    """What the trainer multiplies a row's own MSE with."""
    if weighting is None:  # plain MSE on the target
        return float(Constant()(1.0, Target("eps")))
    snr = bar / (1 - bar)
    return float(weighting(snr, Target(kind)) * Target(kind).eps_factor(snr))


def agrees(got: Tensor, wanted: Tensor, relative: float) -> None:
    assert torch.isfinite(got).all()
    torch.testing.assert_close(got.double().reshape(wanted.shape), wanted, rtol=relative, atol=1e-9)


def check_metrics(case: Case, t: Tensors) -> None:
    inputs = {
        name: t[f"metric.in.{name}"] for name in ("gen", "real", "text", "class_gen", "lpips")
    }
    measures = {
        "subject_fidelity": float(fidelity.subject_fidelity(inputs["gen"], inputs["real"]).mean()),
        "real_ceiling": fidelity.real_ceiling(inputs["real"]),
        "prompt_fidelity": float(fidelity.prompt_fidelity(inputs["gen"], inputs["text"]).mean()),
        "pres": float(fidelity.pres(inputs["class_gen"], inputs["real"]).mean()),
        "div": fidelity.diversity(inputs["lpips"]),
    }
    for name, value in measures.items():
        wanted = float(t[f"metric.out.{name}"])
        assert value == pytest.approx(wanted, rel=case["tolerance"]["relative"]), name


KINDS = {"prior-loss": check_prior_loss, "personalisation-metrics": check_metrics}
