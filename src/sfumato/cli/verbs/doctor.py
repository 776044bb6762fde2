"""`sfumato doctor`: what is installed, what is chosen here, and whether it works."""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sfumato.cli.verb import Verb
from sfumato.cli.verbs.shared import AS_JSON, DEBUG, DEVICE, DTYPE, QUIET
from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch
from sfumato.home import home

REQUIRED = (
    "sfumato", "torch", "pillow", "numpy", "safetensors", "tokenizers", "pydantic", "diffusers",
    "transformers", "huggingface-hub", "matplotlib",
)  # fmt: skip
OPTIONAL = {
    "bitsandbytes": "for dreambooth --eight-bit",
    "accelerate": "for training on several devices",
    "resvg-py": "for data build-emoji",
    "fastapi": "for serve (sfumato[server])",
}


def installed(name: str) -> str:
    """The version of a package, or that it is missing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return f"missing, pip install {name}"


def doctor(device: str, dtype: str, as_json: bool, quiet: bool) -> None:
    """Versions, the choices made here, and a small run with checked output."""
    from sfumato.models.devices import choose
    from sfumato.models.loaders import library

    choice = choose(device, dtype)
    began = time.perf_counter()
    model = library.load("emoji", device=device, dtype=dtype)
    loaded = time.perf_counter()
    result: Any = model.process("red apple", steps=10).sample(seed=0)
    done = time.perf_counter()
    red, green, blue = (sum(band.get_flattened_data()) for band in result.images[0].split())
    healthy = red > green and red > blue
    data = {
        "python": platform.python_version(),
        **{name: installed(name) for name in REQUIRED},
        **{name: f"{installed(name)}; {what}" for name, what in OPTIONAL.items()},
        "device": f"{choice.device} ({choice.device_reason})",
        "dtype": f"{choice.dtype} ({choice.dtype_reason})",
        "threads": torch.get_num_threads(),
        "home": str(home()),
        "self-test": f"load {loaded - began:.1f} s, red apple in {done - loaded:.1f} s, "
        + ("it is red" if healthy else "it is NOT red"),
    }
    print(json.dumps(data) if as_json else "\n".join(f"{k}: {v}" for k, v in data.items()))
    if not healthy:
        raise SfumatoError(
            "self-test: the red apple is not red; reinstall sfumato or try --dtype float32"
        )


DOCTOR = Verb(
    "doctor",
    doctor,
    "Versions, what is missing, device, and a self-test.",
    (DEVICE, DTYPE, AS_JSON, QUIET, DEBUG),
    ("", "--device cpu --json"),
    where="machine",
)
