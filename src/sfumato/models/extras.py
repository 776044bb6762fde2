"""What a model has beside its denoisers: noised CLIP, noise-aware classifier, features, heads.

Loaded when first asked for: from the model's folder, as the card names them, or a user's own file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import Schedule, named
from sfumato.models import configs, hub, parts, vocabularies
from sfumato.models.card import ClassifierCard, CleanClipCard, ClipCard
from sfumato.models.latents import Latents
from sfumato.models.openai import read_state_dict, shaped
from sfumato.models.prompts import Prompts
from sfumato.models.vocabularies import ClipPrompts
from sfumato.nn.classifier import Classifier
from sfumato.nn.clip import CLIPConfig, NoisedCLIP
from sfumato.nn.unet import UNet, UNetConfig
from sfumato.nn.vgg import CONVOLUTIONS, VGG19
from sfumato.recipe import home

if TYPE_CHECKING:
    from sfumato.models.model import Model

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Clip:
    """A noised CLIP with its tokenizer and the schedule whose table indices it reads."""

    network: NoisedCLIP
    prompts: Callable[[Sequence[str]], Cond]
    schedule: Schedule
    device: str
    noised: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """Side of the pictures that it sees."""
        return self.network.config.size

    @property
    def logit_scale(self) -> float:
        return self.network.config.logit_scale

    def text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (B, embedding)."""
        cond = self.prompts(texts).map(lambda v: v.to(self.device))
        lengths = cond["lengths"] if "lengths" in cond else cond["mask"].sum(1).clamp_min(1)
        return self.network.text(cond["tokens"], lengths)

    def image(self, x: Tensor, time: Tensor) -> Tensor:
        """Unit vectors of pictures (B, 3, S, S) in [-1, 1] at table indices (B,)."""
        return self.network.image(x.to(self.device), time.to(self.device))


@dataclass(frozen=True, eq=False)
class CleanClip:
    """A CLIP of transformers with its tokenizer; it knows no timestep."""

    network: Any
    tokenizer: Any
    device: str
    noised: ClassVar[bool] = False
    schedule: ClassVar[None] = None

    @property
    def size(self) -> int:
        return int(self.network.config.vision_config.image_size)

    @property
    def logit_scale(self) -> float:
        return float(self.network.logit_scale.exp())

    def text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (B, embedding)."""
        return unit(self.embeddings(texts))

    def embeddings(self, texts: Sequence[str]) -> Tensor:
        """The same of their own lengths, as networks read them that are conditioned on a CLIP."""
        room = int(self.network.config.text_config.max_position_embeddings)
        given = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=room, return_tensors="pt"
        ).to(self.device)
        with torch.no_grad():
            found = self.network.text_model(**given).pooler_output
            made: Tensor = self.network.text_projection(found)
            return made

    def image(self, x: Tensor, time: Tensor) -> Tensor:
        """Unit vectors of pictures (B, 3, S, S) in [-1, 1]; `time` is for those that read it."""
        mean, std = (x.new_tensor(v).view(3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
        pixels = ((x + 1) / 2 - mean) / std
        found = self.network.vision_model(pixel_values=pixels).pooler_output
        return unit(self.network.visual_projection(found))


CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the training pictures' channels, in [0, 1]
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def unit(vectors: Tensor) -> Tensor:
    made: Tensor = vectors / vectors.norm(dim=-1, keepdim=True)
    return made


def clean_clip(folder: Path, device: str) -> CleanClip:
    """From a folder as transformers writes it."""
    from transformers import CLIPModel

    config = configs.clip(folder / "config.json")
    network = parts.loaded(CLIPModel, folder, torch.float32, device, config=config)
    tokenizer = parts.tokenizer(folder)
    parts.check_tokens(tokenizer, int(config.text_config.vocab_size), folder)
    return CleanClip(network, tokenizer, device)


@dataclass(frozen=True, eq=False)
class Labeller:
    """A noise-aware classifier; classes: the names in each of its softmaxes, in order."""

    network: Classifier
    classes: Mapping[str, tuple[str, ...]]
    device: str

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse states that the classifier's attention pool has no positions for."""
        side = self.network.side
        if side is not None and tuple(shape[1:]) != (side, side):
            raise SfumatoError(
                f"classifier: reads {side}x{side}, this run works on {shape[2]}x{shape[1]}; give "
                "another size, or leave it out"
            )

    def log_probabilities(self, x: Tensor, time: Tensor) -> dict[str, Tensor]:
        """log p(class | x, timestep) for each softmax, (B, classes)."""
        logits = self.network(x, time)
        sizes = [len(names) for names in self.classes.values()]
        parts = torch.split(logits, sizes, dim=1)
        return {name: part.log_softmax(1) for name, part in zip(self.classes, parts, strict=True)}


