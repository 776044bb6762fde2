"""Textual Inversion (arXiv 2208.01618): learn a word that makes a frozen model draw a subject.

Only the word's rows of the token table are trained; the network, the encoders and every other row
stay as they are, since the rows are a parameter of their own that is put into the table for a run.
Latent models only: the bundled one's tokens are inside its network.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.errors import SfumatoError
from sfumato.methods.cfg import CFG
from sfumato.models import added_words, encoders
from sfumato.models.files import adapter_files, learned_words
from sfumato.models.loaders.library import load
from sfumato.models.model import Model
from sfumato.train import checkpoint
from sfumato.train.config import Config
from sfumato.train.grids import tiled
from sfumato.train.reads import Reads
from sfumato.train.subject import new_word
from sfumato.train.subject.examples import Examples, Rows
from sfumato.train.subject.shots import buckets, digests, fit, read_shots
from sfumato.train.subject.trials import LEVELS, SHOWN, STEPS, guidance_of, mean_error
from sfumato.train.tuners import Outcome

READS = Reads(times=True, denoiser=True, subject=True, word=True)


log = logging.getLogger("sfumato")

SENTENCES = (
    "{}",
    "a photo of {}",
    "a close-up of {}",
    "a picture of {}",
    "a good photo of {}",
    "{} in a photo",
    "a bright photo of {}",
    "a dark photo of {}",
)


class TextualInversion:
    """Implements Tuner."""

    def __init__(self, config: Config, data: Path, folder: Path, device: str) -> None:
        self.config, self.device, self.folder = config, device, folder
        subject = config.subject
        model = load(config.model.start or "emoji", device=device, dtype="float32")
        if not isinstance(model.text, encoders.Encoders):
            raise SfumatoError(
                f"{config.tuner}: {model.name} has no text encoder of its own; take a latent "
                "model, or dreambooth"
            )
        if not subject.noun.strip():
            raise SfumatoError(f"{config.tuner}: no noun to start from; say what the subject is")
        self.word = new_word.word_of(model.text, subject)
        self.words = {
            str(k): nn.Parameter(self.start(model, encoder, k))
            for k, encoder in enumerate(model.text.encoders)
        }
        self.model = new_word.taught(model, self.word, self.words)
        self.shots = read_shots(Path(subject.pictures) if subject.pictures else data)
        sizes = buckets(model.card.native, model.card.multiple)
        with torch.no_grad():
            self.photos = [fit(shot, sizes).to(device) for shot in self.shots]
            states = [model.space.encode(x[None])[0] for x in self.photos]
        texts = [text.format(self.word) for text in SENTENCES]
        # none dropped: without the word there is nothing to learn from a row
        self.examples = Examples("subject", states, texts, 0.0, config.run.seed)

    def start(self, model: Model, encoder: encoders.Encoder, k: int) -> Tensor:
        """The noun's vector, for each of the word's; several are spread a little."""
        subject = self.config.subject
        return new_word.start(
            encoder, subject.noun, subject.vectors, f"{self.config.run.seed}/word/{k}"
        )

    def parameters(self) -> dict[str, nn.Parameter]:
        return self.words

    def digests(self) -> dict[str, str]:
        return digests(self.model, self.shots)

    def batch(self, step: int, share: slice) -> Rows:
        schedule = self.model.denoiser.schedule
        n, times = self.config.optim.batch, self.config.objective.times
        return self.examples.rows(step, n, share, times, schedule)

    def loss(self, batch: Rows, step: int) -> Outcome:
        times, importance = zip(*batch.times, strict=True)
        with encoders.with_gradients():
            cond = self.model.encode(batch.texts, beside=self.examples.texts)
        loss = self.config.objective.at(
            self.model.denoiser, batch.x0, cond, batch.noise, times, importance
        )
        norms = [float(value.detach().norm(dim=-1).mean()) for value in self.words.values()]
        return Outcome(loss.total, {"mse": float(loss.mse.mean()), "norm": norms[0]})

    def judge(self) -> dict[str, float]:
        """Errors on fixed noise of the pictures, and the vectors' length over a usual word's."""
        cond = self.model.encode([SENTENCES[0].format(self.word)])
        objective, denoiser, states = (
            self.config.objective, self.model.denoiser, self.examples.states,
        )  # fmt: skip
        measures = {
            f"subject {t:g}": mean_error(objective, denoiser, states, lambda x0: cond, t)
            for t in LEVELS
        }
        text = cast(encoders.Encoders, self.model.text)
        usual = float(text.encoders[0].vectors.norm(dim=1).mean())
        measures["length"] = float(self.words["0"].detach().norm(dim=-1).mean()) / usual
        return measures

    def show(self, file: Path) -> None:
        """The subject's pictures, then the word in three sentences, fixed seeds."""
        size = self.photos[0].shape[-2:]
        rows = [torch.cat([F.interpolate(x[None], size) for x in self.photos[: 2 * SHOWN]])]
        for text in SENTENCES[:3]:
            process: Any = self.model.process(text.format(self.word), n=SHOWN, steps=STEPS)
            loop = (process | CFG(guidance_of(self.model))).begin(seed=0)
            x = loop.walk()
            rows.append(F.interpolate(loop.run.decode(cast(Tensor, x)).clamp(-1, 1), size))
        sentences = [text.format(self.word) for text in SENTENCES[:3]]
        checkpoint.put_picture(file, tiled(rows, least=96, labels=["yours", *sentences]))

    def export(self, folder: Path, average: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """The files, each read again, and run.json."""
        folder = folder.parent
        files = self.files(average)
        for name, tensors in files.items():
            file = folder / name
            checkpoint.put(file, tensors, {"format": "pt"})
            read = learned_words.words_of(adapter_files.read_adapter(file)[0], file).get(
                self.word, ()
            )
            same = [torch.equal(a, b.cpu()) for a, b in zip(read, average.values(), strict=False)]
            if len(same) != len(average) or not all(same):
                raise SfumatoError(f"{file}: the word {self.word} was not read back as it was")
            log.info("%s: word %s of %s", file, self.word, added_words.describe_vectors(read[0]))
        note = {"name": self.word, "noun": self.config.subject.noun, "training": dict(facts)}
        note["pictures"] = [shot.name for shot in self.shots]
        text = json.dumps({**note, "file": next(iter(files))}, indent=1, ensure_ascii=False)
        checkpoint.put_text(folder / "run.json", text)
        return folder / next(iter(files))

    def files(self, average: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """By their names."""
        return new_word.files(self.word, average)


def tuner(config: Config, data: Path, folder: Path, device: str) -> TextualInversion:
    """What `tuner = "textual_inversion"` in a recipe makes."""
    return TextualInversion(config, data, folder, device)
