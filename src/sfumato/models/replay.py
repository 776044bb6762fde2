"""run(): make a picture again from its recipe, or from any picture that carries one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sfumato import documents, images
from sfumato.core.context import Step
from sfumato.core.errors import SfumatoError
from sfumato.core.process import Process
from sfumato.methods import Method, from_data
from sfumato.models import recorded
from sfumato.models.cascade import Cascade, base_of, upsamples
from sfumato.models.files import hub
from sfumato.models.loaders.decoders import decoding
from sfumato.models.loaders.library import folder_of, load
from sfumato.models.model import Model
from sfumato.models.result import Result
from sfumato.recipe import Recipe, foreign
from sfumato.recipe.fields import UNKNOWN, Adapter
from sfumato.recipe.names import is_weights, unshadowed
from sfumato.recipe.places import Find, beside, nowhere, offered, placed
from sfumato.recipe.store import fetch
from sfumato.recipe.value import RECIPE_BYTES

log = logging.getLogger("sfumato")


def read_recipe(source: str | Path | Recipe, *, whole: bool = False) -> Recipe:
    """The recipe of a JSON file or of a picture, or one that is given.

    Whatever it comes from, it is read as a document. Of a picture that another program made, what
    its settings have an equal for here; the rest is said. whole: refuse those that leave out what
    a run cannot do without.
    """
    if isinstance(source, Recipe):
        try:
            return Recipe.from_data(source.to_data())
        except RecursionError:
            raise SfumatoError("recipe: is nested too deeply") from None
    if not isinstance(source, str | Path):
        raise SfumatoError(f"recipe {source!r:.60}: give a path, or a Recipe")
    path = Path(source)
    if path.suffix.lower() == ".json":
        return Recipe.from_json(documents.read_text(path, RECIPE_BYTES), path.name)
    texts = images.read_metadata(path, foreign=True)
    if (text := texts.get("sfumato")) is not None:
        return Recipe.from_json(text, path.name)
    settings = foreign.read(texts, path.name)
    if settings is None:
        raise SfumatoError(
            f"{path.name}: carries no sfumato recipe, and no settings of A1111, InvokeAI, ComfyUI "
            "or Fooocus; was it saved by one of them?"
        )
    if whole and settings.needs:
        raise SfumatoError(f"{path.name}: of {settings.program}; {settings.needs[0]}")
    for line in (*settings.left, *settings.needs):
        log.info("%s: of %s: %s", path.name, settings.program, line)
    return replace(settings.recipe, model=_file_of(settings.recipe.model, path.parent))


def _file_of(name: str, folder: Path) -> str:
    """The name with the ending of a file of weights that lies there, where it has none."""
    endings = ("", ".safetensors", ".ckpt")
    files = (name + ending for ending in endings if is_weights(folder / (name + ending)))
    return next(files, name)


def compose(
    recipe: Recipe,
    model: Model,
    folders: list[Path],
    inputs: Callable[[str, str], bytes] | None = None,
    *,
    other_times: bool = False,
    weights: Find = nowhere,
) -> Process | Cascade:
    """The process of a recipe on a model; pictures are what `inputs` gives, else looked for as
    recipe.fetch says. weights: as Surroundings'.

    Of a run, a method's field that did nothing then does nothing now; others refuse it.
    other_times: its spacing is not the run's.
    """
    with inputs_from(recipe, folders, inputs, weights):
        methods = [from_data(entry, "recipe", bool(recipe.run)) for entry in recipe.methods]
    if not other_times:
        recipe, methods = _as_ran(recipe, methods)
    if recipe.run and any(upsamples(method) for method in methods):
        recipe, methods = _baseless(recipe, methods)
    most = 1 + len(model.upsamplers)
    if recipe.run and recipe.stages is not None and recipe.stages > most:
        log.warning("stages %d: %s has %d now; all are run", recipe.stages, model.name, most)
        recipe = replace(recipe, stages=most)
    process = model.process(
        recipe.prompt,
        negative=recipe.negative,
        label=recipe.label,
        n=recipe.n,
        steps=recipe.steps,
        solver=recipe.solver,
        spacing=recipe.spacing,
        size=recipe.size,
        stages=recipe.stages,
    )
    with inputs_from(recipe, folders, inputs, weights):
        for method in methods:
            process = process | method
    base = base_of(process)
    if recipe.run and base.size is not None and base.place.shape is not None:
        process = process.based(size=None)  # up to 0.2.0 a tensor silenced it
    return process


def _baseless(recipe: Recipe, methods: list[Method]) -> tuple[Recipe, list[Method]]:
    """A run that left its base out, without what acts there: up to 0.2.0 it was taken."""
    acted = [m for m in methods if upsamples(m) or m.stages == "all"]
    without = replace(
        recipe, negative="", label=None, steps=None, solver=None, spacing=None, size=None
    )
    return without, acted


def _as_ran(recipe: Recipe, methods: list[Method]) -> tuple[Recipe, list[Method]]:
    """The methods as they acted in a run: up to 0.2.0, explicit times silenced a start level.

    Both together are refused since, unless they agree, so a recipe of a run that has both is of
    such a version. A level of 0 was the exception: it silenced the times.
    """
    if not recipe.run or not isinstance(recipe.spacing, tuple | list):
        return recipe, methods
    acted = []
    for method in methods:
        values = {name: getattr(method, name) for name in method.levels}
        set_ones = {name: value for name, value in values.items() if value is not None}
        for name, value in set_ones.items():
            if value == (1 if name == "alpha_bar" else 0):
                recipe = replace(recipe, spacing=None)
            else:
                log.info("recipe: %s had no effect beside its times, and is left out", name)
                method = method.changed(**{name: None})
        acted.append(method)
    return recipe, acted


@contextmanager
def inputs_from(
    recipe: Recipe,
    folders: list[Path],
    inputs: Callable[[str, str], bytes] | None = None,
    weights: Find = nowhere,
) -> Iterator[None]:
    """While active, pictures given as {"sha256", "name"} and weights are found for this recipe."""

    def resolve(digest: str, name: str) -> bytes:
        return fetch(digest, name, recipe.embedded, folders)

    token, place = images.resolver.set(inputs or resolve), beside.set(tuple(folders))
    known = offered.set(weights)
    try:
        yield
    finally:
        images.resolver.reset(token)
        beside.reset(place)
        offered.reset(known)


@dataclass(frozen=True)
class Surroundings:
    """Where a recipe's names lead, besides where they always do.

    opens: what loads a model, as `load` does. inputs: (sha256, name) -> bytes of a picture, in the
    place of the store and the folders. folders: where weights are looked for first. weights: the
    place of those that have one whatever folder they are in.
    """

    opens: Callable[..., Model] = load
    inputs: Callable[[str, str], bytes] | None = None
    folders: tuple[Path, ...] = ()
    weights: Find = nowhere


HERE = Surroundings()


@dataclass(frozen=True, eq=False)
class Replay:
    """A recipe composed again on its model."""

    recipe: Recipe
    process: Process | Cascade

    @classmethod
    def of(
        cls,
        source: str | Path | Recipe,
        *,
        device: str = "auto",
        dtype: str | None = None,
        offload: str = "none",
        within: Surroundings = HERE,
    ) -> Replay:
        """From a recipe, its file, or a picture; dtype defaults to the one recorded."""
        recipe = read_recipe(source, whole=True)
        recorded.method_weights(recipe.run)  # what cannot be read is said before anything runs
        folders = [*within.folders, Path.cwd()]
        if not isinstance(source, Recipe):
            folders.insert(0, Path(source).resolve().parent)
        name, asked = resolve_model(recipe.model, folders), recipe.run.get("dtype", "auto")
        model = within.opens(name, device=device, dtype=dtype or asked, offload=offload)
        if recipe.versions and dtype is None:  # of a run, in float32 where it says nothing
            decoder, tile = recipe.run.get("decoder", "float32"), recipe.run.get("tile")
            model = decoding(model, decoder, tile)
        recorded.compare(recipe, model)
        adapted = with_adapters(recipe, model, folders)
        process = compose(recipe, adapted, folders, within.inputs, weights=within.weights)
        return cls(recipe, process)

    def sample(self, progress: Callable[[Step], None] | None = None) -> Result:
        """Run the whole batch; of a picture, its own index is returned."""
        result: Result = self.process.sample(self.recipe.seed, progress=progress)
        result = result.descended(self.recipe.parents)
        recorded.compare_method_weights(self.recipe.run, result.recipe.run)
        if "index" not in self.recipe.run:
            return result
        picture = result.images[self.recipe.run["index"]]
        return replace(result, images=[picture], recipe=picture.recipe)


def run(
    source: str | Path | Recipe,
    *,
    device: str = "auto",
    dtype: str | None = None,
    offload: str = "none",
    progress: Callable[[Step], None] | None = None,
) -> Result:
    """Make it again: the whole batch is run, and of a picture its own index is returned.

    The same bits on the same machine. dtype and device default to those recorded; offload as of
    `load`.
    """
    return Replay.of(source, device=device, dtype=dtype, offload=offload).sample(progress)


def resolve_model(name: str, folders: list[Path]) -> str:
    """What to load as a recipe's model: the name itself, else where a file of that name is."""
    path = placed(name, folders) if folder_of(unshadowed(name)) is None else None
    return name if path is None else str(path)


def with_adapters(recipe: Recipe, model: Model, folders: list[Path]) -> Model:
    """The model with every adapter that a recipe names."""
    for adapter in recipe.adapters:
        model = _with_adapter(model, adapter, folders)
    return model


def _with_adapter(model: Model, adapter: Adapter, folders: list[Path]) -> Model:
    """The model with a recorded adapter: one of its card's, or a file beside the recipe."""
    card_names = {file: name for name, file in model.card.adapters.items()}
    file = unshadowed(adapter["file"])
    local = file if hub.find(file) is not None else None
    path = card_names.get(file) or placed(file, folders) or local
    if path is None:
        hint = f"`sfumato models pull {file}`" if hub.is_name(file) else "put it beside the recipe"
        raise SfumatoError(f"adapter {file}: not found; {hint}")
    adapted = model.adapt(path, adapter["scale"])
    if adapter["sha256"] not in (UNKNOWN, adapted.adapters[-1]["sha256"]):
        log.warning("adapter %s differs from the one recorded: another picture is likely", file)
    return adapted
