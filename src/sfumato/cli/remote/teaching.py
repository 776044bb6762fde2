"""A training that a server does: the subject's pictures go there, the run folder's files come."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
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
from sfumato.images.writing import write_whole
from sfumato.server.events import AnyEvent, Step
from sfumato.server.jobs import Job
from sfumato.train import origin, run_note
from sfumato.train.run_folder import make_folder

if TYPE_CHECKING:
    from sfumato.train.config import Config

HERE = {
    "resume": "--resume: the checkpoint stays on the server; leave it out",
    "plan": "--plan: a server plans no training; leave one of them out",
}

log = logging.getLogger("sfumato")


def check(options: Mapping[str, Any]) -> None:
    """Options that need what a server does not give."""
    for option, line in HERE.items():
        if options[option]:
            raise SfumatoError(line)
    if options["device"] != "auto":
        raise SfumatoError(f"--device {options['device']}: the server has its own; leave it out")
    if not options["noun"]:
        raise SfumatoError("--class: a server does not guess it; say what it is, such as dog")


def taught(chosen: Chosen, config: Config, folder: Path, quiet: bool) -> None:
    """Have it trained, and put into the run folder what a training here leaves, its checkpoint
    apart."""
    server = server_of(chosen)
    server.model(config.model.start)
    tables = documents.toml_table(config.text, "recipe")
    classes = tables["subject"].pop("class_folder", "")
    pictures = _sent(server, Path(tables["subject"].pop("pictures")))
    asked = {"kind": "train", "config": tables, "pictures": pictures, "name": folder.name[:200]}
    if classes:
        asked["class_pictures"] = _sent(server, Path(classes))
    if server.detach:
        server.send([asked])
    make_folder(folder)
    with claimed(folder):
        (id,) = server.send([asked])
        with show.followed("waits", quiet) as update:

            def watch(event: AnyEvent) -> None:
                if isinstance(event, Step):
                    update(f"step {event.i}/{event.n}", event.progress.done, event.progress.total)

            job = done(server.follow(id, watch))
        take(server, job, folder)
        _own(folder, config)


def take(server: Server, job: Job, folder: Path) -> None:
    """A training's files."""
    for file in job.results:
        if ".." in Path(file.name).parts or Path(file.name).is_absolute():
            continue
        path = folder / file.name
        data = server.fetch(job.id, file)
        with undisturbed():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)


def _sent(server: Server, folder: Path) -> list[dict[str, str]]:
    """The pictures of a folder, which are there now; what cannot be read is said and left out."""
    if not folder.is_dir():
        raise SfumatoError(f"{folder}: not a folder; give the folder with the pictures")
    listed = pictures_in(folder, beside=(".txt",))
    if listed.note:
        log.warning("%s: %s", folder, listed.note)
    found = []
    for file in listed.pictures:
        try:
            picture = images.ImageInput.of(file)
            picture.picture()
        except SfumatoError as error:
            log.warning("%s; left out", error)
            continue
        server.upload([picture], keeps=False)
        found.append({"sha256": picture.sha256, "name": picture.name})
    if not found:
        raise SfumatoError(f"{folder}: no picture there that can be read; 3 to 5 are best")
    return found


def _own(folder: Path, config: Config) -> None:
    """The recipe with the places of this machine, as a training here records it."""
    made: dict[str, Any] = json.loads(documents.read_text(folder / origin.FILE, origin.LIMIT))
    origin.begin(folder, config, origin.of(config, made["digests"]))
    note = folder / run_note.FILE
    if note.is_file():
        text = documents.read_text(note)
        place, mark, _ = run_note.read(folder).file.partition("/run/")
        if mark:  # where it was on the server
            write_whole(note, text.replace(f"{place}/run/", f"{folder}/").encode())
