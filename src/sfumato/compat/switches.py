"""Methods of their pipelines that change speed or memory, not pictures: what becomes of them here.

Those of SAID go on with a line; whatever else theirs have is refused by its name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from sfumato.core.errors import SfumatoError

log = logging.getLogger("sfumato")

NO_SLICES = "attention is torch's own, which needs no slices; nothing changes"
ONE_BY_ONE = "pictures go through the autoencoder one by one anyway"
NO_HOOKS = "weights lie in main memory between calls anyway; pipe.to(device) ends offloading"
AS_THEY_ARE = "layers stay as they are, which makes the same pictures"
SAID: Mapping[str, str] = {
    "disable_attention_slicing": NO_SLICES,
    "disable_vae_slicing": ONE_BY_ONE,
    "enable_attention_slicing": NO_SLICES,
    "enable_vae_slicing": ONE_BY_ONE,
    "fuse_qkv_projections": AS_THEY_ARE,
    "maybe_free_model_hooks": NO_HOOKS,
    "remove_all_hooks": NO_HOOKS,
    "reset_device_map": NO_HOOKS,
    "set_attention_slice": NO_SLICES,
    "unfuse_qkv_projections": AS_THEY_ARE,
    "upcast_vae": "the autoencoder works in float32 anyway",
}
"""Method -> what happens; it is said once a process for each."""

INSTEAD: Mapping[str, str] = {
    "components": "from_pipe makes another pipeline of the same parts",
    "encode_prompt": "pipe.model.encode reads prompts",
    "freeu": "sfumato has nothing of its kind",
    "group_offload": "enable_sequential_cpu_offload does it layer by layer",
    "hotswap": "load_lora_weights takes another file at any time",
    "ip_adapter": "sf.IPAdapter does it",
    "prepare_": "pipe.model has parts of a run",
    "push_to_hub": "nothing is sent anywhere",
    "save_": "`sfumato models export` writes a folder",
    "xformers": "attention is torch's own, without it; leave it out",
}
"""Part of a name -> what does that here."""


class MissingError(SfumatoError, AttributeError):
    """What a pipeline of diffusers has, and ours has not."""


def other(pipeline: str, name: str) -> Any:
    """An attribute that a pipeline has not of its own: a method of SAID, else refused."""
    if name in SAID:
        return partial(_said, name)
    hint = next((text for word, text in INSTEAD.items() if word in name), "")
    raise MissingError(
        f"{pipeline}.{name:.60}: is not here{f', {hint}' if hint else ''}; docs/compat.md says "
        "what is"
    )


def say(name: str, text: str) -> None:
    log.warning("%s: %s", name, text)


def _said(name: str, *_: Any, **__: Any) -> None:
    say(name, SAID[name])
