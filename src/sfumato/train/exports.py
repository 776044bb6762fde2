"""What was learned as files: our own adapter, LoRA files of two forms, or the model's folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from sfumato.core.errors import SfumatoError
from sfumato.documents import parse_json, read_text
from sfumato.models import adapters, encoders
from sfumato.models.adapters import GRID
from sfumato.models.files import adapter_files, key_names, vocabularies
from sfumato.nn import lora
from sfumato.train import checkpoint
from sfumato.train.trainable import Trainable


def write(
    trainable: Trainable, folder: Path, average: Mapping[str, Tensor], note: Mapping[str, Any]
) -> tuple[Path, str]:
    """Write what was learned to the folder; where, and a line that says what, counted again."""
    if not trainable.config.adapter.rank:
        return _whole(trainable, folder, average, note)
    if trainable.own:
        file = folder / "adapter.safetensors"
        adapter = trainable.config.adapter
        plain = {name.removeprefix("unet."): value for name, value in average.items()}
        checkpoint.write(file, plain, {"alpha": adapter.alpha, "rank": adapter.rank, **note})
        return file, f"{file}: {len(plain) // 2} layers, rank {adapter.rank}"
    return _lora_files(trainable, folder, average, note)


def _lora_files(
    trainable: Trainable, folder: Path, average: Mapping[str, Tensor], note: Mapping[str, Any]
) -> tuple[Path, str]:
    """pytorch_lora_weights (diffusers, peft's names) and kohya's form; both read again.

    alpha / rank is folded into the up matrices of the first, so that no header is needed: the
    older stack reads it as well.
    """
    adapter = trainable.config.adapter
    scale = adapter.alpha / adapter.rank
    own: dict[str, Tensor] = {}
    kohya: dict[str, Tensor] = {}
    prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
    text = trainable.model.text
    if isinstance(text, encoders.Encoders) and len(text.encoders) > 1:
        prefixes |= {"text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
    for full in sorted(average):
        if not full.endswith(".down"):
            continue
        part, _, layer = full.removesuffix(".down").partition(".")
        weight = lora.original(trainable.nets[part].get_submodule(layer))
        ones = (1,) * (weight.ndim - 2)
        down = average[full].float().reshape(-1, *weight.shape[1:])
        up = average[f"{full.removesuffix('.down')}.up"].float().reshape(len(weight), -1, *ones)
        name = layer if part == "unet" else f"text_model.{layer.removeprefix('text_model.')}"
        own[f"{part}.{name}.lora_A.weight"] = down
        own[f"{part}.{name}.lora_B.weight"] = up * scale
        stem = prefixes[part] + name.replace(".", "_")
        kohya[f"{stem}.lora_down.weight"], kohya[f"{stem}.lora_up.weight"] = down, up
        kohya[f"{stem}.alpha"] = torch.tensor(adapter.alpha)
    subject = str(note.get("name", "subject"))
    header = {"ss_network_dim": str(adapter.rank), "ss_network_alpha": str(adapter.alpha)}
    header |= {"ss_output_name": subject, "modelspec.trigger_phrase": subject, "format": "pt"}
    first, second = (
        folder / "pytorch_lora_weights.safetensors",
        folder / f"{subject}.kohya.safetensors",
    )
    told = {"note": json.dumps({GRID: note[GRID]})} if GRID in note else {}
    header |= told
    checkpoint.put(first, own, {"format": "pt", **told})
    checkpoint.put(second, kohya, header)
    counts = [_counted(trainable.nets, file) for file in (first, second)]
    if len(set(counts)) != 1 or counts[0] != len(own) // 2:
        raise SfumatoError(f"{first}: {counts} layers were read back of {len(own) // 2}")
    return first, f"{first}: {counts[0]} layers, rank {adapter.rank}; {second.name} the same"


def _counted(nets: Mapping[str, nn.Module], file: Path) -> int:
    """How many of a LoRA file's layers are this model's."""
    tensors, header = adapter_files.read_adapter(file)
    layers = {part: adapters.layer_names(net, part) for part, net in nets.items()}
    changes = adapter_files.changes(tensors, header, file)
    return sum(key_names.flat_name(low.layer) in layers.get(low.part, {}) for low in changes)


def _whole(
    trainable: Trainable, folder: Path, average: Mapping[str, Tensor], note: Mapping[str, Any]
) -> tuple[Path, str]:
    """The model's own folder with the trained weights in it."""
    source, target = trainable.model.folder, folder / "model"
    if source is None:
        raise SfumatoError(
            f"{trainable.model.name}: a single file cannot be written anew; train an adapter (rank)"
        )
    part = target.with_name(".model.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with checkpoint.writing(target):
            shutil.copytree(source, part)
            if trainable.own:
                _cascade(trainable.nets, part, average, note)
            else:
                write_pipeline(trainable.nets, part, average)
            shutil.rmtree(target, ignore_errors=True)
            part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target, f"{target}: the whole model, {len(average)} weights trained"


def _cascade(
    nets: Mapping[str, nn.Module],
    folder: Path,
    average: Mapping[str, Tensor],
    note: Mapping[str, Any],
) -> None:
    """Our own networks: shards in float16, and what the card says of them."""
    file = folder / "card.json"
    card: Any = parse_json(dict[str, JsonValue], read_text(file), file.name)
    for part, net in nets.items():
        weights = {k: v.half() for k, v in {**net.state_dict(), **_of(part, average)}.items()}
        own = part == "unet"
        stages = [card["base"]] if own else card["upsamplers"]
        before = stages[0]["weights"]
        names = checkpoint.write_shards(folder, "base" if own else part, weights)
        for old in set(before) - set(names):
            (folder / old).unlink()
        for stage in stages:  # one network may serve several
            if stage["weights"] == before:
                stage["weights"], stage["training"] = names, dict(note)
    file.write_text(json.dumps(card, indent=1, ensure_ascii=False), encoding="utf-8")


def write_pipeline(
    nets: Mapping[str, nn.Module], folder: Path, average: Mapping[str, Tensor]
) -> None:
    """A pipeline's parts, named as everybody else's files have them."""
    for part, net in nets.items():
        weights = {**net.state_dict(), **_of(part, average)}
        stem = "diffusion_pytorch_model" if part == "unet" else "model"
        if part != "unet":  # as everybody else's files have it
            weights = {_text_name(k): v for k, v in weights.items()}
        for old in (folder / part).glob("*.safetensors*"):
            old.unlink()
        for old in (folder / part).glob("*.bin*"):
            old.unlink()
        checkpoint.put(folder / part / f"{stem}.safetensors", weights, {"format": "pt"})
    for words in ("tokenizer", "tokenizer_2"):
        vocabularies.spell_out(folder / words)


def _of(part: str, average: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of one network, in its own names."""
    return {k.removeprefix(f"{part}."): v for k, v in average.items() if k.startswith(f"{part}.")}


def _text_name(name: str) -> str:
    bare = name.startswith(("text_model.", "text_projection."))
    return name if bare else f"text_model.{name}"
