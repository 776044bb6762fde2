"""The job server as this app needs it, over the generated Python client."""

from __future__ import annotations

import io
import json
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
from sfumato_client import AuthenticatedClient, Client, models
from sfumato_client.api.catalogue import list_models
from sfumato_client.api.gallery import get_thumbnail, list_pictures
from sfumato_client.api.jobs import cancel_job, get_job, submit_job
from sfumato_client.api.pictures import get_image, upload_image
from sfumato_client.types import File

OPEN = (models.State.QUEUED, models.State.RUNNING)
SHOWN = 60  # pictures of the gallery


class RefusedError(Exception):
    """What the server says, in one sentence; or that it says nothing."""


class Server:
    """A server that one is logged in to. model: the one that it offers first."""

    def __init__(self, url: str, token: str) -> None:
        url, token = url.strip().rstrip("/"), token.strip()
        url, wait = url if "://" in url else f"http://{url}", httpx.Timeout(60)
        self.client: Any = Client(url, timeout=wait)
        if token:
            self.client = AuthenticatedClient(url, token=token, timeout=wait)
        self.model = ""

    async def ask(self, operation: Any, **values: Any) -> Any:
        """The answer of an operation; RefusedError where there is none."""
        try:
            answer = await operation.asyncio(client=self.client, **values)
        except (httpx.HTTPError, httpx.InvalidURL):
            raise RefusedError("the server cannot be reached; check its address") from None
        except (KeyError, TypeError, ValueError):
            raise RefusedError("this is no server of sfumato; check its address") from None
        if isinstance(answer, models.Problem):
            raise RefusedError(answer.detail)
        if answer is None:
            raise RefusedError("this is no server of sfumato; check its address")
        return answer

    async def login(self) -> None:
        self.model = (await self.ask(list_models)).models[0].name

    async def submit(self, painting: bytes, words: str, t0: float) -> models.Job:
        """An edit of a painting, with another seed each time."""
        file = File(io.BytesIO(painting), "painting.png", "image/png")
        kept = await self.ask(upload_image, body=models.ImageUpload(file))
        image = models.PictureRef(sha256=kept.sha256, name="painting.png")
        edit = models.SDEditMethod(method="sdedit", image=image, t0=t0)
        recipe = models.Recipe(
            model=self.model, prompt=words, methods=[edit], seed=random.getrandbits(31)
        )
        return await self.ask(submit_job, body=models.RecipeJob(kind="recipe", recipe=recipe))

    async def events(self, id: str) -> AsyncIterator[dict[str, Any]]:
        """What happens to a job, until it has ended; taken up again where the network was cut."""
        last: dict[str, str] = {}
        while (await self.job(id)).state in OPEN:
            way = self.client.get_async_httpx_client()
            with suppress(httpx.HTTPError):  # a phone that slept; the job goes on meanwhile
                async with way.stream("GET", f"/v1/jobs/{id}/events", headers=last) as stream:
                    async for line in stream.aiter_lines():
                        name, _, value = line.partition(": ")
                        if name == "id":
                            last["Last-Event-ID"] = value
                        elif name == "data":
                            yield json.loads(value)

    async def job(self, id: str) -> models.Job:
        return await self.ask(get_job, id=id)

    async def cancel(self, id: str) -> None:
        await self.ask(cancel_job, id=id, body=models.CancelRequest())

    async def picture(self, sha256: str, small: bool = False) -> bytes:
        file = await self.ask(get_thumbnail if small else get_image, sha256=sha256)
        return bytes(file.payload.read())

    async def gallery(self, words: str) -> list[models.GalleryPicture]:
        """The newest pictures that have these words."""
        return list((await self.ask(list_pictures, words=words, limit=SHOWN)).pictures)
