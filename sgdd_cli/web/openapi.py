"""The OpenAPI document of the HTTP API, and a page that shows it without anything from elsewhere."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from sgdd_cli.web.bodies import (
    BlendBody,
    EncodeBody,
    EncodedAnswer,
    Failure,
    FillBody,
    GenerateBody,
    InterpolateBody,
    ModelAnswer,
    RefinedOptions,
    WrittenAnswer,
)
from sgdd_engine import __version__

_FAILURES = {
    400: "The body is not JSON.",
    401: "The token is missing or wrong.",
    403: "The request comes from the page of another site, or names the server by another name.",
    413: "The body is too long.",
    415: "The body is of another kind.",
    422: "It cannot be done; the sentence says why.",
    503: "Too many requests are waiting; the header Retry-After says when to try again.",
    504: "It took too long and was stopped.",
}
_STREAM = (
    "With `stream: true` the answer is a stream of server-sent events: `canvas` after each denoising step (row, step, "
    "steps, text with `_` for masks, and with `explain` the tokens as pairs of piece and probability), `round` after "
    "each round of refining, then one `result` (what is answered without it), or `error`."
)


@dataclass(frozen=True)
class Call:
    """One call of the API.

    Attributes:
        summary: One line.
        description: More, in Markdown.
        body: What it takes; None for a file.
        answer: What it gives.
    """

    summary: str
    description: str
    body: type[BaseModel] | None
    answer: type[BaseModel]


CALLS = {
    "/encode": Call(
        "Texts to vectors", "The vectors of the model's frozen encoder.", EncodeBody, EncodedAnswer
    ),
    "/generate": Call(
        "Texts or vectors, written again",
        f"A text is encoded, and written from its vector alone. {_STREAM}",
        GenerateBody,
        WrittenAnswer,
    ),
    "/fill": Call(
        "Fill blanks",
        f"What is given stays; the blanks are written so that the whole has a meaning, or without one. {_STREAM}",
        FillBody,
        WrittenAnswer,
    ),
    "/blend": Call(
        "A weighted sum of meanings", f"Written from the sum of vectors. {_STREAM}", BlendBody, WrittenAnswer
    ),
    "/interpolate": Call(
        "The way from one meaning to another",
        f"Points at equal angles between two vectors. {_STREAM}",
        InterpolateBody,
        WrittenAnswer,
    ),
    "/read": Call(
        "A file of vectors or texts",
        "The body is the file itself: .npy, .json, .jsonl, .csv or lines of text (.txt); `name` says which, and the "
        f"other options are parts of the query as well. {_STREAM}",
        None,
        WrittenAnswer,
    ),
}
"""The calls that take a body, by path."""

_REFERENCE = "#/components/schemas/{model}"


@cache
def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    kinds = {kind for call in CALLS.values() for kind in (call.body, call.answer) if kind is not None}
    kinds |= {Failure, ModelAnswer}
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    _, schemas = models_json_schema([(kind, "validation") for kind in ordered], ref_template=_REFERENCE)
    paths: dict[str, Any] = {path: {"post": _operation(path, call)} for path, call in CALLS.items()}
    paths["/model"] = {
        "get": {
            "operationId": "model",
            "summary": "What is loaded",
            "description": "The model, its defaults and the limits of a request.",
            "responses": {"200": _json_answer("The model.", ModelAnswer)},
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "sgdd", "version": __version__, "description": "One loaded model of sgdd."},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        # The empty one: without --token there is none.
        "security": [{}, {"token": []}],
    }


def _operation(path: str, call: Call) -> dict[str, Any]:
    responses = {"200": _json_answer("The result.", call.answer)}
    if path != "/encode":
        responses["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    responses |= {str(status): _json_answer(text, Failure) for status, text in _FAILURES.items()}
    operation: dict[str, Any] = {
        "operationId": path.strip("/"),
        "summary": call.summary,
        "description": call.description,
        "responses": responses,
    }
    if call.body is not None:
        schema = {"$ref": _REFERENCE.format(model=call.body.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        return operation
    file = {"schema": {"type": "string", "format": "binary"}}
    operation["requestBody"] = {"required": True, "content": {"application/octet-stream": file}}
    options = RefinedOptions.model_json_schema()["properties"]
    name = {"type": "string", "description": "The name of the file, whose ending says what it is."}
    operation["parameters"] = [
        {"name": key, "in": "query", "schema": schema} for key, schema in {"name": name, **options}.items()
    ]
    return operation


def _json_answer(text: str, kind: type[BaseModel]) -> dict[str, Any]:
    schema = {"$ref": _REFERENCE.format(model=kind.__name__)}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


@cache
def readable_page() -> str:
    """The document as a page."""
    environment = Environment(
        loader=PackageLoader("sgdd_cli.web", "page"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["code"] = _with_code
    calls = [
        {
            "path": path,
            "summary": call.summary,
            "description": call.description,
            "options": _rows(call.body or RefinedOptions),
            "answer": [(name, kind.partition(",")[0], text) for name, kind, text in _rows(call.answer)],
            "example": _example(call.body),
        }
        for path, call in CALLS.items()
    ]
    return environment.get_template("docs.html.j2").render(
        calls=calls, failures=_FAILURES, version=__version__
    )


def _with_code(text: str) -> Markup:
    """A text as HTML, in which what stands between two `` ` `` is code."""
    parts = (
        Markup("<code>{}</code>") if number % 2 else Markup("{}") for number in range(text.count("`") + 1)
    )
    return Markup().join(part.format(piece) for part, piece in zip(parts, text.split("`"), strict=True))


def _rows(kind: type[BaseModel]) -> list[tuple[str, str, str]]:
    """Name, type and description of each field."""
    schema = kind.model_json_schema()
    required = schema.get("required", [])
    return [
        (name, _type(field) + ("" if name not in required else ", required"), field.get("description", ""))
        for name, field in schema["properties"].items()
    ]


def _type(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"] if part.get("type") != "null")
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    limits = [
        f"{word} {schema[key]:g}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema
    ]
    return " ".join([str(schema.get("type", "value")), *limits])


def _example(kind: type[BaseModel] | None) -> str | None:
    """A body to try the call with."""
    if kind is None:
        return None
    fields = {name: field.examples[0] for name, field in kind.model_fields.items() if field.examples}
    return json.dumps(fields)
