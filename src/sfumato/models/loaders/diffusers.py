"""Loader of the diffusers family: a pipeline's folder becomes a Model.

Stable Diffusion 1.x, 2.x, XL and their inpainting variants, unconditional DDPM and latent
diffusion, Stable unCLIP, Kandinsky 2.2's decoder, transformers with a noise table; flows.py has
those of flows. Scheduler files are read for what they say of the training (noise table, what the
network predicts); solvers and times are ours. Nothing is downloaded, no code of a repository is
run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from sfumato.core.denoiser import Denoiser, Traits
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import Table
from sfumato.core.spaces import Space
from sfumato.models.card import Card, Defaults, StageCard
from sfumato.models.devices import Choice
from sfumato.models.encoders import Encoders
from sfumato.models.files import configs, edm_schedulers, pipeline, schedulers
from sfumato.models.files.checkpoint import read_state_dict
from sfumato.models.files.edm_schedulers import EdmScheduler
from sfumato.models.files.hashes import files_digest
from sfumato.models.files.schedulers import Scheduler
from sfumato.models.latents import Conditional, Latents, Unconditional
from sfumato.models.loaders import edm, flows, hunyuan, kandinsky, pixart
from sfumato.models.loaders.noise_tables import noise_table
from sfumato.models.loaders.pipeline_parts import CLIPS, PipelineParts
from sfumato.models.loaders.tabled import Tabled
from sfumato.models.loaders.unets import KINDS, defaults_of, learns_range, network_traits, title_of
from sfumato.models.model import Model
from sfumato.models.shown import Noising, noising_of

log = logging.getLogger("sfumato")


TRANSFORMERS: Mapping[str, Callable[[PipelineParts], Tabled]] = {
    hunyuan.CLASS: hunyuan.load,
    pixart.CLASS: pixart.load,
}
"""Those whose noise is a table; flows.py has the others."""


def is_pipeline(folder: Path) -> bool:
    """Whether the folder is a diffusers pipeline."""
    return (folder / "model_index.json").is_file()


def folder_of_gguf(file: Path) -> Path:
    """Of the pipeline whose transformer a GGUF file is: the folder that it lies in, or beside."""
    parent = file.parent
    around = [parent, *([parent.parent] if parent.name == "transformer" else [])]
    found = [folder for folder in around if is_pipeline(folder)]
    found = found or sorted(path.parent for path in parent.glob("*/model_index.json"))
    if len(found) != 1:
        several = f", of which {len(found)} lie beside it" if found else ""
        raise SfumatoError(
            f"{file.name}: holds a transformer alone; put it into the folder of its pipeline "
            f"(with model_index.json and the other parts){several}"
        )
    return found[0]


def load(name: str, folder: Path, choice: Choice, gguf: Path | None = None) -> Model:
    """The model of a pipeline's folder. gguf: a file of its transformer's weights."""
    import diffusers

    classes = configs.pipeline_classes(folder / "model_index.json")
    if (kind := classes["_class_name"]) not in dir(diffusers):
        log.warning(
            "%s: pipeline %.60r is not known; its parts are taken as they are", folder, kind
        )
    if classes.get("transformer") in TRANSFORMERS:
        return _load_tabled(name, folder, classes, choice, gguf)
    if "transformer" in classes:
        return flows.load(name, folder, classes, choice, gguf)
    if gguf is not None:
        raise SfumatoError(
            f"{gguf.name}: is for a transformer, and {folder} has none; files of UNets are not read"
        )
    unet = classes.get("unet", "no unet")
    if unet not in ("UNet2DConditionModel", "UNet2DModel"):
        raise SfumatoError(
            f"{folder}: {classes['_class_name']} ({unet}) is not supported; {configs.SUPPORTED} are"
        )
    if kandinsky.PART in classes:
        return _load_kandinsky(name, folder, classes, choice)
    scheduler = _scheduler(folder / "scheduler" / "scheduler_config.json")
    vae = next((part for part in ("vae", "vqvae") if part in classes), None)
    parts = PipelineParts(folder, classes, choice)
    if vae is not None:
        parts = PipelineParts.of(folder, classes, choice, vae)
    shown = {"class_embed_type": "projection"} if "image_normalizer" in classes else None
    net = pipeline.network(folder / "unet", unet, choice, parts.digest, shown)
    encoders = None if unet == "UNet2DModel" else _load_encoders(parts)
    noising = _load_noising(parts)
    return assemble(
        name, net, scheduler, parts.space, encoders, choice, parts.digest.hexdigest(),
        folder=folder, noising=noising,
    )  # fmt: skip


def _load_noising(parts: PipelineParts) -> Noising | None:
    """How Stable unCLIP noises the vectors that it reads; of others none."""
    if "image_normalizer" not in parts.classes:
        return None
    folder = parts.folder
    files = pipeline.weight_files(folder / "image_normalizer")
    parts.digest.update(files_digest(files).encode())
    levels = schedulers.scheduler(folder / "image_noising_scheduler" / "scheduler_config.json")
    weights = read_state_dict(files)
    return noising_of(
        weights, noise_table(levels), folder / "image_normalizer", parts.choice.device
    )


def _load_kandinsky(name: str, folder: Path, classes: Mapping[str, str], choice: Choice) -> Model:
    """A decoder that reads what a picture shows."""
    published = schedulers.scheduler(folder / "scheduler" / "scheduler_config.json")
    digest = sha256()
    vae = pipeline.autoencoder(folder / kandinsky.PART, classes[kandinsky.PART], choice, digest)
    space = Latents(vae, rounded=False)
    tuned = kandinsky.check(folder / "unet" / "config.json", space.channels)
    net = pipeline.network(folder / "unet", "UNet2DConditionModel", choice, digest, kandinsky.READS)
    both = net.config.out_channels == 2 * space.channels
    learned = both and published.variance_type in (None, "learned_range")
    width = space.channels * (2 if learned else 1)
    denoiser = Denoiser(
        kandinsky.Network(net, Traits(shown=True, inpaint=tuned), width, space if tuned else None),
        noise_table(published),
        KINDS[published.prediction_type],
        learned,
    )
    title = f"Kandinsky 2.2's {'inpainting ' if tuned else ''}decoder ({denoiser.kind})"
    return _model(
        name, title, denoiser, published.beta_schedule,
        space, None, Defaults(25, "dpmpp-2m", methods=({"method": "cfg", "scale": 4.0},)),
        choice, digest.hexdigest(), folder, published,
    )  # fmt: skip


def _scheduler(path: Path) -> Scheduler | EdmScheduler:
    """A UNet's."""
    of_edm = configs.read_config(path).get("_class_name") in edm_schedulers.CLASSES
    return edm_schedulers.edm_scheduler(path) if of_edm else schedulers.scheduler(path)


