"""What changes a loaded model: low-rank adapters, added words, another autoencoder.

A model and its adapted one share every weight that the adapter does not touch. Read are adapters
that sfumato trained, LoRA files of diffusers (peft's names and the older ones) and of kohya's
scripts, textual-inversion files, and folders of autoencoders.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sfumato.core.denoiser import Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.documents import parse_json, read_text
from sfumato.models.added_words import with_words
from sfumato.models.encoders import Encoders
from sfumato.models.files import hub, key_names, pipeline
from sfumato.models.files.adapter_files import Full, Low, changes, check, flat, read
from sfumato.models.files.learned_words import words_of
from sfumato.models.latents import Conditional, Latents
from sfumato.nn import lora
from sfumato.nn.unet import UNet
from sfumato.nn.vdiffusion import VDiffusion
from sfumato.recipe.places import called

if TYPE_CHECKING:
    from sfumato.models.model import Model

log = logging.getLogger("sfumato")

LOWS = (".down", ".lora_A.weight", ".lora_down.weight", ".lora.down.weight", "_lora.down.weight")
"""How the names of low-rank layers end, in our files and in others'."""

UPSAMPLER = "upsampler."
"""How the names of an upsampler's layers begin in the file of an adapter of our own."""

CHECKPOINT = "state.safetensors"  # of a training; no result
FILES = (
    "adapter.safetensors",
    "pytorch_lora_weights.safetensors",
    "learned_embeds.safetensors",
    "learned_embeds.bin",
    "learned_layers.safetensors",
)


def adapted(model: Model, adapter: str | Path, scale: float = 1.0) -> Model:
    """The model with an adapter: a name on its card, a file, a folder, or org/name in the hub's
    cache. scale: strength, 1 as trained."""
    given = located(model, adapter)
    if given.is_dir() and (kind := _autoencoder_kind(given)):
        return _with_autoencoder(model, given, kind, str(adapter), scale)
    file = file_of(given) if given.is_dir() else given
    tensors, header = read(file)
    if file.name == CHECKPOINT and any(name.startswith("average/") for name in tensors):
        raise unfinished(file.parent)
    base: Any = model.denoiser.network
    if isinstance(base, VDiffusion):
        raise SfumatoError(f"adapter {file.name}: v-diffusion's networks take none")
    if isinstance(base, UNet):
        made = _own(model, file, tensors, header, scale)
    elif words := words_of(tensors, file):
        made = with_words(model, file, words, scale)
    else:
        made = _with_lora(model, file, tensors, header, scale)
    entry = {
        "file": recorded(adapter, file),
        "sha256": sha256(file.read_bytes()).hexdigest(),
        "scale": scale,
    }
    return replace(made, adapters=(*model.adapters, entry), plain=model.plain or model)


def recorded(adapter: str | Path, file: Path) -> str:
    """How a recipe calls it: org/name, else the file's own name without its folders."""
    text = str(adapter)
    return text if hub.is_name(text) and not Path(text).exists() else called(str(file))


def located(model: Model, adapter: str | Path) -> Path:
    """Where an adapter is."""
    if model.folder is not None and str(adapter) in model.card.adapters:
        return model.folder / model.card.adapters[str(adapter)]
    if not isinstance(adapter, str | Path) or not str(adapter):
        raise SfumatoError(f"adapter {adapter!r:.60}: give a name, a file or a folder")
    path = Path(adapter)
    with suppress(OSError):  # a text that is too long for a path
        if path.exists():
            return path
    if (found := hub.find(str(adapter))) is not None:
        return found
    hint = f"; `sfumato models pull {adapter}` fetches it" if hub.is_name(str(adapter)) else ""
    raise SfumatoError(
        f"adapter {adapter!s:.200}: no such file, nor a name on the model's card{hint}"
    )


def is_one(path: Path) -> bool:
    """Whether a file or folder is an adapter rather than a model."""
    if path.is_dir():
        return any((path / name).is_file() for name in FILES)
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
    except SafetensorError as error:
        raise SfumatoError(f"{path}: damaged or incomplete ({error}); save it again") from None
    return any(name.endswith(LOWS) for name in names)


def file_of(folder: Path) -> Path:
    """The file of a folder that holds one adapter."""
    found = [folder / name for name in FILES if (folder / name).is_file()]
    there = sorted(folder.glob("*.safetensors"))
    found = found or [file for file in there if file.name != CHECKPOINT]
    if there and not found:
        raise unfinished(folder)
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "no safetensors file"
        raise SfumatoError(f"adapter {folder}: {names} there; give the path of one file")
    return found[0]


