"""Pipelines and schedulers by diffusers' names, so that trying this library is changing an import.

    from sfumato.compat import StableDiffusionPipeline  # was: from diffusers import ...

Their arguments, their noise for the same generator, their pictures. What is not supported is
refused by its name.
"""

from __future__ import annotations

from typing import Any

from sfumato.core.errors import SfumatoError

AUTO = (
    "AutoPipelineForImage2Image", "AutoPipelineForInpainting", "AutoPipelineForText2Image",
    "DiffusionPipeline",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if not name[:1].isupper():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name.endswith("Scheduler"):
        from sfumato.compat.schedulers import named

        return named(name)
    if "Pipeline" in name:
        from sfumato.compat import auto, pipelines

        return getattr(auto, name) if name in AUTO else pipelines.named(name)
    raise SfumatoError(
        f"sfumato.compat: {name:.60} is not here; pipelines and schedulers by diffusers' names are"
    )


def __dir__() -> list[str]:
    from sfumato.compat.schedulers import MEANT
    from sfumato.compat.signatures import CALLS

    return sorted([*AUTO, *CALLS, *MEANT])
