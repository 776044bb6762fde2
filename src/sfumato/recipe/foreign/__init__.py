"""Settings that other programs leave in their pictures, read into a recipe.

What of them has no place in a recipe is said line by line; what a run cannot do without is said
too, so that such a recipe is only run with what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping

from sfumato.core.errors import SfumatoError
from sfumato.recipe.foreign import comfyui, fooocus, invokeai, parameters
from sfumato.recipe.foreign.draft import Foreign

__all__ = ["Foreign", "read"]

LONGEST = 4 << 20  # characters of such a text


def read(texts: Mapping[str, str], where: str) -> Foreign | None:
    """By the keys under which programs write; None where none of them did.

    where: what errors call the picture.
    """
    known = {key: text for key, text in texts.items() if key != "sfumato"}
    if long := next((key for key, text in known.items() if len(text) > LONGEST), None):
        raise SfumatoError(f"{where}: its {long} are longer than {LONGEST >> 20} MiB")
    if text := known.get("invokeai_metadata"):
        return invokeai.read(text, f"{where}: invokeai_metadata")
    if text := known.get("parameters"):
        if text.lstrip().startswith("{"):
            return fooocus.read(text, f"{where}: parameters")
        return parameters.read(text, f"{where}: parameters")
    if (text := known.get("prompt")) and text.lstrip().startswith("{"):
        return comfyui.read(text, f"{where}: prompt")
    if "sd-metadata" in known or "Dream" in known:
        raise SfumatoError(
            f"{where}: has settings of InvokeAI 2, which are not read; 3 and later are"
        )
    return None
