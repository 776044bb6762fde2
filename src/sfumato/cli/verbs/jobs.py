"""`sfumato jobs`: what a server has done, does and will do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sfumato.cli.options import argument, keyword
from sfumato.cli.verb import Group, Verb
from sfumato.cli.verbs.shared import AS_JSON, DEBUG, QUIET
from sfumato.core.errors import SfumatoError

if TYPE_CHECKING:
    from sfumato.cli.remote.server import Server
    from sfumato.server.jobs import Job

ID = argument("id", "of the job, as --detach and `jobs list` print it")
LIMIT = keyword("limit", int, 20, "-n", "--limit", text="how many, the newest")
STATE = keyword("state", str | None, None, "--state", text="queued, running, done, failed, …")
OUTPUT = keyword(
    "output",
    str | None,
    None,
    "-o",
    "--output",
    text="as of the verb that submitted it: a pattern, or a folder of a sweep or training",
)
AFTER = keyword(
    "after",
    bool,
    False,
    "--after-picture",
    text="when the picture at work is made; a training keeps its best",
)


def reached() -> Server:
    """The server that is meant."""
    from sfumato.cli.remote.chosen import SERVER, chosen
    from sfumato.cli.remote.server import server_of

    server = chosen()
    if server is None:
        raise SfumatoError(f"jobs: of which server? give --server URL before `jobs`, or {SERVER}")
    return server_of(server)


def listed(limit: int, state: str | None, as_json: bool, quiet: bool) -> None:
    """The newest jobs, a line each."""
    from sfumato.server.jobs import JobPage

    if not 1 <= limit <= 200:
        raise SfumatoError(f"--limit {limit}: must be 1 to 200")
    asked: dict[str, Any] = {"limit": limit} | ({} if state is None else {"state": state})
    jobs = reached().connection.get(JobPage, "GET", "/v1/jobs", params=asked).jobs
    if as_json:
        print(json.dumps([job.model_dump(mode="json") for job in jobs]))
    else:
        for job in jobs:
            print(line_of(job))


def line_of(job: Job) -> str:
    """A job in a line."""
    total = job.progress.total
    share = f"{job.progress.done / total:4.0%}" if total else "    "
    prompt = (job.recipe or {}).get("prompt", "")
    about = job.error or job.name or str(prompt)
    at = f"{job.created.astimezone():%Y-%m-%d %H:%M}"
    progress = f"{share}{left(job.eta_s):>8}"
    return f"{job.id}  {at}  {job.kind:7}{job.state:12}{progress}  {about:.80}".rstrip()


def left(seconds: float | None) -> str:
    """Time until it has ended, where that is known."""
    if seconds is None:
        return ""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def shown(job: Job, as_json: bool) -> None:
    print(json.dumps(job.model_dump(mode="json")) if as_json else line_of(job))


def watched(server: Server, id: str, quiet: bool) -> Job:
    """The job when it has ended; ctrl-C leaves it running."""
    from sfumato.cli import show
    from sfumato.server.events import ChildEnded, Step

    job = server.job(id)
    if not job.state.ended:
        with show.followed(job.name or "waits", quiet) as update:
            for event in server.events(id):
                if isinstance(event, Step | ChildEnded) and event.job == id:
                    what = f"{event.i}/{event.n}" if isinstance(event, Step) else "children"
                    update(what, event.progress.done, event.progress.total)
        job = server.job(id)
    return job


def watch(id: str, as_json: bool, quiet: bool) -> None:
    """Wait for a job, and say how it ended."""
    from sfumato.cli.remote.server import done

    job = watched(reached(), id, quiet)
    shown(job, as_json)
    done(job)


def fetch(id: str, output: str | None, as_json: bool, quiet: bool) -> None:
    """Save a job's files, when it has ended."""
    from sfumato.cli.remote import fetching

    server = reached()
    fetching.fetched(server, watched(server, id, quiet), output, as_json)


def cancel(id: str, after: bool, as_json: bool, quiet: bool) -> None:
    """Stop a job; what it has made is kept."""
    when = {"when": "after_picture" if after else "now"}
    shown(asked(f"/v1/jobs/{id}/cancel", json=when), as_json)


def retry(id: str, as_json: bool, quiet: bool) -> None:
    """Try a job again."""
    shown(asked(f"/v1/jobs/{id}/retry"), as_json)


def asked(path: str, **options: Any) -> Job:
    from sfumato.server.jobs import Job

    return reached().connection.get(Job, "POST", path, **options)


def resume(quiet: bool) -> None:
    """Begin jobs again."""
    reached().connection.ask("POST", "/v1/queue/resume")


def pause(quiet: bool) -> None:
    """Begin no more jobs."""
    reached().connection.ask("POST", "/v1/queue/pause")


COMMON = (AS_JSON, QUIET, DEBUG)
EXAMPLE = "4f1c0a9b8e7d6c5b4a39"
VERBS = (
    Verb("list", listed, "The newest jobs.", (LIMIT, STATE, *COMMON), ("", "--state running")),
    Verb("watch", watch, "Wait for a job; ctrl-C leaves it be.", (ID, *COMMON), (EXAMPLE,)),
    Verb(
        "fetch",
        fetch,
        "Save a job's files, when it has ended.",
        (ID, OUTPUT, *COMMON),
        (EXAMPLE, f"{EXAMPLE} -o apples/"),
    ),
    Verb(
        "cancel",
        cancel,
        "Stop a job; what it has made is kept.",
        (ID, AFTER, *COMMON),
        (EXAMPLE, f"{EXAMPLE} --after-picture"),
    ),
    Verb(
        "retry", retry, "Try a job again that has not come to its end.", (ID, *COMMON), (EXAMPLE,)
    ),
    Verb("pause", pause, "Begin no more jobs; what runs goes on.", (QUIET, DEBUG), ("",)),
    Verb("resume", resume, "Begin jobs again.", (QUIET, DEBUG), ("",)),
)
JOBS = Group("jobs", "What a server does: list, watch, fetch, cancel.", ("list",), lambda: VERBS)
