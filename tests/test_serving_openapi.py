"""The document that the server gives of itself: valid OpenAPI, and complete."""

from collections.abc import Iterator
from typing import Any

import openapi_spec_validator
import pytest
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError
from served import grow_two, running

HEADER = "Inference-Header-Content-Length"
METHODS = ("get", "post", "delete")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with running(grow_two(tmp_path_factory.mktemp("described"))) as here:
        return here.client.get("/openapi.json").json()


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def references(value: Any) -> Iterator[str]:
    """Every `$ref` below a value."""
    if isinstance(value, dict):
        yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from references(inner)


def test_it_is_valid_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    openapi_spec_validator.validate(document)
    with pytest.raises(OpenAPIValidationError):
        openapi_spec_validator.validate({**document, "paths": {"/": {"get": {"responses": 1}}}})
    found = set(references(document))
    assert "#/components/schemas/RequestInput" in found
    for reference in found:
        place: Any = document
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]


def test_it_names_the_keys_and_where_one_is_needed(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert {(one["type"], one.get("scheme"), one.get("name")) for one in schemes.values()} == {
        ("http", "bearer", None), ("apiKey", None, "X-API-Key"),
    }  # fmt: skip
    either = [{name: []} for name in schemes]
    needed = {name: operation["security"] for name, operation in operations(document).items()}
    public = {"GET /", "GET /assets/{name}", "GET /whoami", "GET /v2/health/live", "GET /v2/health/ready"}
    admin = {"DELETE /tasks/{task}", "POST /tasks/{task}/restore", "POST /refresh"}
    assert {name for name, one in needed.items() if one == []} == public
    assert {name for name, one in needed.items() if one == either} == admin
    assert all(one == [*either, {}] for name, one in needed.items() if name not in public | admin)


def test_every_body_that_is_read_is_named(document: dict[str, Any]) -> None:
    named = {
        name: set(one["requestBody"]["content"])
        for name, one in operations(document).items()
        if name in ("POST /predict", "POST /tasks/{task}/predict")
    }
    kinds = {"multipart/form-data", "application/json", "image/*", "application/octet-stream"}
    assert list(named.values()) == [kinds, kinds]


def test_the_binary_extensions_header_is_named_both_ways(document: dict[str, Any]) -> None:
    asking = [one for name, one in operations(document).items() if name.endswith("/infer")]
    assert len(asking) == 2
    for one in asking:
        (given,) = [parameter for parameter in one["parameters"] if parameter["in"] == "header"]
        assert (given["name"], given["required"]) == (HEADER, False)
        assert HEADER in one["responses"]["200"]["headers"]


def test_every_refusal_is_named_where_it_can_come(document: dict[str, Any]) -> None:
    found = {name: set(one["responses"]) for name, one in operations(document).items()}
    assert all(one >= {"413", "422", "431", "500", "503", "504"} for one in found.values())
    assert found["POST /predict"] >= {"401", "408", "415", "429"}
    assert found["POST /v2/models/{name}/infer"] >= {"401", "404", "408", "429"}
    assert all("403" in one for one in found.values()), "of administration, or under another machine's name"
    assert {name for name, one in found.items() if "409" in one} == {
        "DELETE /tasks/{task}", "POST /tasks/{task}/restore", "POST /refresh",
    }  # fmt: skip
    assert not found["GET /whoami"] & {"401", "429"}
    head_too_large = operations(document)["GET /metrics"]["responses"]["431"]
    assert set(head_too_large["content"]) == {"text/plain"}
