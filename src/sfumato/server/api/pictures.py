"""Routes of pictures and files: upload, fetch, and the files of a job by their names."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, UploadFile
from starlette.responses import FileResponse, Response

from sfumato.server.api.problems import RefusedHere
from sfumato.server.api.shared import Client, Hash, Id, TheService
from sfumato.server.jobs import File
from sfumato.server.service import Service, missing

router = APIRouter(prefix="/v1", tags=["pictures"])

KEPT = {"cache-control": "private, max-age=31536000, immutable"}  # bytes of a hash never change
BYTES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the file's bytes",
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/images", status_code=201, operation_id="uploadImage")
async def upload(service: TheService, client: Client, file: UploadFile) -> File:
    """Keep a picture, to be named by its hash in jobs. It is decoded first."""
    most = service.settings.limits.upload
    data = await file.read(most + 1)
    if len(data) > most:
        raise RefusedHere(413, f"the picture is larger than {most:,} bytes", "file")
    return await service.upload(client, data, file.filename or "image")


@router.head(
    "/images/{sha256}", operation_id="hasImage", response_class=Response,
    responses={200: {"description": "it is here"}},
)  # fmt: skip
async def has(service: TheService, client: Client, sha256: Hash) -> Response:
    """Whether a picture is here already."""
    media, size = service.picture(client, sha256)
    return Response(headers={**KEPT, "content-length": str(size)}, media_type=media)


@router.get(
    "/images/{sha256}", operation_id="getImage", response_class=FileResponse, responses=BYTES
)
async def fetch(service: TheService, client: Client, sha256: Hash) -> Response:
    """A picture or another file by its hash."""
    media, _ = service.picture(client, sha256)
    return sent(service, sha256, media, sha256)


@router.get(
    "/jobs/{id}/files/{name:path}", operation_id="getJobFile", response_class=FileResponse,
    responses=BYTES,
)  # fmt: skip
async def of_job(
    service: TheService, client: Client, id: Id, name: Annotated[str, Path(max_length=1000)]
) -> Response:
    """A file of a job, as a local run would call it."""
    file = service.file(client, id, name)
    return sent(service, file.sha256, file.media_type, name.rpartition("/")[2])


def sent(service: Service, sha256: str, media: str, name: str) -> Response:
    """The file; shown only where it is a picture."""
    path = service.kept.files.path(sha256)
    if not path.is_file():
        raise missing(f"picture {sha256[:12]}… (its file is gone)", "sha256")
    way = "inline" if media.startswith("image/") and "svg" not in media else "attachment"
    headers = {**KEPT, "content-disposition": f"{way}; filename*=UTF-8''{quote(name, safe='')}"}
    return FileResponse(path, media_type=media, headers=headers)