def clip(folder: Path, card: ClipCard, device: str) -> Clip:
    """By the card's entry."""
    config = CLIPConfig(**card.network)
    files = {f"{part}.": [folder / name] for part, name in card.parts.items()}
    files |= {"": [folder / name for name in card.weights]} if card.weights else {}
    network = _loaded(lambda: NoisedCLIP(config), files, device)
    file = folder / card.tokenizer
    words: Callable[[Sequence[str]], Cond]
    if file.suffix == ".gz":
        words = ClipPrompts(vocabularies.clip(file), config.context)
    else:
        words = Prompts(vocabularies.read(file, config.vocabulary), config.context, cut=True)
    return Clip(network, words, named(card.schedule, config.steps), device)


def classifier(folder: Path, card: ClassifierCard, device: str) -> Labeller:
    """By the card's entry."""
    config = UNetConfig(**card.network)
    files = {"": [folder / name for name in card.weights]}
    network = _loaded(lambda: Classifier(config, card.size, card.pool), files, device)
    return Labeller(network, card.classes, device)


def _loaded(make: Callable[[], Net], files: Mapping[str, Sequence[Path]], device: str) -> Net:
    """The network of a card with its weights. files: by what their names get in front."""
    weights = {
        f"{prefix}{name}": value.float()
        for prefix, shards in files.items()
        for name, value in read_state_dict(shards).items()
    }
    first = next(iter(files.values()))[0]
    wanted = shaped(make, f"{first.name}: the card's network").state_dict()
    for name, value in wanted.items():  # before memory is asked for
        if name not in weights or weights[name].shape != value.shape:
            there = tuple(weights[name].shape) if name in weights else "missing"
            raise SfumatoError(
                f"{first.name}: does not fit the card ({name} is {there}, {tuple(value.shape)} "
                "by the card)"
            )
    net = make()
    _fitted(net, weights, first.name, "the card")
    return net.to(device)


def _fitted(net: nn.Module, weights: Mapping[str, Tensor], name: str, what: str) -> None:
    """The weights in the network, frozen."""
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise SfumatoError(
            f"{name}: does not fit {what} ({' '.join(str(error).split())[:200]})"
        ) from None
    net.eval().requires_grad_(False)


def clip_of(model: Model, name: str | None) -> Clip | CleanClip | None:
    """By name a clean one, else the card's."""
    device = model.choice.device
    if name is not None:
        folder = Path(name) if Path(name).is_dir() else hub.find(name)
        if folder is None:
            hint = f"; `sfumato models pull {name}` fetches it" if hub.is_name(name) else ""
            raise SfumatoError(f"clip {name}: no such folder{hint}")
        return clean_clip(folder, device)
    card = model.card.clip
    if card is None or model.folder is None:
        return None
    if isinstance(card, CleanClipCard):  # a folder beside the weights, else in the hub's cache
        beside = model.folder / card.clean
        place = beside if (beside / "config.json").is_file() else hub.find(card.name)
        return None if place is None else clean_clip(place, device)
    return clip(model.folder, card, device)


def classifier_of(model: Model) -> Labeller | None:
    """The card's."""
    card = model.card.classifier
    if card is None or model.folder is None:
        return None
    return classifier(model.folder, card, model.choice.device)


def rating_of(model: Model, name: str | None) -> Head | None:
    """By a file, else the last of SFUMATO_HOME."""
    kept = sorted([*home().glob("sac_*"), *home().glob("ava_*")])
    file = Path(name).expanduser() if name else kept[-1] if kept else None
    return None if file is None else head_of(read_state_dict(file), file.name, model.choice.device)


class Maps(dict[str, Tensor]):
    """Maps by name, each made when it is first asked for, with those before it and no others."""

    def __init__(self, walk: Iterator[tuple[str, Tensor]]) -> None:
        super().__init__()
        self.walk = walk

    def __missing__(self, wanted: str) -> Tensor:
        for name, found in self.walk:
            self[name] = found
            if name == wanted:
                return found
        raise SfumatoError(f"features: no layer {wanted!r}; there are {', '.join(self)}")


@dataclass(frozen=True, eq=False)
class Features:
    """A network's maps of pictures (B, 3, H, W) in [-1, 1], by the names of its layers.

    name: of the network; content, contrast: layers for a perceptual and for a contrastive loss.
    """

    name: str
    walk: Callable[[Tensor], Iterator[tuple[str, Tensor]]]
    content: tuple[str, ...]
    contrast: tuple[str, ...]

    def __call__(self, pixels: Tensor) -> Maps:
        return Maps(self.walk(pixels))


def features(model: Model, name: str | None) -> Features | None:
    """VGG19 from a file, or "model": the denoiser's own; with no name that of SFUMATO_HOME first.

    None where the denoiser has none to lend.
    """
    file = name
    if name is None:
        file = next((str(path) for path in sorted(home().glob("vgg19*"))), None)
    if file is None or file == "model":
        return own(model)
    path = Path(file).expanduser()
    kept = model.memo.get(("vgg19", str(path)))
    if kept is None:
        kept = model.memo["vgg19", str(path)] = vgg19(path, model.choice.device)
    loaded: Features = kept
    return loaded


FEATURE_TIME = 0.1


