"""Where models come from: load() by name, folder or checkpoint file; what is bundled and known."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import torch

from sfumato.core.denoiser import Denoiser, Kind
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import named
from sfumato.home import home
from sfumato.models import notebook
from sfumato.models.card import Card, Defaults, StageCard, read_card
from sfumato.models.devices import BITS, DTYPES, Choice, choose
from sfumato.models.files import hub, vocabularies
from sfumato.models.files.checkpoint import read_state_dict
from sfumato.models.files.hashes import take_in
from sfumato.models.guest import Guest
from sfumato.models.loaders import diffusers, glide, openai, parking, single_file, vdiffusion
from sfumato.models.loaders.decoders import decoding
from sfumato.models.model import Model
from sfumato.models.prompts import Prompts
from sfumato.nn.packed import pack
from sfumato.nn.unet import UNetConfig

log = logging.getLogger("sfumato")

BUNDLED = {"emoji": Path(__file__).parents[1] / "emoji"}


@dataclass(frozen=True)
class Entry:
    """A line of `sfumato models`.

    where: "bundled", "cached" (a folder under SFUMATO_HOME/models), "pulled" (in the hub's cache),
    or "known" for a released checkpoint that the user must have as a file. source: whose files.
    """

    name: str
    where: str
    title: str
    source: str = ""


def entries() -> list[Entry]:
    """Bundled models, cached folders, pulled pipelines, then released checkpoints to be given as
    files."""
    bundled = [Entry(name, "bundled", read_card(folder).title) for name, folder in BUNDLED.items()]
    cached = [Entry(folder.name, "cached", _title(folder)) for folder in _cached_folders()]
    released = [
        Entry(name, "known", f"{p.title}, {p.native} px", _download_hint(p))
        for name, p in openai.PRESETS.items()
    ]
    released += [
        Entry(name, "known", p.title, "NAME.pth of github.com/crowsonkb/v-diffusion-pytorch")
        for name, p in vdiffusion.PRESETS.items()
    ]
    pulled = [Entry(name, "pulled", kind) for name, kind in hub.pulled_pipelines()]
    return bundled + cached + pulled + released


def _title(folder: Path) -> str:
    """Title of a card, or what is wrong with it: the others are listed all the same."""
    try:
        return read_card(folder).title
    except SfumatoError as error:
        return f"damaged ({error})"


def _download_hint(preset: openai.Preset) -> str:
    """Where a checkpoint is to be had, and how it is given."""
    if preset.config.xf_width:
        return "a folder with NAME.pt of github.com/openai/glide-text2im"
    return "NAME.pt of github.com/openai/guided-diffusion"


def _cached_folders() -> list[Path]:
    """Model folders that the user keeps where this program looks."""
    return sorted(card.parent for card in (home() / "models").glob("*/card.json"))


def is_own(name: str) -> bool:
    """Whether a model was trained with sfumato: bundled, or a folder of its kind."""
    return name in BUNDLED or (Path(name) / "card.json").is_file()


def load(
    name: str = "emoji",
    *,
    device: str = "auto",
    dtype: str = "auto",
    offload: str = "none",
    download: bool = False,
) -> Model:
    """A model: a bundled or cached name, a folder, org/name of the hub, or a checkpoint's file.

    Folders are those with card.json, pipelines of diffusers, and GLIDE's released files
    (loaders.glide says which). Files are Stable Diffusion's single ones, the DDPM networks that
    SDEdit uses, v-diffusion's (also a folder with one of them and its CLIP), and released ADM
    checkpoints, recognised by their name (sfumato models lists them), and GGUF of a transformer in
    or beside its pipeline's folder.
    offload: what lies in main memory while it is not used: "none", whole networks ("modules"), or
    their layers too ("layers").
    The network is used only with `download`, and only where the model is not here already.
    """
    notebook.register()
    choice = choose(device, dtype, offload)
    if not isinstance(name, str | Path) or not str(name):
        raise SfumatoError(f"model {name!r:.60}: give a name, a folder or a file")
    name = str(name)
    path = folder_of(name)
    if path is None and download and hub.is_name(name):
        path = hub.pull(name)
    if path is None:
        names = ", ".join([*BUNDLED, *(folder.name for folder in _cached_folders())])
        hint = "`sfumato models` lists what can be loaded"
        if hub.is_name(name):
            hint = f"`sfumato models pull {name}` or --download fetches it from the hub"
        raise SfumatoError(
            f"model {name!r:.200}: not one of {names}, nor a folder or a file; {hint}"
        )
    pipelines = path.suffix.lower() == ".gguf" or (path.is_dir() and diffusers.is_pipeline(path))
    if choice.dtype in BITS and not pipelines:
        raise SfumatoError(
            f"dtype {choice.dtype}: keeps weights of folders in the layout of diffusers in fewer "
            f"bits, {name} is none; take bfloat16"
        )
    lean = "bfloat16" if DTYPES[choice.dtype] == torch.bfloat16 else "float32"
    try:
        model = decoding(_load_from(name, path, choice), lean)
    except torch.OutOfMemoryError:
        raise SfumatoError(
            f"model {name}: is more than {choice.device} has room for; give offload layers, or "
            "dtype int8"
        ) from None
    network: Any = model.denoiser.network
    if offload != "none":
        parking.park(model)
    elif isinstance(network, Guest):
        pack(network.net)
    opens = partial(load, device=choice.device, dtype=choice.dtype, offload=offload)
    return replace(model, opens=opens)


def _load_from(name: str, path: Path, choice: Choice) -> Model:
    """By what lies there."""
    if path.is_file() and path.suffix.lower() == ".gguf":
        return diffusers.load(name, diffusers.folder_of_gguf(path), choice, path)
    if path.is_file():
        return _load_file(path, choice)
    if diffusers.is_pipeline(path):
        return diffusers.load(name, path, choice)
    if not (path / "card.json").is_file() and (file := vdiffusion.find(path)) is not None:
        return vdiffusion.load(name, file, read_state_dict(file), choice)
    return _load_folder(name, path, choice)


def folder_of(name: str) -> Path | None:
    """Where a model is on this machine: its folder or file, None where it is not."""
    named_folders = {folder.name: folder for folder in _cached_folders()} | BUNDLED
    if name in named_folders:
        return named_folders[name]
    path = Path(name)
    try:
        return path if name and (path.is_dir() or path.is_file()) else hub.find(name)
    except OSError:  # a text that is too long for a path
        return None


def _load_folder(name: str, folder: Path, choice: Choice) -> Model:
    text: Any = None
    if glide.is_glide(folder):
        card, text = glide.card(folder), glide.prompts(folder)
    else:
        card = read_card(folder)
    digest = sha256()
    denoisers: dict[tuple[str, ...], Denoiser] = {}
    stages = (card.base, *card.upsamplers)
    for stage in stages:  # one network may serve several stages
        if stage.weights not in denoisers:
            files, config = [folder / file for file in stage.weights], UNetConfig(**stage.network)
            denoisers[stage.weights] = _denoiser(files, config, stage, choice, digest)
    base, *upsamplers = (denoisers[stage.weights] for stage in stages)
    if card.base.tokenizer is not None:
        network = card.base.network
        tokenizer = vocabularies.read_tokenizer(folder / card.base.tokenizer, network["n_vocab"])
        text = Prompts(tokenizer, network["text_ctx"])
    return Model(
        name,
        card,
        base,
        tuple(upsamplers),
        text,
        choice,
        digest.hexdigest(),
        folder=folder,
    )


def _load_file(path: Path, choice: Choice) -> Model:
    """A checkpoint on its own: its family, or its preset, says what its shapes cannot."""
    if path.stem not in openai.PRESETS:
        weights = read_state_dict(path)
        if single_file.is_stable(weights) or single_file.is_ddpm(weights):
            return single_file.load(path, weights, choice)
        if vdiffusion.is_vdiffusion(weights):
            return vdiffusion.load(str(path), path, weights, choice)
        raise SfumatoError(
            f"{path.name}: not Stable Diffusion, DDPM or v-diffusion, nor named like a released "
            "ADM checkpoint, whose shapes tell neither heads nor schedule; rename it to one of "
            f"{', '.join(openai.PRESETS)}"
        )
    preset = openai.PRESETS[path.stem]
    if preset.config.low_res or preset.config.xf_width:
        raise SfumatoError(
            f"{path.name}: {preset.title} needs a base picture or a tokenizer beside it; "
            "put it into a folder with a card.json"
        )
    stage = openai.stage_card(path, Defaults())
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
        take_in(digest, file)
    network, report = openai.load_unet(
        read_state_dict(files), config, dtype=DTYPES[choice.dtype], device=choice.device
    )
    if report.unexpected:
        log.warning("%s: %s", files[0].name, report)
    schedule = named(stage.schedule, stage.table)
    return Denoiser(network, schedule, cast(Kind, stage.kind), stage.learned_range)
