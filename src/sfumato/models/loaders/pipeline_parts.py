"""A pipeline's folder while a Model is made of it, and how its parts are read from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from tokenizers import Tokenizer

from sfumato.core.errors import SfumatoError
from sfumato.core.spaces import IDENTITY, Space
from sfumato.models.bert import Bert
from sfumato.models.devices import Choice
from sfumato.models.encoders import Encoder, Layer
from sfumato.models.files import language_models, pipeline, transformers
from sfumato.models.files.network_fields import Foreign
from sfumato.models.latents import Latents
from sfumato.models.t5 import T5

T = TypeVar("T", bound=Foreign)
CLIPS = ("CLIPTextModel", "CLIPTextModelWithProjection")


@dataclass(frozen=True, eq=False)
class PipelineParts:
    """classes: of the folder's parts, by their names; digest: of all weights read so far, in the
    order in which they were read; space: of its autoencoder; gguf: a file of the transformer's
    weights, in the place of the folder's."""

    folder: Path
    classes: Mapping[str, str]
    choice: Choice
    digest: Any = field(default_factory=sha256)
    space: Space = IDENTITY
    gguf: Path | None = None

    @classmethod
    def of(
        cls,
        folder: Path,
        classes: Mapping[str, str],
        choice: Choice,
        autoencoder: str = "vae",
        gguf: Path | None = None,
    ) -> PipelineParts:
        """With an autoencoder, which is read first."""
        if autoencoder not in classes:
            raise SfumatoError(f"{folder}: the pipeline has no {autoencoder}")
        digest = sha256()
        vae = pipeline.autoencoder(folder / autoencoder, classes[autoencoder], choice, digest)
        return cls(folder, classes, choice, digest, Latents.of(vae), gguf)

    def sizes(self, family: type[T]) -> T:
        """What the transformer's configuration says, checked."""
        return transformers.transformer(family, self.folder / "transformer" / "config.json")

    def transformer(self) -> Any:
        """The network, after its sizes have been checked."""
        folder, kind = self.folder / "transformer", self.classes["transformer"]
        if self.gguf is not None:
            return pipeline.gguf_transformer(folder, kind, self.gguf, self.choice, self.digest)
        return pipeline.transformer(folder, kind, self.choice, self.digest)

    def clip(self, part: str, layer: Layer = "second") -> Encoder:
        """A CLIP text encoder. layer: the one that is read."""
        kind = self.class_of(part, CLIPS)
        vocabulary = self._tokenizer_of(part)
        tokenizer = pipeline.tokenizer(vocabulary)
        net = pipeline.encoder(self.folder / part, kind, self.choice, self.digest)
        pipeline.check_tokens(tokenizer, int(net.config.vocab_size), vocabulary)
        return Encoder(tokenizer, net, layer)

    def t5(self, part: str, rows: int, masked: bool = False) -> T5:
        """T5's encoder, which gives so many rows; masked: words do not see those behind their
        end."""
        self.class_of(part, ("T5EncoderModel",))
        tokenizer = language_models.t5_tokenizer(self._tokenizer_of(part))
        net = pipeline.t5(self.folder / part, self.choice, self.digest)
        return T5(tokenizer, net, rows, masked)

    def bert(self, rows: int) -> Bert:
        """A BERT, which gives so many rows."""
        self.class_of("text_encoder", ("BertModel",))
        tokenizer = language_models.bert_tokenizer(self.folder / "tokenizer")
        net = pipeline.bert(self.folder / "text_encoder", self.choice, self.digest)
        return Bert(tokenizer, net, rows)

    def qwen3(self) -> tuple[Tokenizer, Any]:
        """Qwen3 as a reader of prompts, and its tokenizer."""
        return self._language_model(("Qwen3Model", "Qwen3ForCausalLM"), pipeline.qwen3)

    def qwen2(self) -> tuple[Tokenizer, Any]:
        """Qwen2.5-VL's words alone as a reader of prompts, and its tokenizer."""
        return self._language_model(("Qwen2_5_VLForConditionalGeneration",), pipeline.qwen2)

    def gemma2(self) -> tuple[Tokenizer, Any]:
        """Gemma 2 as a reader of prompts, and its tokenizer."""
        return self._language_model(("Gemma2Model", "Gemma2ForCausalLM"), pipeline.gemma2)

    def class_of(self, part: str, known: tuple[str, ...]) -> str:
        """The class that a pipeline names for a part, which is one of those known."""
        kind = self.classes.get(part)
        if kind is None:
            raise SfumatoError(f"{self.folder}: the pipeline has no {part}")
        if kind not in known:
            raise SfumatoError(
                f"{self.folder}: {part} {kind:.60} is not supported, {' or '.join(known)} is"
            )
        return kind

    def _language_model(
        self, known: tuple[str, ...], read: Callable[[Path, Choice, Any], Any]
    ) -> tuple[Tokenizer, Any]:
        self.class_of("text_encoder", known)
        tokenizer = language_models.tokenizer(self.folder / "tokenizer")
        return tokenizer, read(self.folder / "text_encoder", self.choice, self.digest)

    def _tokenizer_of(self, part: str) -> Path:
        return self.folder / part.replace("text_encoder", "tokenizer")
