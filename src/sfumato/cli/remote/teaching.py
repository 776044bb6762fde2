"""A training that a server does: its pictures go there, the run folder's files come."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato import documents, images
from sfumato.claims import claimed
from sfumato.cli import show
from sfumato.cli.remote.chosen import Chosen
from sfumato.cli.remote.server import Server, done, server_of
from sfumato.core.errors import SfumatoError
from sfumato.core.interrupts import undisturbed
from sfumato.images.folders import pictures_in
from sfumato.images.writing import make_folder, write_whole
from sfumato.models.files.hashes import file_digest
from sfumato.recipe.names import bare
from sfumato.server.events import AnyEvent, ChildEnded, Step
from sfumato.server.jobs import Job, State
from sfumato.server.training import RUN_FOLDER
from sfumato.train import origin, run_folder, run_note

if TYPE_CHECKING:
    from sfumato.train.config import Config

MODELS = (("model", "start"), ("model", "tokenizer"), ("data", "base"))
"""Tables and fields that name a model, which a server knows by its bare name."""

log = logging.getLogger("sfumato")


def check(device: str) -> None:
    """Options that say what this machine does."""
    if device != "auto":
        raise SfumatoError(f"--device {device}: the server has its own; leave it out")


@dataclass(frozen=True)
class Teaching:
    """A training for a server. data: where its pictures are, None for the server's packed set."""

    server: Server
    config: Config
    data: Path | None

    def asked(self, name: str) -> dict[str, Any]:
        """The request; pictures that the server has not are sent."""
        tables = documents.toml_table(self.config.text, "recipe")
        optim = tables.setdefault("optim", {})
        optim["steps"] = self.config.optim.steps  # as --steps says
        for table, field in MODELS:
            if named := tables.get(table, {}).get(field):
                tables[table][field] = bare(named)
                self.server.model(bare(named))
        asked: dict[str, Any] = {"kind": "train", "config": tables, "name": name[:200]}
        if self.config.reads.subject:
            subject = tables.get("subject", {})
            classes = subject.pop("class_folder", "")
            pictures = Path(subject.pop("pictures", "") or self.data or "")
            asked["pictures"] = sent(self.server, pictures)
            if classes:
                asked["class_pictures"] = sent(self.server, Path(classes))
        elif self.data is not None:
            asked |= _of_captions(self.server, self.data)
        return asked

    def plan(self) -> dict[str, Any]:
        """What the server says that it would do."""
        planned = self.server.plan(self.asked(""))
        for note in planned["notes"]:
            log.info("%s", note)
        return planned


def is_own(chosen: Chosen, model: str) -> bool:
    """Whether a model of the server was trained with sfumato."""
    return server_of(chosen).model(bare(model)).own


def guessed(chosen: Chosen, pictures: Path, recipe: dict[str, Any]) -> str:
    """What the model's CLIP takes the pictures for, there."""
    from sfumato.cli.training_recipe import taken
    from sfumato.train.config import parse
    from sfumato.train.tables import toml

    config = parse(recipe, toml(recipe))
    return taken(Teaching(server_of(chosen), config, pictures).plan()["nouns"])


def taught(
    chosen: Chosen,
    config: Config,
    data: Path | None,
    folder: Path,
    until: int | None = None,
    quiet: bool = False,
) -> None:
    """Have it trained, and put into the run folder what a training here leaves."""
    server = server_of(chosen)
    if until is not None and not 1 <= until <= config.optim.steps:
        raise SfumatoError(
            f"--until {until}: must be from 1 to the {config.optim.steps} steps asked for"
        )
    origin.going_on(folder, origin.of(config, {}), whole=False)
    run_folder.make_folder(folder)
    with claimed(folder):
        begun = _begun(server, folder)
        if not begun:
            run_folder.clear(folder, config.text)
        asked = Teaching(server, config, data).asked(folder.name)
        asked |= {"until": until, "run": begun}
        (id,) = server.send([asked])
        try:
            with show.followed("waits", quiet) as update:

                def watch(event: AnyEvent) -> None:
                    if isinstance(event, Step) and event.job == id:
                        at = event.progress
                        update(f"step {event.i}/{event.n}", at.done, at.total)
                    elif isinstance(event, ChildEnded):
                        update("class pictures", event.progress.done, event.progress.total)

                job = server.follow(id, watch)
        except KeyboardInterrupt:
            with undisturbed():
                stopped(server, id, folder, config)
            raise
        if job.state is not State.DONE:
            stopped(server, id, folder, config)
            done(job)
        take(server, job, folder)
        _own(folder, config)


