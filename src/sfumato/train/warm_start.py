"""What a training starts from: a tokenizer of the data's words, and earlier weights that fit.

Earlier weights may have fewer input channels, a shorter context or another vocabulary.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn

import sfumato.models
from sfumato.core.errors import SfumatoError
from sfumato.models.card import CleanClipCard, Part, read_card, read_part
from sfumato.models.files import vocabularies
from sfumato.models.files.checkpoint import read_state_dict
from sfumato.nn.bands import widened, widened_out
from sfumato.nn.blocks import Attention, ResBlock
from sfumato.nn.unet import UNet
from sfumato.train.data.captions import BACKGROUNDS, COLOURS, PLACES, RELATIONS
from sfumato.train.data.store import STYLES, Concept

STEM = "input_blocks.0.0.weight"
PATCHES = "image_encoder.blocks.input.patch_proj"  # a CLIP's first convolution
CHANNELS = 3  # of pictures


def tokenizer(concepts: Iterable[Concept], vocabulary: int) -> Tokenizer:
    """Byte-level BPE, lower case, token 0 for padding, learned from what captions can say."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(_said(concepts), trainer)
    return bpe


def extended(file: Path, concepts: Iterable[Concept], vocabulary: int) -> Tokenizer:
    """A tokenizer with pieces added for the Korean words of the data, up to `vocabulary`.

    Its merges come after the old ones and join bytes that English has not, so that English texts
    keep their tokens and a network that knows them forgets nothing.
    """
    data = json.loads(vocabularies.read_tokenizer(file).to_str())
    vocab, merges = data["model"]["vocab"], data["model"]["merges"]
    hangul = [" ".join(re.findall("[가-힣]+", text)) for text in _said(concepts)]
    learned = models.BPE()
    small = Tokenizer(learned)
    small.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    small.train_from_iterator([text for text in hangul if text], trainer)
    for pair in json.loads(small.to_str())["model"]["merges"]:
        piece = "".join(pair)
        if len(vocab) < vocabulary and piece not in vocab:
            vocab[piece] = len(vocab)
            merges.append(list(pair) if merges and isinstance(merges[0], list) else " ".join(pair))
    return Tokenizer.from_str(json.dumps(data))


def _said(concepts: Iterable[Concept]) -> list[str]:
    """Labels twice as often as tags, and often the words that captions add."""
    spoken = []
    for concept in sorted(set(concepts), key=lambda c: c.key):
        spoken += [concept.label, concept.label, concept.label_ko, concept.label_ko]
        spoken += [*concept.tags, *concept.tags_ko]
    added = [*COLOURS, *PLACES, *RELATIONS, *(name for name, _ in STYLES.values())]
    added += [spec[0] for spec in COLOURS.values()] + [spec[0] for spec in BACKGROUNDS.values()]
    added += [f"{name} background" for name in BACKGROUNDS] + ["배경", "작은", "and", "small", "of"]
    added += [korean for _, korean in STYLES.values()] + list(RELATIONS.values())
    added += [korean for korean, _ in PLACES.values()]
    return [text for text in spoken + added * 20 if text]


def _place(name: str) -> Path:
    """A bundled model's folder, or the path itself."""
    bundled = Path(next(iter(sfumato.models.__path__))) / name
    return bundled if (bundled / "card.json").is_file() else Path(name)


def tokenizer_of(name: str) -> Path:
    """The tokenizer file of a bundled name, a model's folder, or itself."""
    path = _place(name)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise SfumatoError(f"model.tokenizer {name}: there is no file {file}")
    return file


def earlier(name: str, part: Part) -> tuple[dict[str, Tensor], Path | None]:
    """Weights and tokenizer file of a part of a bundled model, of a model's folder, of a run's
    exported folder, or of a weights file."""
    folder = _place(name)
    if not folder.is_dir():
        return read_state_dict(folder), None
    files, words = _files(folder, name, part)
    weights = read_state_dict([folder / file for file in files])
    return weights, folder / words if words else None


