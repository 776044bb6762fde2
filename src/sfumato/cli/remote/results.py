"""Pictures that a server made, as the Result that a run here gives."""

from __future__ import annotations

from sfumato import images
from sfumato.cli.remote.server import Server
from sfumato.core.errors import SfumatoError
from sfumato.images.decode import identify
from sfumato.images.texts import shows_photo, texts_of
from sfumato.models.result import Result
from sfumato.recipe import Recipe
from sfumato.server.jobs import Job


def result_of(server: Server, job: Job) -> Result:
    """The pictures of a recipe's job."""
    pictures = [picture_of(server.fetch(job.id, file), file.name) for file in job.results]
    if not pictures or pictures[0].recipe is None:
        raise SfumatoError(f"job {job.id}: has no picture with a recipe")
    return Result(pictures, pictures[0].recipe)


def picture_of(data: bytes, name: str) -> images.Picture:
    """A picture as it was before it was written as this PNG."""
    opened = identify(data, name)
    opened.load()
    text = texts_of(opened).get("sfumato")
    recipe = None if text is None else Recipe.from_json(text, name)
    composite = shows_photo(opened)
    opened.info = {k: v for k, v in opened.info.items() if k == "icc_profile"}
    return images.Picture.of(opened, recipe=recipe, composite=composite)
