"""Cases that are made here, to try the harness itself and to stand in for large files.

`losses` works out training losses by the reference program's own tables, written anew in numpy;
`varied` gives a network case other inputs; `filled` makes the weights of a case by a formula (one
with "made_weights" holds none). `PYTHONPATH=tests python -m conformance.made SHARED` renews the
small network cases in tests/fixtures: their outputs are ours, when ours agreed with the whole
folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import conformance.glide
import conformance.guided
import conformance.ilvr
import conformance.networks
from conformance.tables import Tables

Case = Mapping[str, Any]
Tensors = Mapping[str, Tensor]
Check = Callable[[Case, Tensors], None]

SMALL = {
    "adm/superres", "adm/classifier_spatial_v2", "adm/loop_classifier_guided",
    "glide/text2im", "glide/superres_text2im", "glide/inpaint_text2im",
    "glide/superres_inpaint_text2im", "glide/loop_clip_guided", "glide/loop_ddim_cfg",
    "glide/loop_inpaint_cfg", "glide/loop_upsample", "ilvr/loop_adm_unet_n4",
}  # fmt: skip
"""Cases whose weights are made by a formula in the small folder."""


def filled(case: Case, tensors: Tensors) -> dict[str, Tensor]:
    """The tensors and those of a case's "made_weights": name -> shape, mean, deviation."""
    complete = dict(tensors)
    for k, (name, (shape, mean, deviation)) in enumerate(
        sorted(case.get("made_weights", {}).items())
    ):
        generator = np.random.Generator(np.random.PCG64(k))
        drawn = generator.uniform(-(3**0.5), 3**0.5, shape)
        complete[name] = torch.from_numpy(mean + deviation * drawn).float()
    return complete


def fill_of(tensors: Tensors) -> dict[str, Any]:
    """What `filled` makes weights of that are spread like these."""
    fill = {}
    for name, value in tensors.items():
        if name.startswith(("sd.", "model.")):
            spread = float(value.float().std()) if value.numel() > 1 else 0.0
            fill[name] = [
                list(value.shape),
                round(float(value.float().mean()), 4),
                round(spread, 4),
            ]
    return fill


@contextmanager
def recording() -> Iterator[None]:
    """Checks write what they find into the tensors that they would compare with."""

    def close(what: str, got: Tensor, want: Tensor, tolerance: float) -> None:
        want.copy_(got.detach())

    def within(tolerance: Any, name: str, got: Tensor, want: Tensor) -> None:
        want.copy_(got.detach())

    modules = (conformance.networks, conformance.guided, conformance.glide, conformance.ilvr)
    replaced = [
        (module, name, getattr(module, name))
        for module in modules
        for name in ("close", "within")
        if hasattr(module, name)
    ]
    for module, name, _ in replaced:
        setattr(module, name, close if name == "close" else within)
    try:
        yield
    finally:
        for module, name, kept in replaced:
            setattr(module, name, kept)


def recorded(check: Check, case: Case, tensors: Tensors) -> dict[str, Tensor]:
    """The case's tensors with outputs of ours."""
    answered = {name: value.clone() for name, value in tensors.items()}
    with recording():
        check(case, answered)
    return answered


