"""Routes of the gallery: search, thumbnails, lineage, delete and its undoing, many as a ZIP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import IO, Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import iterate_in_threadpool
from starlette.responses import Response, StreamingResponse

from sfumato.server import gallery, thumbnails
from sfumato.server.api.bodies import body, described
from sfumato.server.api.pictures import KEPT
from sfumato.server.api.shared import Client, Hash, TheService
from sfumato.server.gallery import Chosen, GalleryPage, Lineage
from sfumato.server.store.gallery import Search
from sfumato.server.thumbnails import ThumbnailSize

router = APIRouter(prefix="/v1", tags=["gallery"])

CHUNK = 1 << 20
BINARY = {"schema": {"type": "string", "format": "binary"}}
WEBP: dict[int | str, dict[str, Any]] = {
    200: {"description": "the thumbnail", "content": {"image/webp": BINARY}}
}
ZIP: dict[int | str, dict[str, Any]] = {
    200: {"description": "the archive", "content": {"application/zip": BINARY}}
}
Words = Annotated[str, Query(max_length=1000, description="all of them in prompt or job's name")]
Named = Annotated[str | None, Query(max_length=200, description="of the recipe")]
Before = Annotated[
    str | None,
    Query(pattern="^[0-9]{1,15}-[0-9]{1,9}$", description="`next` of the page before"),
]
TheChosen = Annotated[Chosen, Depends(body(Chosen))]


@router.get("/gallery", operation_id="listPictures")
async def listed(
    service: TheService,
    client: Client,
    words: Words = "",
    model: Named = None,
    method: Named = None,
    before: Before = None,
    limit: Annotated[int, Query(ge=1, le=gallery.PAGE)] = 100,
) -> GalleryPage:
    """Pictures that jobs have made, the newest job's first."""
    after = None
    if before is not None:
        number, _, place = before.partition("-")
        after = int(number), int(place)
    search = Search(words, model, method)
    return gallery.page(service.kept, client, search, after, limit)


@router.post("/gallery/delete", status_code=204, operation_id="deletePictures",
             openapi_extra=described(Chosen))  # fmt: skip
async def delete(service: TheService, client: Client, chosen: TheChosen) -> None:
    """Delete pictures. For an hour they can be restored."""
    await gallery.hide(service.kept, client, chosen)


@router.post("/gallery/restore", status_code=204, operation_id="restorePictures",
             openapi_extra=described(Chosen))  # fmt: skip
async def restore(service: TheService, client: Client, chosen: TheChosen) -> None:
    """Bring deleted pictures back."""
    await gallery.restore(service.kept, client, chosen)


@router.post("/gallery/archive", operation_id="archivePictures", response_class=StreamingResponse,
             responses=ZIP, openapi_extra=described(Chosen))  # fmt: skip
async def archive(service: TheService, client: Client, chosen: TheChosen) -> Response:
    """Pictures and the recipe of each, as a ZIP."""
    files = gallery.chosen_files(service.kept, client, chosen)
    stream = await asyncio.to_thread(gallery.archive, service.kept.files, files)
    headers = {"content-disposition": 'attachment; filename="sfumato.zip"'}
    chunks = iterate_in_threadpool(chunks_of(stream))
    return StreamingResponse(chunks, media_type="application/zip", headers=headers)


def chunks_of(stream: IO[bytes]) -> Iterator[bytes]:
    with stream:
        while chunk := stream.read(CHUNK):
            yield chunk


@router.get("/images/{sha256}/thumbnail", operation_id="getThumbnail", response_class=Response,
            responses=WEBP)  # fmt: skip
async def thumbnail(
    service: TheService, client: Client, sha256: Hash,
    size: ThumbnailSize = ThumbnailSize.MEDIUM,
) -> Response:  # fmt: skip
    """A picture as a small WebP, its longer side at most 128, 256 or 512 pixels."""
    service.picture(client, sha256)
    data = await asyncio.to_thread(thumbnails.made, service.kept.files, sha256, size)
    return Response(data, media_type="image/webp", headers=KEPT)


@router.get("/images/{sha256}/lineage", operation_id="getLineage")
async def lineage(service: TheService, client: Client, sha256: Hash) -> Lineage:
    """What a picture came from, and what it became."""
    service.picture(client, sha256)
    return gallery.lineage(service.kept, client, sha256)
