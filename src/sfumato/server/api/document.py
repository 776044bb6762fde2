"""The OpenAPI document: FastAPI's, with named bodies, one error, and recipes as they are.

FastAPI alone writes its own 422 model for every route and leaves bodies that are read here out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

import sfumato
from sfumato import methods
from sfumato.images import ImageInput
from sfumato.server.api.bodies import BODY, MODELS
from sfumato.server.api.naming import RENAMED, TEMPLATE, name_parts
from sfumato.server.api.problems import MEDIA, Problem
from sfumato.server.events import JobEvent
from sfumato.server.requests import KINDS, REFERS, Exported

REFUSALS = ("4XX", "5XX")
PICTURE = "PictureRef"
EXAMPLE = {"kind": "recipe", "recipe": {"model": "emoji", "prompt": "red apple", "seed": 7}}
UNUSED = ("HTTPValidationError", "ValidationError")


def document(app: FastAPI) -> dict[str, Any]:
    """Of the app's routes; made once."""
    if app.openapi_schema:
        return app.openapi_schema
    schema = get_openapi(
        title="sfumato",
        version=sfumato.__version__,
        summary="Guided image synthesis and editing with diffusion models, as jobs.",
        routes=app.routes,
    )
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in UNUSED:
        schemas.pop(name, None)
    wanted: list[type[BaseModel]] = [*MODELS.values(), Problem, JobEvent, Exported]
    _, own = models_json_schema([(m, "validation") for m in wanted], ref_template=TEMPLATE)
    schemas |= own["$defs"]
    schemas |= recipes()
    _discriminate(schemas)
    schemas["ModelInfo"]["required"] = [*schemas["ModelInfo"]["properties"]]  # it is only answered
    for path in schema["paths"].values():
        for operation in path.values():
            _finish(operation)
    schema["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": "sfumato_session"},
    }
    _link(schema["paths"])
    schema["security"] = [{"token": []}, {"session": []}, {}]  # the last: on the loopback
    app.openapi_schema = _named(_referring(schema))
    name_parts(app.openapi_schema["components"]["schemas"])
    return app.openapi_schema


def _link(paths: dict[str, Any]) -> None:
    """Which answer gives what another operation asks for."""
    submitted = paths["/v1/jobs"]["post"]["responses"]["202"].setdefault("links", {})
    uploaded = paths["/v1/images"]["post"]["responses"]["201"].setdefault("links", {})
    for path, operations in paths.items():
        for operation in operations.values():
            name = operation["operationId"]
            if path.startswith("/v1/jobs/{id}"):
                parameters = {"id": "$response.body#/id"}
                if "{name}" in path:
                    parameters["name"] = "1.png"
                submitted[name] = {"operationId": name, "parameters": parameters}
            elif "{sha256}" in path:
                parameters = {"sha256": "$response.body#/sha256"}
                uploaded[name] = {"operationId": name, "parameters": parameters}


def _named(made: dict[str, Any]) -> dict[str, Any]:
    """The document with names of ours where FastAPI has made some up."""
    text = json.dumps(made)
    for old, new in RENAMED.items():
        text = text.replace(f'/{old}"', f'/{new}"').replace(f'"{old}": {{', f'"{new}": {{')
    named: dict[str, Any] = json.loads(text)
    return named


def recipes() -> dict[str, Any]:
    """Recipe, Method and each installed method, by name."""
    whole = methods.recipe_schema()
    parts: dict[str, Any] = {**whole.pop("$defs")}
    classes = {name: cls.__name__ for name, cls in methods.registry().items()}
    named = {name: f"{cls}Method" for name, cls in classes.items()}
    renamed = {classes[name]: named[name] for name in classes}
    known = {renamed.get(part, part): schema for part, schema in parts.items()}
    known["Method"] = {
        "description": "A method of a recipe, by `method`.",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in named.values()],
        "discriminator": {
            "propertyName": "method",
            "mapping": {id: TEMPLATE.format(model=name) for id, name in named.items()},
        },
    }
    whole["properties"]["methods"]["items"] = {"$ref": "#/$defs/Method"}
    known["Recipe"] = {**whole, "title": "Recipe"}
    moved: dict[str, Any] = _moved(known, renamed)
    schema = TypeAdapter(ImageInput).json_schema()
    moved[PICTURE] = {**schema, "title": PICTURE, "description": "A picture that was uploaded."}
    moved[PICTURE].pop("format")
    for id, name in named.items():
        moved[name]["properties"]["method"] = {"type": "string", "const": id}
    return moved


def _moved(value: Any, renamed: Mapping[str, str]) -> Any:
    """References into `$defs` as ones into the document's components."""
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/$defs/"):
            name = reference.rpartition("/")[2]
            return {**value, "$ref": TEMPLATE.format(model=renamed.get(name, name))}
        if value.get("format") == "image":  # a picture by its hash, the same everywhere
            kept = {key: part for key, part in value.items() if key in ("description", "main")}
            return {"$ref": TEMPLATE.format(model=PICTURE), **kept}
        return {key: _moved(part, renamed) for key, part in value.items()}
    return [_moved(part, renamed) for part in value] if isinstance(value, list) else value


def _discriminate(schemas: dict[str, Any]) -> None:
    """A job by its `kind`, which is required here though the server fills it in."""
    kinds = {kind: body.__name__ for kind, body in KINDS.items()}
    schemas["JobRequest"]["discriminator"] = {
        "propertyName": "kind",
        "mapping": {kind: TEMPLATE.format(model=name) for kind, name in kinds.items()},
    }
    for name in kinds.values():
        own = schemas[name]
        own["required"] = sorted({"kind", *own.get("required", ())})
        own["properties"]["kind"].pop("default", None)


def _finish(operation: dict[str, Any]) -> None:
    """Its summary in a client's words; its body by name; its errors as the one Problem."""
    summary, _, rest = operation.pop("description").partition("\n\n")
    operation["summary"] = " ".join(summary.split())
    if rest:
        operation["description"] = rest
    if (name := operation.pop(BODY, None)) is not None:
        schema = {"$ref": TEMPLATE.format(model=name)}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
        if name == "JobRequest":
            content = operation["requestBody"]["content"]["application/json"]
            content["examples"] = {"a picture": {"value": EXAMPLE}}
    answers = operation["responses"]
    answers.pop("422", None)
    schema = {"$ref": TEMPLATE.format(model="Problem")}
    for status in REFUSALS:
        answers[status] = {
            "description": "what is wrong, in one sentence",
            "content": {MEDIA: {"schema": schema}},
        }


def _referring(value: Any) -> Any:
    """What stands for a named schema, as a reference to it."""
    if isinstance(value, dict):
        if REFERS in value:
            return {"$ref": TEMPLATE.format(model=value[REFERS])}
        return {key: _referring(part) for key, part in value.items()}
    return [_referring(part) for part in value] if isinstance(value, list) else value