def digests(weights: Mapping[str, Tensor], field: str = "model.start") -> dict[str, str]:
    """Of the weights that a field of the recipe names."""
    digest = sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(
            weights[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        )
    return {f"the weights of {field}": digest.hexdigest()[:24]}


def _files(folder: Path, name: str, part: Part) -> tuple[Sequence[str], str | None]:
    """Names of a part's weights and of its tokenizer."""
    exported = folder / (f"{part}.json" if part in ("clip", "classifier") else "stage.json")
    if exported.is_file():
        exported_part = read_part(exported, part)
        return exported_part.weights, exported_part.tokenizer
    card = read_card(folder)
    stages = {"base": card.base, "upsampler": next(iter(card.upsamplers), None)}
    entry = {**stages, "clip": card.clip, "classifier": card.classifier}[part]
    if entry is None or isinstance(entry, CleanClipCard):
        raise SfumatoError(f"model.start {name}: has no {part} to start from")
    return entry.weights, entry.tokenizer


def adopt(
    net: nn.Module, weights: Mapping[str, Tensor], old: Path | None = None, new: Path | None = None
) -> list[str]:
    """Copy weights into a network, growing what has grown; names that keep fresh values.

    old, new: tokenizer files of the weights and of the network. Weights of a network of half the
    size become those of one that reads bands.
    """
    fresh = []
    weights = _widened(_renumbered(weights, net) if isinstance(net, UNet) else weights, net)
    with torch.no_grad():
        for name, target in net.state_dict().items():
            if name not in weights:
                fresh.append(name)
                continue
            value = weights[name].float()
            if name == "token_embedding.weight" and old and new:
                value = _retokenised(value, target, old, new)
            elif value.shape != target.shape:
                value = _grown(name, value, target)
            target.copy_(value)
    if len(fresh) == len(net.state_dict()):
        raise SfumatoError("model.start: none of its weights belongs to this network")
    return fresh


def _renumbered(weights: Mapping[str, Tensor], net: UNet) -> dict[str, Tensor]:
    """Weights of a network without attention at a level that has it now."""
    renamed = dict(weights)
    for k, entry in enumerate(net.output_blocks):
        kinds = [type(layer) for layer in entry.children()]
        old, new = f"output_blocks.{k}.1.", f"output_blocks.{k}.2."
        if kinds == [ResBlock, Attention, ResBlock] and f"{old}in_layers.2.weight" in weights:
            for name in [name for name in renamed if name.startswith(old)]:
                renamed[new + name.removeprefix(old)] = renamed.pop(name)
    return renamed


def _widened(weights: Mapping[str, Tensor], net: nn.Module) -> Mapping[str, Tensor]:
    """Weights of a network of half the size for one that reads, and maybe writes, bands."""
    config: Any = net.config
    if getattr(config, "bands", None) is None:
        return weights
    wide, wanted = dict(weights), net.state_dict()
    for name in (STEM, PATCHES):
        if name in wide and wide[name].shape[1] != wanted[name].shape[1]:
            pictures = 2 if getattr(config, "inpaint", False) else 1
            wide[name] = widened(wide[name], CHANNELS, pictures)
    for name in ("out.2.weight", "out.2.bias"):
        if isinstance(net, UNet) and wide[name].shape[0] != wanted[name].shape[0]:
            wide[name] = widened_out(wide[name], CHANNELS)
    return wide


def _grown(name: str, value: Tensor, target: Tensor) -> Tensor:
    """New input channels read nothing at first; new positions stand before the last one."""
    if name == STEM and value.shape[1] < target.shape[1]:
        out = torch.zeros_like(target)
        out[:, : value.shape[1]] = value
        return out
    if name in ("positional_embedding", "padding_embedding") and len(value) < len(target):
        middle = value[-2:-1].expand(len(target) - len(value), -1)
        return torch.cat([value[:-1], middle, value[-1:]])
    raise SfumatoError(
        f"model.start: {name} is {tuple(value.shape)} there, {tuple(target.shape)} in this recipe"
    )


def _retokenised(table: Tensor, target: Tensor, old: Path, new: Path) -> Tensor:
    """Embeddings of another vocabulary: equal pieces keep theirs, others start as their parts."""
    before = vocabularies.read_tokenizer(old, len(table))
    after = vocabularies.read_tokenizer(new, len(target))
    old_ids = before.get_vocab()
    out = target.float().clone() * table.std()
    for piece, index in after.get_vocab().items():
        if piece in old_ids:
            out[index] = table[old_ids[piece]]
            continue
        text = after.decode([index])
        ids = before.encode(text).ids if text.strip() and text.isascii() else []
        if ids:
            out[index] = table[ids].mean(0)
    return out