def own(model: Model) -> Features | None:
    """The denoiser's way down at a small fixed time and without a prompt, on noiseless pictures.

    On the bundled base, held-out 3D renders find their ink drawing among 77 in 79 % of the cases by
    the second smallest maps at t = 0.1 (pixels: 27 %), less by others and at other times. So a
    perceptual loss takes the level before the last, a contrastive one the last maps of every level
    but the first and the last. Networks of latents and with class labels lend nothing.
    """
    denoiser = model.denoiser
    network = denoiser.network
    if not isinstance(network, UNet) or network.config.num_classes is not None:
        return None
    config, alpha = network.config, denoiser.schedule.alpha(FEATURE_TIME)
    null = denoiser.prepare(model.encode([""]))

    def walk(pixels: Tensor) -> Iterator[tuple[str, Tensor]]:
        state = model.space.encode(pixels) * alpha
        time = torch.full((len(state),), denoiser.time(FEATURE_TIME), device=state.device)
        return network.encoding(state, time, null.rows(len(state)))

    blocks = config.num_res_blocks + 1  # of a level, with the stem or the step down to it
    levels = [
        [f"input_blocks.{level * blocks + k}" for k in range(blocks)]
        for level in range(len(config.widths))
    ]
    content = levels[-2:][0]
    contrast = [level[-1] for level in levels[1:-1] or levels[-1:]]
    return Features("denoiser", walk, tuple(content), tuple(contrast))


def vgg19(file: Path, device: str) -> Features:
    """From torchvision's state dict, whose classifier is left aside."""
    weights = {
        name: value.float()
        for name, value in read_state_dict(file).items()
        if name.startswith("features.")
    }
    names = [f"features.{index}.weight" for index in CONVOLUTIONS]
    if missing := [name for name in names if name not in weights]:
        raise SfumatoError(f"{file.name}: no weights of VGG19, it has no {missing[0]}")
    net = VGG19([len(weights[name]) for name in names])
    _fitted(net, weights, file.name, "VGG19")
    contrast = tuple(f"relu{block}_1" for block in range(1, 5))
    return Features(file.name, net.to(device), ("relu4_2", "relu5_2"), contrast)


@dataclass(frozen=True, eq=False)
class Head:
    """Ratings of a CLIP's unit vectors (..., E) -> (...): w . (scale v) + b. name: of its file."""

    weight: Tensor
    bias: Tensor
    scale: float
    name: str = ""

    @property
    def width(self) -> int:
        return len(self.weight)

    def __call__(self, vectors: Tensor) -> Tensor:
        rating: Tensor = (vectors * self.scale) @ self.weight + self.bias
        return rating


def head_of(given: Mapping[str, Tensor], name: str, device: str = "cpu") -> Head:
    """A linear head: keys linear.* read vectors of length sqrt(E) (SAC), bare keys unit ones (AVA).

    name: of the file, for errors.
    """
    prefix = "linear." if "linear.weight" in given else ""
    weight, bias = given.get(f"{prefix}weight"), given.get(f"{prefix}bias")
    if weight is None or bias is None or weight.ndim != 2 or len(weight) != 1 or len(bias) != 1:
        raise SfumatoError(
            f"{name}: no head of ratings; one has weight (1, width) and bias (1), or the same as "
            "linear.weight and linear.bias"
        )
    scale = weight.shape[1] ** 0.5 if prefix else 1.0
    return Head(weight[0].float().to(device), bias[0].float().to(device), scale, name)


def second(model: Model, name: str) -> Model:
    """By the name of an adapter of the model, or of a model whose states are of the same kind."""
    from sfumato.models import adapters, library

    if name in model.card.adapters or adapters.is_one(Path(name)):
        return model.adapt(name)
    choice = model.choice
    made = library.load(name, device=choice.device, dtype=choice.dtype)
    own, other = model.space, made.space
    kinds = [(s.stride, s.channels, getattr(s, "scale", 1.0)) for s in (own, other)]
    if kinds[0] != kinds[1]:
        raise SfumatoError(
            f"art {name}: works on {other.channels} channels at stride {other.stride}, "
            f"{model.name} on {own.channels} at {own.stride}; the two cannot be mixed"
        )
    return made


TINY = {False: "madebyollin/taesd", True: "madebyollin/taesdxl"}
"""The tiny autoencoders of Stable Diffusion's latents; true for XL."""


def tiny(model: Model) -> Latents | None:
    """The tiny autoencoder in the model's folder (vae_tiny) or pulled, None without one."""
    if model.space.stride == 1:
        return None
    config: Any = getattr(model.denoiser.network, "config", None)
    own = None if model.folder is None else model.folder / "vae_tiny"
    folder = own if own is not None and own.is_dir() else None
    if folder is None and model.space.channels == 4 and model.text is not None:
        folder = hub.find(TINY[getattr(config, "stride", None) is not None])
    if folder is None:
        return None
    made = Latents.of(parts.autoencoder(folder, "AutoencoderTiny", model.choice))
    same = (made.stride, made.channels) == (model.space.stride, model.space.channels)
    return made if same else None
