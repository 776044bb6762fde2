"""A recipe as the text that other tools show: prompt, negative prompt, one line of settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfumato.recipe.value import Recipe


def text(recipe: Recipe) -> str:
    """Prompt, negative prompt, and settings as `Key: value` (A1111 form)."""
    cfg = next((m for m in recipe.methods if m.get("method") == "cfg"), {})
    start: Any = recipe.run.get("start") or {}
    size = recipe.run.get("size")
    settings = {
        "Steps": recipe.steps if recipe.steps is not None else recipe.run.get("steps"),
        "Sampler": recipe.solver["solver"] if isinstance(recipe.solver, Mapping) else recipe.solver,
        "CFG scale": cfg.get("scale"),
        "Seed": recipe.seed + int(recipe.run.get("index", 0)),
        "Size": f"{size[0]}x{size[1]}" if size else None,
        "Model": recipe.model,
        "Denoising strength": f"{start['t0']:g}" if start.get("t0", 1) < 1 else None,
        "Version": f"sfumato {recipe.versions.get('sfumato', '')}".strip(),
    }
    line = ", ".join(f"{key}: {value}" for key, value in settings.items() if value is not None)
    negative = [f"Negative prompt: {recipe.negative}"] if recipe.negative else []
    return "\n".join([recipe.prompt, *negative, line])
