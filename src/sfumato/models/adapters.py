"""What changes a loaded model: low-rank adapters, added words, another autoencoder.

A model and its adapted one share every weight that the adapter does not touch. Read are adapters
that sfumato trained, LoRA files of diffusers (peft's names and the older ones) and of kohya's
scripts, textual-inversion files, and folders of autoencoders.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from sfumato.core.denoiser import Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.documents import parse_json, read_text
from sfumato.models.added_words import with_words
from sfumato.models.cost import networks_in
from sfumato.models.devices import BITS
from sfumato.models.encoders import Encoders
from sfumato.models.files import hub, key_names, pipeline
from sfumato.models.files.adapter_files import Full, LowRank, changes, check_tensor, read_adapter
from sfumato.models.files.adapter_folders import (
    CHECKPOINT,
    only_file,
    recorded_name,
    unfinished_error,
)
from sfumato.models.files.hashes import file_digest
from sfumato.models.files.learned_words import words_of
from sfumato.models.files.quantised_already import refuse_quantised
from sfumato.models.latents import Latents
from sfumato.models.offload import at_home, park, place_of
from sfumato.nn import lora, packed, positions
from sfumato.nn.unet import UNet
from sfumato.nn.vdiffusion import VDiffusion

if TYPE_CHECKING:
    from sfumato.models.model import Model

log = logging.getLogger("sfumato")

UPSAMPLER = "upsampler."
"""How the names of an upsampler's layers begin in the file of an adapter of our own."""
GRID = "grid"
"""In a file's note: how strongly the base is told where its pixels lie (nn.positions)."""


def adapt(model: Model, adapter: str | Path, scale: float = 1.0) -> Model:
    """The model with an adapter: a name on its card, a file, a folder, or org/name in the hub's
    cache. scale: strength, 1 as trained."""
    path = locate(model, adapter)
    if path.is_dir() and (kind := _autoencoder_kind(path)):
        return _with_autoencoder(model, path, kind, str(adapter), scale)
    file = only_file(path) if path.is_dir() else path
    tensors, header = read_adapter(file)
    if file.name == CHECKPOINT and any(name.startswith("average/") for name in tensors):
        raise unfinished_error(file.parent)
    base: Any = model.denoiser.network
    if isinstance(base, VDiffusion):
        raise SfumatoError(f"adapter {file.name}: v-diffusion's networks take none")
    if isinstance(base, UNet):
        changed = _with_trained(model, file, tensors, header, scale)
    elif words := words_of(tensors, file):
        changed = with_words(model, file, words, scale)
    else:
        nets, bits = networks_in((model.denoiser, model.text)), BITS.get(model.choice.dtype)
        refuse_quantised(nets, bits, f"adapter {file.name}")
        with at_home(base.net):
            changed = _with_lora(model, file, tensors, header, scale)
    entry = {
        "file": recorded_name(adapter, file),
        "sha256": file_digest(file),
        "scale": scale,
    }
    return replace(changed, adapters=(*model.adapters, entry), plain=model.plain or model)


def locate(model: Model, adapter: str | Path) -> Path:
    """Where an adapter is."""
    if model.folder is not None and str(adapter) in model.card.adapters:
        return model.folder / model.card.adapters[str(adapter)]
    if not isinstance(adapter, str | Path) or not str(adapter):
        raise SfumatoError(f"adapter {adapter!r:.60}: give a name, a file or a folder")
    path = Path(adapter)
    with suppress(OSError):  # a text that is too long for a path
        if path.exists():
            return path
    if (folder := hub.find(str(adapter))) is not None:
        return folder
    hint = f"; `sfumato models pull {adapter}` fetches it" if hub.is_name(str(adapter)) else ""
    raise SfumatoError(
        f"adapter {adapter!s:.200}: no such file, nor a name on the model's card{hint}"
    )


def overlay(net: nn.Module, weights: Mapping[str, Tensor]) -> Any:
    """A copy of a network that shares every tensor but these."""
    shared = {id(t): t for t in chain(packed.weights(net), net.buffers())}
    copied = copy.deepcopy(net, memo=shared)
    for name, tensor in weights.items():
        owner, _, leaf = name.rpartition(".")
        setattr(copied.get_submodule(owner), leaf, nn.Parameter(tensor, requires_grad=False))
    return copied


Strength = Annotated[float, Field(ge=0, le=100)]


class Note(BaseModel):
    """What an adapter of our own says of itself, as far as it changes what it does."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)

    alpha: Annotated[float, Field(gt=0, le=1e6)]
    rank: Annotated[int, Field(ge=1, le=1 << 16)]
    grid: Strength = 0.0


class PublicNote(BaseModel):
    """The same of a file that other programs read too."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)

    grid: Strength = 0.0


