"""sfumato: guided image synthesis and editing with diffusion models, as values that compose."""

from __future__ import annotations

import importlib

__version__ = "0.2.0"

# public name -> module that has it; imported when first read, so `import sfumato` is free
_HOME = {
    "SfumatoError": "sfumato.core.errors",
    "Process": "sfumato.core.process",
    "Step": "sfumato.core.context",
    "Guide": "sfumato.core.guides",
    "Call": "sfumato.core.context",
    "Branch": "sfumato.core.mixture",
    "Cond": "sfumato.core.denoiser",
    "Denoiser": "sfumato.core.denoiser",
    "Prediction": "sfumato.core.denoiser",
    "DDPM": "sfumato.core.solvers",
    "DDIM": "sfumato.core.solvers",
    "DPMpp2M": "sfumato.core.solvers",
    "EDM": "sfumato.core.solvers",
    "PLMS": "sfumato.core.solvers",
    "RungeKutta": "sfumato.core.solvers",
    "Picture": "sfumato.images",
    "open_image": "sfumato.images",
    "strokes": "sfumato.images",
    "sheet": "sfumato.images",
    "Recipe": "sfumato.recipe",
    "Model": "sfumato.models.model",
    "Cascade": "sfumato.models.cascade",
    "Result": "sfumato.models.result",
    "load": "sfumato.models.loaders.library",
    "run": "sfumato.models.replay",
    "sweep": "sfumato.measure.sweep",
    "compare": "sfumato.measure.compare",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name[:1].isupper():  # not a submodule, which `from sfumato import images` asks for here
        from sfumato.methods import registry  # a method's class is public by being installed

        for cls in registry().values():
            if cls.__name__ == name:
                return cls
    raise AttributeError(f"module 'sfumato' has no attribute {name!r}")


def __dir__() -> list[str]:
    from sfumato.methods import registry

    return sorted([*_HOME, *(cls.__name__ for cls in registry().values()), "__version__"])