def unfinished(folder: Path) -> SfumatoError:
    """Of a run folder without a result."""
    best = next(iter(sorted((folder / "best").glob("*.safetensors"))), None)
    other = f", or take {best.parent}, the best so far" if best else ""
    return SfumatoError(
        f"adapter {folder}: holds a training that is not finished; give its command again to go "
        f"on{other}"
    )


def overlaid(net: nn.Module, weights: Mapping[str, Tensor]) -> Any:
    """A copy of a network that shares every tensor but these."""
    shared = {id(t): t for t in chain(net.parameters(), net.buffers())}
    made = copy.deepcopy(net, memo=shared)
    for name, tensor in weights.items():
        owner, _, leaf = name.rpartition(".")
        setattr(made.get_submodule(owner), leaf, nn.Parameter(tensor, requires_grad=False))
    return made


class Note(BaseModel):
    """What an adapter of our own says of itself, as far as it changes what it does."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)

    alpha: Annotated[float, Field(gt=0, le=1e6)]
    rank: Annotated[int, Field(ge=1, le=1 << 16)]


def note_of(header: Mapping[str, str], file: Path) -> Note:
    """The note in an adapter's header."""
    if "note" not in header:
        raise SfumatoError(
            f"adapter {file.name}: not one that sfumato trained (it has no note); the state of an "
            "unfinished training is none either: resume it, or take its best/"
        )
    return parse_json(Note, header["note"], f"adapter {file.name}: its note")


def _own(
    model: Model, file: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str], scale: float
) -> Model:
    """An adapter that sfumato trained, on a model of its own family; UPSAMPLER: the upsampler's."""
    note = note_of(header, file)
    for name, value in tensors.items():
        check(name, value, file)
        other = tensors.get(f"{name.removesuffix('.down')}.up")
        if name.endswith(".down") and (other is None or other.shape[-1] != len(value)):
            raise SfumatoError(f"adapter {file.name}: {name} has no .up that fits; it is damaged")
    strength = scale * note.alpha / note.rank
    large = {
        name.removeprefix(UPSAMPLER): value
        for name, value in tensors.items()
        if name.startswith(UPSAMPLER)
    }
    small = {name: value for name, value in tensors.items() if not name.startswith(UPSAMPLER)}
    if large and not model.upsamplers:
        raise SfumatoError(f"adapter {file}: is for an upsampler too; model {model.name} has none")
    if small:
        model = replace(model, denoiser=_shifted(model.denoiser, small, strength))
    if large:
        first = model.upsamplers[0]
        made = _shifted(first, large, strength)
        stages = tuple(made if one is first else one for one in model.upsamplers)
        model = replace(model, upsamplers=stages)
    return model


def _shifted(denoiser: Denoiser, adapter: Mapping[str, Tensor], strength: float) -> Denoiser:
    """A denoiser of our own networks with an adapter added to its weights."""
    net = denoiser.network
    assert isinstance(net, UNet)
    weights = lora.merged(net.state_dict(), adapter, strength)
    with torch.device("meta"):
        made = UNet(net.config).cast(net.dtype)
    made.load_state_dict(weights, assign=True)
    made.to(next(net.parameters()).device)  # what no weights file holds
    made.eval().requires_grad_(False)
    return replace(denoiser, network=made)


