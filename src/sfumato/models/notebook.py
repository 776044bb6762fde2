"""Steps in a notebook: how far a run is, and its preview. Results show themselves."""

from __future__ import annotations

import sys
from base64 import b64encode

from sfumato.core.context import Step


def html(step: Step) -> str:
    """A bar, a line, and the preview where there is a model to make one."""
    stage = f"upsampler {step.stage}, " if step.stage else ""
    count = max(step.i + 1, 0)
    line = f"{stage}step {count} of {step.transitions}, t = {step.s:.3f}"
    encode = getattr(step.preview(), "_repr_png_", None)
    image = ""
    if encode is not None:
        data = b64encode(encode()).decode()
        style = "width:160px;image-rendering:pixelated"
        image = f'<img style="{style}" src="data:image/png;base64,{data}">'
    bar = f'<progress value="{count}" max="{step.transitions}"></progress>'
    return f"<figure>{image}<figcaption>{bar} {line}</figcaption></figure>"


def register() -> None:
    """Where IPython is running, let it show steps; core knows no HTML."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is not None:
        shell.display_formatter.formatters["text/html"].for_type(Step, html)