def _load_tabled(
    name: str, folder: Path, classes: Mapping[str, str], choice: Choice, gguf: Path | None
) -> Model:
    """A transformer that is no flow."""
    published = schedulers.scheduler(folder / "scheduler" / "scheduler_config.json")
    parts = PipelineParts.of(folder, classes, choice, gguf=gguf)
    family, space = TRANSFORMERS[classes["transformer"]](parts), parts.space
    network: Any = family.network
    learned = learns_range(family.outputs, space, published, "transformer")
    kind, schedule = KINDS[published.prediction_type], noise_table(published)
    side = family.cells * space.stride
    config = configs.own(network.net.config)
    card = Card(
        name=name,
        title=f"{family.title} ({kind})",
        base=StageCard(config, (), published.beta_schedule, kind, schedule.steps, learned),
        native=(side, side),
        multiple=family.patch * space.stride,
        maximum=4 * side,
        defaults=family.defaults,
    )
    denoiser = Denoiser(network, schedule, kind, learned)
    return Model(
        name, card, denoiser, (), family.text, choice, parts.digest.hexdigest(), space, folder,
        scheduler=published,
    )  # fmt: skip


def assemble(
    name: str,
    net: Any,
    scheduler: Scheduler | EdmScheduler,
    space: Space,
    text: Encoders | None,
    choice: Choice,
    digest: str,
    *,
    folder: Path | None = None,
    title: str = "",
    own_table: Table | None = None,
    noising: Noising | None = None,
) -> Model:
    """A Model of loaded parts. own_table: noise table in place of the scheduler's."""
    traits = network_traits(net, space, text, noising)
    if text is not None:
        text = replace(text, distilled=traits.distilled, scored=traits.scored)
    wrapped: Any
    noise: str
    wrapped = Unconditional(net, traits) if text is None else Conditional(net, traits, space)
    if isinstance(scheduler, EdmScheduler):
        learned = learns_range(net.config.out_channels, space, None)
        denoiser, noise = edm.denoiser(wrapped, scheduler), scheduler.sigma_schedule
        defaults = edm.defaults(scheduler, guided=text is not None)
    else:
        learned = learns_range(net.config.out_channels, space, scheduler)
        denoiser = Denoiser(
            wrapped, own_table or noise_table(scheduler), KINDS[scheduler.prediction_type], learned
        )
        noise = "own" if own_table else scheduler.beta_schedule
        defaults = defaults_of(text, space, scheduler)
    model = _model(
        name, title or title_of(net, text, traits, denoiser.kind), denoiser, noise, space, text,
        defaults, choice, digest, folder,
        None if folder is None else scheduler,  # a single file holds no scheduler's
    )  # fmt: skip
    return replace(model, noising=noising)


def _model(
    name: str,
    title: str,
    denoiser: Denoiser,
    noise: str,
    space: Space,
    text: Encoders | None,
    defaults: Defaults,
    choice: Choice,
    digest: str,
    folder: Path | None,
    published: Scheduler | EdmScheduler | None,
) -> Model:
    """A Model of a UNet; noise: what its table is called."""
    network: Any = denoiser.network
    net, stride = network.net, space.stride
    side = net.config.sample_size or 64
    width, height = (side, side) if isinstance(side, int) else (side[1], side[0])
    card = Card(
        name=name,
        title=title,
        base=StageCard(
            configs.own(net.config),
            (),
            noise,
            denoiser.kind,
            denoiser.schedule.steps,
            denoiser.learned_range,
        ),
        native=(width * stride, height * stride),
        multiple=stride if text is not None else stride * 2 ** (_level_count(net) - 1),
        maximum=4 * max(width, height) * stride,
        defaults=defaults,
    )
    return Model(name, card, denoiser, (), text, choice, digest, space, folder, scheduler=published)


def _level_count(net: Any) -> int:
    return len(net.config.block_out_channels)


def _load_encoders(parts: PipelineParts) -> Encoders:
    """The text encoders that a pipeline names."""
    folder, classes = parts.folder, parts.classes
    names = [name for name in ("text_encoder", "text_encoder_2") if name in classes]
    if not names:
        raise SfumatoError(f"{folder}: the pipeline has no text encoder")
    encoders = []
    for name in names:
        if classes[name] not in CLIPS:
            raise SfumatoError(
                f"{folder}: {name} {classes[name]:.60} is not supported, CLIP's text encoders are"
            )
        encoders.append(parts.clip(name, "second" if "text_encoder_2" in classes else "last"))
    zeros = configs.empty_prompt_is_zeros(folder / "model_index.json", "text_encoder_2" in classes)
    return Encoders(tuple(encoders), zeros)
