"""Where models come from: load() by name, folder or checkpoint file; what is bundled and known."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from sfumato.core.denoiser import Denoiser, Kind
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import named
from sfumato.models import glide, openai
from sfumato.models.card import Card, Defaults, StageCard, read
from sfumato.models.devices import DTYPES, Choice, choose
from sfumato.models.model import Model
from sfumato.models.prompts import Prompts
from sfumato.nn.unet import UNetConfig
from sfumato.recipe import home

log = logging.getLogger("sfumato")

BUNDLED = {"emoji": Path(__file__).parent / "emoji"}


@dataclass(frozen=True)
class Entry:
    """A line of `sfumato models`.

    where: "bundled", "cached" (a folder under SFUMATO_HOME/models), or "known" for a released
    checkpoint that the user must have as a file.
    """

    name: str
    where: str
    title: str


def entries() -> list[Entry]:
    """Bundled models, cached folders, then released checkpoints that load from a file."""
    bundled = [Entry(name, "bundled", read(folder).title) for name, folder in BUNDLED.items()]
    cached = [Entry(folder.name, "cached", read(folder).title) for folder in _cached()]
    known = [
        Entry(name, "known", f"{p.title}; load it from {name}.pt")
        for name, p in openai.PRESETS.items()
    ]
    return bundled + cached + known


def _cached() -> list[Path]:
    """Model folders that the user keeps where this program looks."""
    return sorted(card.parent for card in (home() / "models").glob("*/card.json"))


def load(name: str = "emoji", *, device: str = "auto", dtype: str = "auto") -> Model:
    """A model: a bundled or cached name, a folder with card.json, or released checkpoints.

    Those are a folder of GLIDE's files (models.glide says which), or one file, recognised by its
    name (sfumato models lists them). Nothing is downloaded.
    """
    choice = choose(device, dtype)
    path = Path(name)
    named_folders = {folder.name: folder for folder in _cached()} | BUNDLED
    if name in named_folders:
        return _from_folder(name, named_folders[name], choice)
    if path.is_dir():
        return _from_folder(name, path, choice)
    if path.is_file():
        return _from_file(path, choice)
    known = ", ".join(named_folders)
    raise SfumatoError(
        f"model {name!r}: not one of {known}, nor a folder or a file; "
        "`sfumato models` lists what can be loaded"
    )


def _from_folder(name: str, folder: Path, choice: Choice) -> Model:
    text: Any = None
    if glide.is_glide(folder):
        card, text = glide.card(folder), glide.prompts(folder)
    else:
        card = read(folder)
    digest = sha256()
    denoisers = []
    for stage in (card.base, *card.upsamplers):
        files = [folder / file for file in stage.weights]
        denoisers.append(_denoiser(files, UNetConfig(**stage.network), stage, choice, digest))
    if card.base.tokenizer is not None:
        text = Prompts(folder / card.base.tokenizer, int(card.base.network["text_ctx"]))
    return Model(
        name,
        card,
        denoisers[0],
        tuple(denoisers[1:]),
        text,
        choice,
        digest.hexdigest(),
        folder=folder,
    )


def _from_file(path: Path, choice: Choice) -> Model:
    """A released checkpoint on its own: its preset says what its shapes cannot."""
    if path.stem not in openai.PRESETS:
        raise SfumatoError(
            f"{path.name}: not named like a released checkpoint, and shapes tell neither heads nor "
            f"schedule; rename it to one of {', '.join(openai.PRESETS)}"
        )
    preset = openai.PRESETS[path.stem]
    if preset.config.low_res or preset.config.xf_width:
        raise SfumatoError(
            f"{path.name}: {preset.title} needs a base picture or a tokenizer beside it; "
            "put it into a folder with a card.json"
        )
    stage = StageCard(
        asdict(preset.config),
        (path.name,),
        preset.schedule,
        preset.kind,
        preset.table,
        preset.learned_range,
    )
    card = Card(
        name=path.stem,
        base=stage,
        native=(preset.native, preset.native),
        multiple=preset.config.multiple,
        maximum=4 * preset.native,
        title=preset.title,
        defaults=Defaults(
            steps=50, solver="dpmpp-2m", methods=({"method": "threshold", "mode": "static"},)
        ),
    )
    digest = sha256()
    denoiser = _denoiser([path], preset.config, stage, choice, digest)
    return Model(str(path), card, denoiser, (), None, choice, digest.hexdigest())


def _denoiser(
    files: list[Path], config: UNetConfig, stage: StageCard, choice: Choice, digest: Any
) -> Denoiser:
    """Read, check and cast one network; the digest takes in its files."""
    for file in files:
        if not file.is_file():
            raise SfumatoError(f"{file}: missing; the model folder is incomplete, install it again")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    network, report = openai.load_unet(
        openai.read_state_dict(files), config, dtype=DTYPES[choice.dtype], device=choice.device
    )
    if report.unexpected:
        log.warning("%s: %s", files[0].name, report)
    schedule = named(stage.schedule, stage.table)
    return Denoiser(network, schedule, cast(Kind, stage.kind), stage.learned_range)
