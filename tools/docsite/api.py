"""The page of the public names, from their docstrings; methods have pages of their own."""

from __future__ import annotations

import inspect

import sfumato

GROUPS: dict[str, tuple[str, ...]] = {
    "Models": ("load", "Model", "Cascade", "Result", "run"),
    "Processes": ("Process", "Step", "Guide", "Call", "Branch"),
    "Networks": ("Denoiser", "Prediction", "Cond"),
    "Solvers": ("DDPM", "DDIM", "DPMpp2M", "EDM", "PLMS", "RungeKutta"),
    "Pictures": ("Picture", "open_image", "strokes", "sheet"),
    "Recipes and measures": ("Recipe", "sweep", "compare"),
    "Errors": ("SfumatoError",),
}

HEAD = """# Python

```python
import sfumato as sf
```

holds all of this; nothing is imported before it is used. Methods are public names too, each with
its [page](../src/sfumato/methods).
"""


def pages() -> dict[str, str]:
    parts = [HEAD]
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n")
        parts += [directive(name) for name in names]
    return {"api.md": "\n".join(parts)}


def directive(name: str) -> str:
    """What autodoc is asked for."""
    found = getattr(sfumato, name)
    kind = "autofunction" if inspect.isroutine(found) else "autoclass"
    kind = "autoexception" if inspect.isclass(found) and issubclass(found, Exception) else kind
    return f"```{{eval-rst}}\n.. {kind}:: sfumato.{name}\n```\n"