def _with_lora(
    model: Model, file: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str], scale: float
) -> Model:
    """A LoRA file on a latent model's network and text encoders."""
    layers = changes(tensors, header, file)
    network: Any = model.denoiser.network
    nets = {"unet": network.net}
    text = model.text
    if isinstance(text, Encoders):
        names = ("text_encoder", "text_encoder_2")
        nets |= {name: e.network for name, e in zip(names, text.encoders, strict=False)}
    changed: dict[str, dict[str, Tensor]] = {}
    strange: list[str] = []
    known = {part: layer_names(net, part) for part, net in nets.items()}
    for low in layers:
        name = known.get(low.part, {}).get(flat(low.layer))
        found = None if name is None else _held(nets[low.part].get_submodule(name), low)
        if found is None:
            strange.append(f"{low.part}.{low.layer}{'.bias' if low.leaf == 'bias' else ''}")
            continue
        weights = changed.setdefault(low.part, {})
        key = f"{name}.{low.leaf}"
        weights[key] = _merged(weights.get(key, found), low, scale, file)
    if not changed:
        first = strange[0] if strange else "none"
        raise SfumatoError(
            f"adapter {file.name}: none of its {len(layers)} layers ({first}) is one of "
            f"{model.name}'s; it belongs to another model"
        )
    if strange:
        log.warning(
            "adapter %s: %d of its %d layers are not in this model, left out: %s",
            file.name, len(strange), len(layers), strange[0],
        )  # fmt: skip
    counts = ", ".join(f"{len(weights)} layers of the {part}" for part, weights in changed.items())
    log.info("adapter %s: %s, strength %g", file.name, counts, scale)
    made = {part: overlaid(nets[part], weights) for part, weights in changed.items()}
    if "unet" in made:
        model = _with_network(model, replace(network, net=made["unet"]))
    if isinstance(text, Encoders):
        pairs = zip(("text_encoder", "text_encoder_2"), text.encoders, strict=False)
        encoders = tuple(replace(e, network=made.get(name, e.network)) for name, e in pairs)
        model = replace(model, text=replace(text, encoders=encoders))
    return model


def _with_network(model: Model, network: Any) -> Model:
    return replace(model, denoiser=replace(model.denoiser, network=network))


def _held(layer: nn.Module, change: Low | Full) -> Tensor | None:
    """What a change is added to; none where the layer has no such parameter."""
    found: Tensor | None = getattr(layer, change.leaf, None)
    if found is None and isinstance(change, Full) and change.added:
        weight: Tensor | None = getattr(layer, "weight", None)
        return None if weight is None else weight.new_zeros(len(weight))
    return found


def _merged(weight: Tensor, low: Low | Full, scale: float, file: Path) -> Tensor:
    rows = (weight.shape[0], weight[:1].numel())
    if low.rows != rows:
        raise SfumatoError(
            f"adapter {file.name}: {low.layer} changes a weight of {low.rows[0]}x{low.rows[1]}, "
            f"the model's is {rows[0]}x{rows[1]}; it belongs to another model"
        )
    added = low.change(scale, weight).to(weight.device).view(weight.shape)
    return (weight.float() + added).to(weight.dtype)


def layer_names(net: nn.Module, part: str) -> dict[str, str]:
    """What files call the layers (`flat`) -> their names here."""
    names = [name for name, module in net.named_modules() if hasattr(module, "weight")]
    made = {flat(name): name for name in names}
    if part == "unet" and getattr(net.config, "layers_per_block", None) is not None:
        sgm = {
            k.rpartition(".")[0]: v.rpartition(".")[0] for k, v in key_names.sgm_names(net).items()
        }
        made |= {flat(sgm[name]): name for name in names if name in sgm}
    return made


class Config(BaseModel):
    """What a folder's configuration says that it is."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    kind: Annotated[str, Field(alias="_class_name", max_length=200)] = ""


def _autoencoder_kind(folder: Path) -> str:
    """Class of the autoencoder that a folder holds, "" where it is none."""
    config = folder / "config.json"
    if not config.is_file():
        return ""
    kind = parse_json(Config, read_text(config), f"adapter {folder.name}").kind
    return kind if kind in pipeline.AUTOENCODERS else ""


def _with_autoencoder(model: Model, folder: Path, kind: str, name: str, scale: float) -> Model:
    """The model with another autoencoder of the same latents."""
    if model.space.stride == 1:
        raise SfumatoError(f"adapter {name}: model {model.name} works on pixels, not on latents")
    if scale != 1:
        raise SfumatoError(f"adapter {name}: an autoencoder has no strength; leave it out")
    digest = sha256()
    space = Latents.of(pipeline.autoencoder(folder, kind, model.choice, digest))
    if (space.stride, space.channels) != (model.space.stride, model.space.channels):
        raise SfumatoError(
            f"adapter {name}: latents of {space.channels} channels at stride {space.stride}, model "
            f"{model.name} has {model.space.channels} at {model.space.stride}"
        )
    network: Any = model.denoiser.network
    if isinstance(network, Conditional):
        model = _with_network(model, replace(network, space=space, blanks={}))
    entry = {"file": recorded(name, folder), "sha256": digest.hexdigest(), "scale": scale}
    return replace(
        model, space=space, adapters=(*model.adapters, entry), plain=model.plain or model
    )
