"""Pipelines that a folder tells: of a task for whatever family it has, or the one that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from sfumato.compat.arguments import lined
from sfumato.compat.families import FAMILIES, family_of, pipeline_of
from sfumato.compat.pipelines import Pipeline, named
from sfumato.core.errors import SfumatoError
from sfumato.models.files.configs import pipeline_classes
from sfumato.models.loaders.library import folder_of


def _checked(name: str, source: Any) -> str | Path:
    if not isinstance(source, str | Path):
        raise SfumatoError(f"{name}.from_pretrained: {source!r:.60}: give a folder")
    return source


def _index_of(source: str | Path) -> Path | None:
    """The model_index.json of a pipeline's folder, if it has one."""
    folder = folder_of(str(source))
    index = None if folder is None else folder / "model_index.json"
    return index if index is not None and index.is_file() else None


class Auto:
    """The pipeline of a task for whatever family a folder has."""

    ending: ClassVar[str]

    def __init__(self, *_: Any, **__: Any) -> None:
        name = type(self).__name__
        raise SfumatoError(f"{name}: is made by {name}.from_pretrained(folder), or from_pipe(pipe)")

    @classmethod
    @lined
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Pipeline:
        source = _checked(cls.__name__, pretrained_model_name_or_path)
        index = _index_of(source)
        if index is None:
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
    def from_single_file(cls, *_: Any, **__: Any) -> Pipeline:
        """Refused, as every pipeline does."""
        raise SfumatoError(
            f"{cls.__name__}.from_single_file: is not supported, since a single file names no "
            "scheduler; sf.load reads it"
        )

    @classmethod
    def _named(cls, family: str) -> type[Pipeline]:
        own = pipeline_of(family, cls.ending)
        if own is None:
            raise SfumatoError(f"{cls.__name__}: of {family} there is no such pipeline")
        return named(own)

    @classmethod
    @lined
    def from_pipe(cls, pipeline: Any, **options: Any) -> Pipeline:
        if not isinstance(pipeline, Pipeline):
            raise SfumatoError(
                f"{cls.__name__}.from_pipe: {pipeline!r:.60} is none of sfumato.compat's"
            )
        return cls._named(pipeline.family.name).from_pipe(pipeline, **options)


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
    @lined
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Pipeline:
        source = _checked(cls.__name__, pretrained_model_name_or_path)
        index = _index_of(source)
        if index is None:
            return super().from_pretrained(source, **options)
        return named(pipeline_classes(index)["_class_name"]).from_pretrained(source, **options)
