"""What clients ask for: bodies of requests, strict and bounded.

A recipe is read by the library's own reader, so that all faces refuse the same.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    PlainSerializer,
    PlainValidator,
    RootModel,
    Tag,
    WithJsonSchema,
)

from sfumato.core.ranges import LENGTH
from sfumato.images.picture import file_name
from sfumato.recipe import Recipe
from sfumato.server.jobs import JobId, Kind, Sha256, When

REFERS = "x-refers"
"""Key of a schema that stands for a named one; openapi.py puts the reference in its place."""
ROWS = 10_000  # of a batch
LARGEST_SWEEP = 2_000  # cells of a sweep, each of which is a job
PRIORITY = 100
LONGEST = 10**9  # steps of a training

RecipeBody = Annotated[
    Recipe,
    PlainValidator(lambda data: data if isinstance(data, Recipe) else Recipe.from_data(data)),
    PlainSerializer(lambda recipe: recipe.to_data()),
    WithJsonSchema({"type": "object", REFERS: "Recipe"}),
]
Prompt = Annotated[str, Field(max_length=LENGTH)]
Priority = Annotated[int, Field(ge=-PRIORITY, le=PRIORITY)]
Name = Annotated[str, Field(max_length=200)]
Searches = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[a-z0-9_]{1,50}\.[a-z0-9_]{1,50}$")], ...],
    Field(max_length=20),
]


def _own_name(name: str) -> str:
    if name in ("", ".", "..") or file_name(name) != name:
        raise ValueError("is no file's own name; leave folders out")
    return name


FileName = Annotated[str, Field(max_length=200), AfterValidator(_own_name)]


def _within(name: str) -> str:
    for part in name.split("/"):
        _own_name(part)
    return name


Place = Annotated[str, Field(max_length=200), AfterValidator(_within)]
"""A file's name below a folder."""


class Body(BaseModel):
    """What a client sends; what is unknown is refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Row(Body):
    """A recipe to run. search: METHOD.FIELD of numbers to be found first, by `target`.

    name: what the client calls it.
    """

    recipe: RecipeBody
    search: Searches = ()
    target: Annotated[str, Field(max_length=100)] = "rms"
    name: Name = ""


class RecipeJob(Row):
    """Make the pictures of a recipe."""

    kind: Literal[Kind.RECIPE] = Kind.RECIPE
    priority: Priority = 0


class SweepJob(Row):
    """Vary one field of a recipe: METHOD.FIELD=LOW:HIGH:COUNT, or =A,B,C; words =A|B, windows
    =A,B|C,D, or a JSON list of values; steps, negative, solver and spacing are the recipe's own.

    search: as of a recipe's job. seeds: pictures of each value and prompt, from the recipe's seed
    on; choose: the value to mark.
    """

    kind: Literal[Kind.SWEEP]
    over: Annotated[str, Field(max_length=20_000)]
    seeds: Annotated[int, Field(ge=1, le=1000)] = 3
    prompts: Annotated[tuple[Prompt, ...], Field(max_length=1000)] = ()
    choose: float | None = None
    priority: Priority = 0


class BatchJob(Body):
    """Many recipes; one that fails does not end the others."""

    kind: Literal[Kind.BATCH]
    rows: Annotated[tuple[Row, ...], Field(min_length=1, max_length=ROWS)]
    name: Name = ""
    priority: Priority = 0


class Input(Body):
    """A picture that was uploaded, and the name of its file."""

    sha256: Sha256
    name: FileName = "image"


class Captioned(Input):
    """A picture to learn from. caption: of tuners that learn words; a subject's have none."""

    caption: Prompt = ""


class RunFile(Body):
    """A file that an earlier training of the client's has left; name: in its run folder."""

    sha256: Sha256
    name: Place


class TrainJob(Body):
    """Teach a model: tables of a training recipe (docs/training.md), whose pictures are inputs.

    subject.pictures and subject.class_folder are set by the server to hold these. Without pictures
    the server's packed set is learned from; packed: hash of the metadata.jsonl that it must have.
    run: files of a run to go on with. until: stop after this step.
    """

    kind: Literal[Kind.TRAIN]
    config: Annotated[dict[str, JsonValue], Field(max_length=100)]
    pictures: Annotated[tuple[Captioned, ...], Field(max_length=10_000)] = ()
    class_pictures: Annotated[tuple[Input, ...], Field(max_length=10_000)] = ()
    packed: Sha256 | None = None
    run: Annotated[tuple[RunFile, ...], Field(max_length=1000)] = ()
    until: Annotated[int, Field(ge=1, le=LONGEST)] | None = None
    name: Name = ""
    priority: Priority = 0


