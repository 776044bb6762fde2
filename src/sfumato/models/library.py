"""Where models come from: load() by name, folder or checkpoint file; what is bundled and known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from sfumato.core.denoiser import Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import named
from sfumato.models import openai
from sfumato.models.card import Card, Defaults, StageCard, read
from sfumato.models.devices import DTYPES, Choice, choose
from sfumato.models.model import Model
from sfumato.models.prompts import Prompts
from sfumato.nn.unet import UNet, UNetConfig

BUNDLED = {"emoji": Path(__file__).parent / "emoji"}


@dataclass(frozen=True)
class Entry:
    """A line of `sfumato models`: where is "bundled", or "known" for a file the user must have."""

    name: str
    where: str
    title: str


def entries() -> list[Entry]:
    """Bundled models, then released checkpoints that load from a file."""
    bundled = [Entry(name, "bundled", read(folder).title) for name, folder in BUNDLED.items()]
    known = [
        Entry(name, "known", f"{p.native} px; sf.load('{name}.pt')")
        for name, p in openai.PRESETS.items()
    ]
    return bundled + known


def load(name: str = "emoji", *, device: str = "auto", dtype: str = "auto") -> Model:
    """A model: a bundled name, a folder with card.json, or a released checkpoint's file.

    A file is recognised by its name (sfumato models lists them). Nothing is downloaded.
    """
    choice = choose(device, dtype)
    path = Path(name)
    if name in BUNDLED:
        return _from_folder(name, BUNDLED[name], choice)
    if path.is_dir():
        return _from_folder(name, path, choice)
    if path.is_file():
        return _from_file(path, choice)
    known = ", ".join(BUNDLED)
    raise SfumatoError(
        f"model {name!r}: not a bundled model ({known}), a folder or a file; "
        "`sfumato models` lists what can be loaded"
    )


def _from_folder(name: str, folder: Path, choice: Choice) -> Model:
    card = read(folder)
    digest = sha256()
    stages = [_denoiser(stage, folder, choice, digest) for stage in (card.base, *card.upsamplers)]
    text = None
    if card.base.tokenizer is not None:
        text = Prompts(folder / card.base.tokenizer, int(card.base.network["text_ctx"]))
    return Model(name, card, stages[0], tuple(stages[1:]), text, choice, digest.hexdigest())


def _denoiser(stage: StageCard, folder: Path, choice: Choice, digest: Any) -> Denoiser:
    files = [folder / name for name in stage.weights]
    for file in files:
        if not file.is_file():
            raise SfumatoError(f"{file}: missing; the model folder is incomplete, install it again")
        digest.update(file.read_bytes())
    network, _ = openai.load_unet(openai.read_state_dict(files), _config(stage.network))
    return _wrap(network, stage, choice)


def _config(fields: Mapping[str, Any]) -> UNetConfig:
    return UNetConfig(**fields)


def _wrap(network: UNet, stage: StageCard, choice: Choice) -> Denoiser:
    network = network.cast(DTYPES[choice.dtype]).to(choice.device).eval().requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    schedule = named(stage.schedule, stage.table)
    return Denoiser(network, schedule, stage.kind, stage.learned_range)  # type: ignore[arg-type]


def _from_file(path: Path, choice: Choice) -> Model:
    preset = openai.PRESETS.get(path.stem)
    if preset is None:
        raise SfumatoError(
            f"{path.name}: its name is none of the released checkpoints', and its shapes do not "
            f"tell heads or schedule; rename it to one of {', '.join(openai.PRESETS)}"
        )
    raise SfumatoError(f"{path.name}: {preset}")


def files_digest(files: Sequence[Path]) -> str:
    """sha256 over the files, in order."""
    digest = sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


__all__ = ["BUNDLED", "Card", "Defaults", "Entry", "entries", "load"]