def stopped(server: Server, id: str, folder: Path, config: Config) -> None:
    """What a training has left that has not come to its end: the same command goes on from it."""
    server.settled(id)
    job = server.job(id)
    if job.state.ended and job.results:
        take(server, job, folder)
        _own(folder, config)


def take(server: Server, job: Job, folder: Path) -> None:
    """A training's files; those that are there already are not fetched."""
    for file in job.results:
        path = folder / file.name
        if path.is_file() and file_digest(path) == file.sha256:
            continue
        data = server.fetch(job.id, file)
        if file.name == run_note.FILE:
            here = json.dumps(str(folder), ensure_ascii=False)[1:-1]
            data = data.replace(RUN_FOLDER.encode(), here.encode())
        with undisturbed():
            make_folder(path.parent)
            write_whole(path, data)


def _begun(server: Server, folder: Path) -> list[dict[str, str]]:
    """Files of the training there whose checkpoint the folder has."""
    checkpoint = folder / origin.CHECKPOINT
    if not checkpoint.exists():
        return []
    wanted = (origin.CHECKPOINT, file_digest(checkpoint))
    for job in server.jobs(kind="train"):
        if wanted in {(file.name, file.sha256) for file in job.results}:
            return [{"name": file.name, "sha256": file.sha256} for file in job.results]
    raise SfumatoError(
        f"{folder}: holds a run that {server.connection.url} does not have; leave --server out to "
        "go on here, or give another -o"
    )


def sent(server: Server, folder: Path) -> list[dict[str, str]]:
    """The pictures of a folder, which are there now; what cannot be read is said and left out."""
    if not folder.is_dir():
        raise SfumatoError(f"{folder}: not a folder; give the folder with the pictures")
    listed = pictures_in(folder, beside=(".txt",))
    if listed.note:
        log.warning("%s: %s", folder, listed.note)
    pictures = []
    for file in listed.pictures:
        try:
            picture = images.ImageInput.of(file)
            picture.picture()
        except SfumatoError as error:
            log.warning("%s; left out", error)
            continue
        server.upload([picture], keeps=False)
        pictures.append({"sha256": picture.sha256, "name": picture.name})
    if not pictures:
        raise SfumatoError(f"{folder}: no picture there that can be read; 3 to 5 are best")
    return pictures


def _of_captions(server: Server, folder: Path) -> dict[str, Any]:
    """The packed set that the server must have too, or the pictures with what is said of them."""
    from sfumato.train.data import store

    if not folder.is_dir():
        raise SfumatoError(
            f"data {folder}: no such folder; give --data, or make the packed set with "
            "`sfumato data build-emoji`"
        )
    if packed := store.packed_digest(folder):
        return {"packed": packed}
    pictures = []
    for name, caption in store.captions(folder).items():
        if Path(name).name != name:
            raise SfumatoError(
                f"data {folder}: {name!r:.80}: a server takes no folders; put it beside the others"
            )
        picture = images.ImageInput.of(folder / name)
        server.upload([picture], keeps=False)
        pictures.append({"sha256": picture.sha256, "name": name, "caption": caption})
    return {"pictures": pictures}


def _own(folder: Path, config: Config) -> None:
    """The recipe with the places of this machine, as a training here records it."""
    if not (folder / origin.FILE).is_file():
        return
    data: dict[str, Any] = json.loads(documents.read_text(folder / origin.FILE, origin.LIMIT))
    origin.begin(folder, config, origin.of(config, data["digests"]))