def note_of(header: Mapping[str, str], file: Path) -> Note:
    """The note in an adapter's header."""
    if "note" not in header:
        raise SfumatoError(
            f"adapter {file.name}: not one that sfumato trained (it has no note); the state of an "
            "unfinished training is none either: resume it, or take its best/"
        )
    return parse_json(Note, header["note"], f"adapter {file.name}: its note")


def _with_trained(
    model: Model, file: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str], scale: float
) -> Model:
    """An adapter that sfumato trained, on a model of its own family; UPSAMPLER: the upsampler's."""
    note = note_of(header, file)
    for name, value in tensors.items():
        check_tensor(name, value, file)
        up = tensors.get(f"{name.removesuffix('.down')}.up")
        if name.endswith(".down") and (up is None or up.shape[-1] != len(value)):
            raise SfumatoError(f"adapter {file.name}: {name} has no .up that fits; it is damaged")
    strength = scale * note.alpha / note.rank
    upsampler_weights = {
        name.removeprefix(UPSAMPLER): value
        for name, value in tensors.items()
        if name.startswith(UPSAMPLER)
    }
    base_weights = {
        name: value for name, value in tensors.items() if not name.startswith(UPSAMPLER)
    }
    if upsampler_weights and not model.upsamplers:
        raise SfumatoError(f"adapter {file}: is for an upsampler too; model {model.name} has none")
    if base_weights:
        denoiser = _adapted_denoiser(model.denoiser, base_weights, strength)
        model = replace(model, denoiser=denoiser)
        _place(denoiser.network, note.grid)
    if upsampler_weights:
        first = model.upsamplers[0]
        adapted = _adapted_denoiser(first, upsampler_weights, strength)
        stages = tuple(adapted if stage is first else stage for stage in model.upsamplers)
        model = replace(model, upsamplers=stages)
    return model


def _adapted_denoiser(
    denoiser: Denoiser, adapter: Mapping[str, Tensor], strength: float
) -> Denoiser:
    """A denoiser of our own networks with an adapter added to its weights."""
    net = denoiser.network
    assert isinstance(net, UNet)
    weights = lora.merged(net.state_dict(), adapter, strength)
    with torch.device("meta"):
        merged = UNet(net.config).cast(net.dtype)
    merged.load_state_dict(weights, assign=True)
    merged.to(next(net.parameters()).device)  # what no weights file holds
    merged.eval().requires_grad_(False)
    _place(merged, positions.strength_of(net))
    return replace(denoiser, network=merged)


def _place(net: Any, strength: float) -> None:
    """Tell a network where its pixels lie, once."""
    if strength and not positions.strength_of(net):
        positions.attach(net, strength)


TEXT_PARTS = ("text_encoder", "text_encoder_2")


def _with_lora(
    model: Model, file: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str], scale: float
) -> Model:
    """A LoRA file on a latent model's network and text encoders."""
    network: Any = model.denoiser.network
    if isinstance(network, key_names.Renamed):
        tensors = key_names.renamed(network, tensors, file)
    layers = changes(tensors, header, file)
    own = "unet" if type(network.net).__name__.startswith("UNet") else "transformer"
    nets = {own: network.net}
    text = model.text
    if isinstance(text, Encoders):
        nets |= {part: e.network for part, e in zip(TEXT_PARTS, text.encoders, strict=False)}
    changed, unknown = _changed_weights(nets, layers, scale, file)
    if not changed:
        first = unknown[0] if unknown else "none"
        raise SfumatoError(
            f"adapter {file.name}: none of its {len(layers)} layers ({first}) is one of "
            f"{model.name}'s; it belongs to another model"
        )
    if unknown:
        log.warning(
            "adapter %s: %d of its %d layers are not in this model, left out: %s",
            file.name, len(unknown), len(layers), unknown[0],
        )  # fmt: skip
    counts = ", ".join(f"{len(weights)} layers of the {part}" for part, weights in changed.items())
    log.info("adapter %s: %s, strength %g", file.name, counts, scale)
    nets |= {part: overlay(nets[part], weights) for part, weights in changed.items()}
    if own in changed:
        if "note" in header:
            note = parse_json(PublicNote, header["note"], f"adapter {file.name}: its note")
            _place(nets[own], note.grid)
        model = _with_network(model, replace(network, net=nets[own]))
    if isinstance(text, Encoders):
        pairs = zip(TEXT_PARTS, text.encoders, strict=False)
        encoders = tuple(replace(e, network=nets[part]) for part, e in pairs)
        model = replace(model, text=replace(text, encoders=encoders))
    return model


