"""A model as something to tune: its trained parameters, its conditions with gradients, its files.

Two kinds: networks of our own (the text transformer is inside), and latent models of the diffusers
family (text encoders beside). What is learned about a subject is in tuners/.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.documents import parse_json, read_text
from sfumato.models import adapters, encoders
from sfumato.models.files import adapter_files, vocabularies
from sfumato.models.model import Model
from sfumato.nn import lora
from sfumato.nn.unet import UNet
from sfumato.nn.vdiffusion import VDiffusion
from sfumato.train import checkpoint
from sfumato.train.config import Config
from sfumato.train.objective import check_trainable

TEXT = ("transformer.", "token_embedding", "positional_embedding", "padding_embedding")
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")


class Trainable:
    """model: the model that learns; nets: its trained networks by part; texts: what is said in
    training, which all get one length."""

    def __init__(self, model: Model, config: Config, texts: Sequence[str]) -> None:
        self.model, self.config, self.texts = model, config, tuple(texts)
        self.own = isinstance(model.denoiser.network, UNet)
        check_trainable(model.denoiser)
        if isinstance(model.denoiser.network, VDiffusion):
            raise SfumatoError(f"{model.name}: v-diffusion's networks cannot be tuned here")
        network: Any = model.denoiser.network
        self.net: nn.Module = network if self.own else network.net
        self.nets: dict[str, nn.Module] = {"unet": self.net}
        if config.subject.upsampler:
            if not (self.own and model.upsamplers):
                raise SfumatoError(
                    f"subject.upsampler: model {model.name} has no upsampler; leave it out"
                )
            self.nets["upsampler"] = cast(nn.Module, model.upsamplers[0].network)
        if config.subject.text and not self.own:
            assert isinstance(model.text, encoders.Encoders)
            pairs = zip(TEXT_ENCODERS, model.text.encoders, strict=False)
            self.nets |= {name: encoder.network for name, encoder in pairs}
        if config.subject.checkpoint and not self.own:
            network.net.enable_gradient_checkpointing()
        self.trained = self._trained()
        self._kept: dict[str, Cond] = {}

    @property
    def denoiser(self) -> Denoiser:
        return self.model.denoiser

    def _trained(self) -> dict[str, nn.Parameter]:
        """Adapters on the layers that the recipe names, or the whole networks."""
        rank, alpha = self.config.adapter.rank, self.config.adapter.alpha
        trained: dict[str, nn.Parameter] = {}
        for target in self._targets("unet")[0] if rank else ():
            lora.layers(self.net, (target,))  # one that means nothing is refused by name
        for part, net in self.nets.items():
            if not rank:
                net.requires_grad_(True)
                spared = TEXT if self.own and not self.config.subject.text else ()
                for name, parameter in net.named_parameters():
                    if name.startswith(spared):
                        parameter.requires_grad_(False)
                    else:
                        trained[f"{part}.{name}"] = parameter
                continue
            layers = lora.attach(net, rank, alpha, *self._targets(part))
            trained |= {f"{part}.{name}": parameter for name, parameter in layers.items()}
        return trained

    def _targets(self, part: str) -> tuple[Sequence[str], Sequence[str]]:
        """Ends of the adapted layers' names, and beginnings of those left out."""
        targets = self.config.adapter.targets
        if part in TEXT_ENCODERS:
            return ("text",), ()
        if self.own:
            return targets, () if self.config.subject.text else TEXT
        return tuple("cross" if target == "attention" else target for target in targets), ()

    def condition(self, texts: Sequence[str]) -> Cond:
        """One row for each text. Vectors of frozen encoders are made once."""
        assert self.model.text is not None
        if self.own or not self.config.subject.text:
            fresh = sorted({text for text in texts if text not in self._kept})
            for text in fresh:
                self._kept[text] = self.model.encode([text], beside=self.texts)
            return Cond.cat([self._kept[text] for text in texts])
        with encoders.with_gradients():
            return self.model.encode(list(texts), beside=self.texts)

    def train(self, mode: bool) -> None:
        for net in self.nets.values():
            net.train(mode)

    def export(
        self, folder: Path, average: Mapping[str, Tensor], note: Mapping[str, Any]
    ) -> tuple[Path, str]:
        """Write what was learned to the folder; where, and a line that says what, counted again."""
        folder.mkdir(parents=True, exist_ok=True)
        if not self.config.adapter.rank:
            return self._whole(folder, average, note)
        if self.own:
            file = folder / "adapter.safetensors"
            adapter = self.config.adapter
            plain = {name.removeprefix("unet."): value for name, value in average.items()}
            checkpoint.write(file, plain, {"alpha": adapter.alpha, "rank": adapter.rank, **note})
            return file, f"{file}: {len(plain) // 2} layers, rank {adapter.rank}"
        return self._lora_files(folder, average, note)

    def _lora_files(
        self, folder: Path, average: Mapping[str, Tensor], note: Mapping[str, Any]
    ) -> tuple[Path, str]:
        """pytorch_lora_weights (diffusers, peft's names) and kohya's form; both read again.

        alpha / rank is folded into the up matrices of the first, so that no header is needed: the
        older stack reads it as well.
        """
        adapter = self.config.adapter
        scale = adapter.alpha / adapter.rank
        own: dict[str, Tensor] = {}
        kohya: dict[str, Tensor] = {}
        prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
        if isinstance(self.model.text, encoders.Encoders) and len(self.model.text.encoders) > 1:
            prefixes |= {"text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
        for full in sorted(average):
            if not full.endswith(".down"):
                continue
            part, _, layer = full.removesuffix(".down").partition(".")
            weight = lora.original(self.nets[part].get_submodule(layer))
            ones = (1,) * (weight.ndim - 2)
            down = average[full].float().reshape(-1, *weight.shape[1:])
            up = average[f"{full.removesuffix('.down')}.up"].float().reshape(len(weight), -1, *ones)
            said = layer if part == "unet" else f"text_model.{layer.removeprefix('text_model.')}"
            own[f"{part}.{said}.lora_A.weight"] = down
            own[f"{part}.{said}.lora_B.weight"] = up * scale
            stem = prefixes[part] + said.replace(".", "_")
            kohya[f"{stem}.lora_down.weight"], kohya[f"{stem}.lora_up.weight"] = down, up
            kohya[f"{stem}.alpha"] = torch.tensor(adapter.alpha)
        name = str(note.get("name", "subject"))
        header = {"ss_network_dim": str(adapter.rank), "ss_network_alpha": str(adapter.alpha)}
        header |= {"ss_output_name": name, "modelspec.trigger_phrase": name, "format": "pt"}
        first, second = (
            folder / "pytorch_lora_weights.safetensors",
            folder / f"{name}.kohya.safetensors",
        )
        checkpoint.put(first, own, {"format": "pt"})
        checkpoint.put(second, kohya, header)
        counts = [self.counted(file) for file in (first, second)]
        if len(set(counts)) != 1 or counts[0] != len(own) // 2:
            raise SfumatoError(f"{first}: {counts} layers were read back of {len(own) // 2}")
        return first, f"{first}: {counts[0]} layers, rank {adapter.rank}; {second.name} the same"

    def counted(self, file: Path) -> int:
        """How many of a LoRA file's layers are this model's."""
        tensors, header = adapter_files.read(file)
        known = {part: adapters.layer_names(net, part) for part, net in self.nets.items()}
        changes = adapter_files.changes(tensors, header, file)
        return sum(adapter_files.flat(low.layer) in known.get(low.part, {}) for low in changes)

    def _whole(
        self, folder: Path, average: Mapping[str, Tensor], note: Mapping[str, Any]
    ) -> tuple[Path, str]:
        """The model's own folder with the trained weights in it."""
        source, target = self.model.folder, folder / "model"
        if source is None:
            raise SfumatoError(
                f"{self.model.name}: a single file cannot be written anew; train an adapter (rank)"
            )
        part = target.with_name(".model.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part)
        if self.own:
            self._cascade(part, average, note)
        else:
            self._pipeline(part, average)
        shutil.rmtree(target, ignore_errors=True)
        part.replace(target)
        return target, f"{target}: the whole model, {len(average)} weights trained"

    def _cascade(
        self, folder: Path, average: Mapping[str, Tensor], note: Mapping[str, Any]
    ) -> None:
        """Our own networks: shards in float16, and what the card says of them."""
        file = folder / "card.json"
        card: Any = parse_json(dict[str, JsonValue], read_text(file), file.name)
        for part, net in self.nets.items():
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

    def _pipeline(self, folder: Path, average: Mapping[str, Tensor]) -> None:
        for part, net in self.nets.items():
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
