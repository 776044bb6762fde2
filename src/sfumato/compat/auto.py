"""Pipelines that a folder tells: of a task for whatever family it has, or the one that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from sfumato.compat.families import FAMILIES, family_of, pipeline_of
from sfumato.compat.pipelines import Pipeline, named
from sfumato.core.errors import SfumatoError
from sfumato.models.files.configs import pipeline_classes
from sfumato.models.loaders.library import folder_of


class Auto:
    """The pipeline of a task for whatever family a folder has."""

    ending: ClassVar[str]

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> Pipeline:
        folder = folder_of(str(source))
        index = None if folder is None else folder / "model_index.json"
        if index is None or not index.is_file():
            return named(f"StableDiffusion{cls.ending}").from_pretrained(source, **options)
        classes = pipeline_classes(index)
        family = family_of(classes)
        if family is None:
            raise SfumatoError(
                f"{cls.__name__}: {source} is of {classes['_class_name']:.60}, which is not here; "
                f"known are {', '.join(FAMILIES)}"
            )
        return cls._named(family).from_pretrained(source, **options)

    @classmethod
    def _named(cls, family: str) -> type[Pipeline]:
        own = pipeline_of(family, cls.ending)
        if own is None:
            raise SfumatoError(f"{cls.__name__}: of {family} there is no such pipeline")
        return named(own)

    @classmethod
    def from_pipe(cls, pipe: Any, **options: Any) -> Pipeline:
        if not isinstance(pipe, Pipeline):
            raise SfumatoError(
                f"{cls.__name__}.from_pipe: {pipe!r:.60} is none of sfumato.compat's"
            )
        return cls._named(pipe.family.name).from_pipe(pipe, **options)


class AutoPipelineForText2Image(Auto):
    ending = "Pipeline"


class AutoPipelineForImage2Image(Auto):
    ending = "Img2ImgPipeline"


class AutoPipelineForInpainting(Auto):
    ending = "InpaintPipeline"


class DiffusionPipeline(Auto):
    """The pipeline that a folder names."""

    ending = "Pipeline"

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> Pipeline:
        folder = folder_of(str(source))
        index = None if folder is None else folder / "model_index.json"
        if index is None or not index.is_file():
            return super().from_pretrained(source, **options)
        return named(pipeline_classes(index)["_class_name"]).from_pretrained(source, **options)