class EvalJob(Body):
    """Measure a model by the packed set's words: a file for each row, then report.json.

    scales: of guidance, null for the model's own; n: prompts; pictures: those that were measured
    are files too.
    """

    kind: Literal[Kind.EVAL]
    model: Annotated[str, Field(max_length=1000)]
    styles: Annotated[tuple[Prompt, ...], Field(min_length=1, max_length=20)] = ("3d render",)
    scales: Annotated[tuple[float | None, ...], Field(min_length=1, max_length=100)] = (None,)
    n: Annotated[int, Field(ge=1, le=10_000)] = 200
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8", "int4"] = "auto"
    pictures: bool = False
    name: Name = ""
    priority: Priority = 0


class ComparedWay(Body):
    """A way of a comparison, by its name in the table.

    fills: ids of the methods whose `image` is the input; null: the first that has one.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    recipe: RecipeBody
    fills: Annotated[tuple[Name, ...], Field(max_length=20)] | None = None


class CompareJob(Body):
    """Make pictures in several ways on the same inputs, prompts and seeds, and measure them.

    inputs: pictures that every way gets; prompts: in place of each way's own; seeds: pictures of
    each way, input and prompt, the first from `seed`.
    """

    kind: Literal[Kind.COMPARE]
    ways: Annotated[tuple[ComparedWay, ...], Field(min_length=1, max_length=20)]
    inputs: Annotated[tuple[Input, ...], Field(max_length=1000)] = ()
    prompts: Annotated[tuple[Prompt, ...], Field(max_length=1000)] = ()
    seeds: Annotated[int, Field(ge=1, le=1000)] = 3
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    name: Name = ""
    priority: Priority = 0


class PlanJob(Row):
    """Say what a recipe would do, in plan.json, once the numbers of `search` are found."""

    kind: Literal[Kind.PLAN]
    priority: Priority = 0


AnyJob = RecipeJob | SweepJob | BatchJob | TrainJob | EvalJob | CompareJob | PlanJob
KINDS: dict[str, type[Body]] = {
    "recipe": RecipeJob,
    "sweep": SweepJob,
    "batch": BatchJob,
    "train": TrainJob,
    "eval": EvalJob,
    "compare": CompareJob,
    "plan": PlanJob,
}
"""What a body is, by its kind."""


def _kind(data: Any) -> Any:
    """Of a body; one without is a recipe's."""
    if isinstance(data, dict):
        return data.get("kind", Kind.RECIPE)
    return getattr(data, "kind", None)


class JobRequest(
    RootModel[
        Annotated[
            Annotated[RecipeJob, Tag("recipe")]
            | Annotated[SweepJob, Tag("sweep")]
            | Annotated[BatchJob, Tag("batch")]
            | Annotated[TrainJob, Tag("train")]
            | Annotated[EvalJob, Tag("eval")]
            | Annotated[CompareJob, Tag("compare")]
            | Annotated[PlanJob, Tag("plan")],
            Discriminator(
                _kind,
                custom_error_type="kind",
                custom_error_message=f"kind must be {', '.join([*KINDS][:-1])} or plan",
            ),
        ]
    ]
):
    """A job to be done, by `kind`; one without is a recipe's."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)

    @property
    def job(self) -> AnyJob:
        return self.root


class Exported(Body):
    """Requests that can be posted again, one after the other."""

    jobs: tuple[JobRequest, ...]


class CancelRequest(Body):
    """How to stop it."""

    when: When = When.NOW


class ReorderRequest(Body):
    """Where a queued job goes: before another of the same client, else last; or its priority."""

    before: JobId | None = None
    priority: Priority | None = None


class LoginRequest(Body):
    """A token, for which a page gets a session."""

    token: Annotated[str, Field(min_length=1, max_length=1000)]
