"""What OpenAPI says of the app beyond its routes: the keys, and what is answered before a route is found."""

from itertools import chain
from typing import Any

from fastapi import FastAPI

from mutant.serving.front import PUBLIC
from mutant.serving.tensors import InferRequest

_SCHEMES: dict[str, Any] = {
    "Bearer": {"type": "http", "scheme": "bearer", "description": "A key, made with: mutant keys add NAME"},
    "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}
_EITHER: list[dict[str, list[str]]] = [{name: []} for name in _SCHEMES]
_NOBODY: dict[str, list[str]] = {}
"""No key at all: enough to read while the system has none."""
_TEXT: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
_HEAD_TOO_LARGE: dict[str, Any] = {"description": "Headers, or a request line, above the limit.", "content": _TEXT}
_ADMINISTRATION = "administration"
_METHODS = frozenset({"get", "post", "put", "patch", "delete", "head", "options"})


def describe(app: FastAPI) -> None:
    """Complete the app's document. The gate is before the routes, so FastAPI does not know of it."""
    plain = app.openapi

    def completed() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(plain())
        return plain()

    app.openapi = completed


def _complete(document: dict[str, Any]) -> None:
    components = document["components"]
    components["securitySchemes"] = _SCHEMES
    # A route that reads its body by itself only names the body's model.
    schema = InferRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"].update({**schema.pop("$defs"), InferRequest.__name__: schema})
    for path, operations in document["paths"].items():
        for method in operations.keys() & _METHODS:
            _complete_one(operations[method], is_public=bool(PUBLIC.fullmatch(path)))


def _complete_one(operation: dict[str, Any], *, is_public: bool) -> None:
    responses = operation["responses"]
    is_administration = not is_public and _ADMINISTRATION in operation["tags"]
    responses["400"]["content"].update(_TEXT)  # what is not HTTP has its answer from the parser
    responses["431"] = _HEAD_TOO_LARGE
    operation["security"] = [] if is_public else _EITHER if is_administration else [*_EITHER, _NOBODY]
    never = [("401", "429")] if is_public else []
    never += [] if is_administration else [("409",)]  # 403 may be a matter of the Host header
    never += [] if "requestBody" in operation else [("408", "415")]
    for status in chain.from_iterable(never):
        responses.pop(status, None)
    operation["responses"] = dict(sorted(responses.items()))