def _changed_weights(
    nets: Mapping[str, Any], layers: Sequence[LowRank | Full], scale: float, file: Path
) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """part -> name -> weight with its changes; and the layers that no network has."""
    names = {part: layer_names(net, part) for part, net in nets.items()}
    if "transformer" in nets:  # a name without a prefix is the network's
        layers = [replace(one, part="transformer") if one.part == "unet" else one for one in layers]
    changed: dict[str, dict[str, Tensor]] = {}
    unknown: list[str] = []
    for change in layers:
        name = names.get(change.part, {}).get(key_names.flat_name(change.layer))
        layer = None if name is None else nets[change.part].get_submodule(name)
        weight = None if layer is None else _parameter(layer, change)
        if weight is None:
            unknown.append(
                f"{change.part}.{change.layer}{'.bias' if change.leaf == 'bias' else ''}"
            )
            continue
        weights = changed.setdefault(change.part, {})
        key = f"{name}.{change.leaf}"
        weights[key] = _merge(weights.get(key, weight), change, scale, file)
    return changed, unknown


def _with_network(model: Model, network: Any) -> Model:
    return replace(model, denoiser=replace(model.denoiser, network=network))


def _parameter(layer: nn.Module, change: LowRank | Full) -> Tensor | None:
    """What a change is added to; none where the layer has no such parameter."""
    parameter: Tensor | None = getattr(layer, change.leaf, None)
    if parameter is None and isinstance(change, Full) and change.added:
        weight: Tensor | None = getattr(layer, "weight", None)
        return None if weight is None else weight.new_zeros(len(weight))
    return parameter


def _merge(weight: Tensor, change: LowRank | Full, scale: float, file: Path) -> Tensor:
    rows = (weight.shape[0], weight[:1].numel())
    if change.rows != rows:
        raise SfumatoError(
            f"adapter {file.name}: {change.layer} changes a weight of {change.rows[0]}x"
            f"{change.rows[1]}, the model's is {rows[0]}x{rows[1]}; it belongs to another model"
        )
    added = change.change(scale, weight).to(weight.device).view(weight.shape)
    return (weight.float() + added).to(weight.dtype)


def layer_names(net: nn.Module, part: str) -> dict[str, str]:
    """What files call the layers (`flat_name`) -> their names here."""
    names = [name for name, module in net.named_modules() if hasattr(module, "weight")]
    by_flat_name = {key_names.flat_name(name): name for name in names}
    if part == "unet" and getattr(net.config, "layers_per_block", None) is not None:
        sgm = {
            k.rpartition(".")[0]: v.rpartition(".")[0] for k, v in key_names.sgm_names(net).items()
        }
        by_flat_name |= {key_names.flat_name(sgm[name]): name for name in names if name in sgm}
    return by_flat_name


class FolderConfig(BaseModel):
    """What a folder's configuration says that it is."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    kind: Annotated[str, Field(alias="_class_name", max_length=200)] = ""


def _autoencoder_kind(folder: Path) -> str:
    """Class of the autoencoder that a folder holds, "" where it is none."""
    config = folder / "config.json"
    if not config.is_file():
        return ""
    kind = parse_json(FolderConfig, read_text(config), f"adapter {folder.name}").kind
    return kind if kind in pipeline.AUTOENCODERS else ""


def _with_autoencoder(model: Model, folder: Path, kind: str, name: str, scale: float) -> Model:
    """The model with another autoencoder of the same latents."""
    if model.space.stride == 1:
        raise SfumatoError(f"adapter {name}: model {model.name} works on pixels, not on latents")
    if scale != 1:
        raise SfumatoError(f"adapter {name}: an autoencoder has no strength; leave it out")
    digest = sha256()
    net = pipeline.autoencoder(folder, kind, model.choice, digest)
    if model.choice.offload != "none":
        park(net, place_of(model.choice.device), by_layers=False)
    space = Latents.of(net)
    if isinstance(model.space, Latents):
        space = space.lean(model.space.decoding)
    if (space.stride, space.channels) != (model.space.stride, model.space.channels):
        raise SfumatoError(
            f"adapter {name}: latents of {space.channels} channels at stride {space.stride}, model "
            f"{model.name} has {model.space.channels} at {model.space.stride}"
        )
    network: Any = model.denoiser.network
    if getattr(network, "space", None) is not None:
        model = _with_network(model, replace(network, space=space, blanks={}))
    entry = {"file": recorded_name(name, folder), "sha256": digest.hexdigest(), "scale": scale}
    return replace(
        model, space=space, adapters=(*model.adapters, entry), plain=model.plain or model
    )
