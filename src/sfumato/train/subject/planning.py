"""What a training on a subject would do, and what its pictures show; nothing is made or trained."""

from __future__ import annotations

from pathlib import Path

from sfumato.core.errors import SfumatoError
from sfumato.models.added_words import layer_count
from sfumato.models.model import Model
from sfumato.train.config import Config
from sfumato.train.subject import class_pictures, naming
from sfumato.train.subject.shots import fit, read_shots
from sfumato.train.subject.vocabulary import spelled_by, tokens_of, vocabulary_of


def sentences(config: Config, model: Model) -> list[str]:
    """Lines about its pictures, its words and its steps. model: the one that learns, float32."""
    subject, optim, rank = config.subject, config.optim, config.adapter.rank
    shots = read_shots(Path(subject.pictures))
    tokens = tokens_of(model)
    name = subject.name or naming.identifier_of(model, config.run.seed)
    known = vocabulary_of(model) if subject.name else ()
    count = len(naming.inspected(tokens, name, known, spelled_by(model)))
    text = model.phrase(subject.wording.format(subject.noun))
    phrase = model.phrase(subject.wording.format(f"{name} {subject.noun}"))
    if not config.reads.classes:
        apart = f" for each of {layer_count(model)} layers" if config.tuner == "p_plus" else ""
        return [
            f"pictures: {', '.join(shot.name for shot in shots)}",
            f"training: {subject.vectors} vector(s) of a word{apart}, {optim.steps} steps of "
            f"{optim.batch}, rate {optim.rate:g}",
            *config.carried(),
        ]
    wanted = class_pictures.wanted_of(config, model)
    missing = [] if wanted is None else wanted.missing()
    rows = f"{optim.batch} + {optim.batch}" if subject.prior else str(optim.batch)
    if subject.upsampler and not model.upsamplers:
        raise SfumatoError(f"--upsampler: model {model.name} has none; leave it out")
    what = f"an adapter of rank {rank}" if rank else "the whole network"
    what += " and its upsampler" if subject.upsampler else ""
    return [
        f"pictures: {', '.join(shot.name for shot in shots)}",
        f"subject: {phrase!r}; its name is {count} token(s)",
        f"class: {text!r}, {len(missing)} pictures to make",
        f"training: {what}, {optim.steps} steps of {rows} pictures, rate {optim.rate:g}",
        *config.carried(),
    ]


def nouns(model: Model, pictures: Path) -> list[str]:
    """What the model's CLIP takes a folder's pictures for, the likeliest first.

    SfumatoError where it has none: then somebody must say it.
    """
    clip = model.clip()
    if clip is None:
        raise SfumatoError(
            f"dreambooth: {model.name} has no CLIP to guess by; give --class, such as dog"
        )
    fitted = [fit(shot, [model.card.native]) for shot in read_shots(pictures)]
    return naming.guessed(clip, fitted, model.card.full_prompt)