def varied(case: Case, tensors: Tensors, seed: int, rows: int) -> dict[str, Tensor]:
    """Inputs of a network case drawn anew: another seed, batch and timesteps."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, value in tensors.items():
        if not name.startswith(("in.", "out.")):
            drawn[name] = value
        elif value.is_floating_point():
            shape = (rows, *value.shape[1:])
            drawn[name] = torch.randn(shape, generator=generator) * float(value.std())
        else:
            drawn[name] = value[torch.arange(rows) % len(value)]
    if "in.timesteps" in drawn:
        drawn["in.timesteps"] = torch.randint(0, 1000, (rows,), generator=generator)
    return drawn


def losses(seed: int, rows: int, side: int, total: int, respacing: str, **config: Any) -> Any:
    """One training-losses case, by the tables of guided-diffusion in float64."""
    rng = np.random.default_rng(seed)
    tables = Tables(config["schedule"], total, respacing)
    kept, bar, before = tables.kept, tables.bar, tables.before
    beta, small = tables.beta, tables.small
    clipped = np.append(small[1], small[1:])
    learned = config["var_type"].startswith("learned")
    t = rng.permutation(len(kept))[:rows]
    t[0] = 0
    x0 = rng.uniform(-1, 1, (rows, 3, side, side)).astype(np.float32)
    noise = rng.standard_normal(x0.shape).astype(np.float32)
    output = rng.standard_normal((rows, 6 if learned else 3, side, side)).astype(np.float32) * 0.5

    def at(values: Any) -> Any:
        return np.asarray(values)[t][:, None, None, None]

    x = np.sqrt(at(bar)) * x0 + np.sqrt(1 - at(bar)) * noise
    of_x0 = at(beta * np.sqrt(before) / (1 - bar))
    of_x = at((1 - before) * np.sqrt(1 - beta) / (1 - bar))
    true_mean = of_x0 * x0 + of_x * x
    mean_type = config["mean_type"]
    target = {"epsilon": noise, "start_x": x0, "previous_x": true_mean}[mean_type]
    out, var = (output[:, :3], output[:, 3:]) if learned else (output, None)
    # at the first step what is far off has a likelihood of 0 but for rounding
    out[0] = target[0] + out[0] * (0.5 if mean_type == "epsilon" else 0.5 * clipped[0] ** 0.5)
    kind = config["var_type"]
    if kind == "learned_range":
        frac = (var + 1) / 2
        log = frac * at(np.log(beta)) + (1 - frac) * at(np.log(clipped))
    elif kind == "learned":
        log = output[:, 3:] = var * 0.1 + at(np.log(clipped))
    else:
        log = at(np.log(np.append(small[1], beta[1:]) if kind == "fixed_large" else clipped))
        log = np.broadcast_to(log, out.shape)
    if mean_type == "previous_x":
        mean = out
    else:
        clean = (
            out if mean_type == "start_x" else (x - np.sqrt(1 - at(bar)) * out) / np.sqrt(at(bar))
        )
        mean = of_x0 * clean + of_x * x
    true_log = at(np.log(clipped))
    kl = 0.5 * (
        -1 + log - true_log + np.exp(true_log - log) + (true_mean - mean) ** 2 * np.exp(-log)
    )

    def cdf(v: Any) -> Any:
        return 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3)))

    inverse = np.exp(-0.5 * log)
    above, below = (cdf(inverse * (x0 - mean + d)) for d in (1 / 255, -1 / 255))
    likely = np.where(
        x0 < -0.999,
        np.log(np.maximum(above, 1e-12)),
        np.where(
            x0 > 0.999,
            np.log(np.maximum(1 - below, 1e-12)),
            np.log(np.maximum(above - below, 1e-12)),
        ),
    )
    vb = np.where((t == 0)[:, None, None, None], -likely, kl).mean((1, 2, 3)) / np.log(2)
    mse = ((target - out) ** 2).mean((1, 2, 3))
    outputs = {"x_t": x, "mse": mse, "loss": mse}
    if config["loss_type"].endswith("kl"):
        outputs = {"x_t": x, "loss": vb * (len(kept) if "rescaled" in config["loss_type"] else 1)}
    elif learned:
        vb = vb * (len(kept) / 1000 if config["loss_type"] == "rescaled_mse" else 1)
        outputs |= {"vb": vb, "loss": mse + vb}
    inputs = {"x_start": x0, "noise": noise, "model_output": output, "t": t}
    case = {
        "prefix": "c0.", "respacing": respacing, "total_steps": total,
        "num_timesteps": len(kept), "keys": [name for name in outputs if name != "x_t"], **config,
    }  # fmt: skip
    tensors = {f"in.c0.{name}": torch.from_numpy(value) for name, value in inputs.items()}
    tensors |= {
        f"out.c0.{name}": torch.from_numpy(value).float() for name, value in outputs.items()
    }
    return {"kind": "training-losses", "cases": [case]}, tensors


def main(shared: Path) -> None:
    from conformance.kinds import KINDS

    small = Path(__file__).parent / "fixtures"
    for name in sorted(SMALL):
        case = json.loads((shared / f"{name}.json").read_text())
        tensors = load_file(shared / f"{name}.safetensors")
        case = {
            k: v for k, v in case.items() if not k.startswith(("state_dict", "measured", "max"))
        }
        case["made_weights"] = fill_of(tensors)
        case["made"] = "weights by tests/conformance/made.py, outputs of ours"
        answered = recorded(KINDS[case["kind"]], case, filled(case, tensors))
        kept = {k: v.contiguous() for k, v in answered.items() if k not in case["made_weights"]}
        (small / f"{name}.json").write_text(json.dumps(case, separators=(",", ":")))
        save_file(kept, small / f"{name}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
