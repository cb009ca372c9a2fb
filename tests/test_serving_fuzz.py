"""A client that does not care for our API: schemathesis on the server's own OpenAPI. No 5xx, and no surprise."""

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from served import grow_two, running

from mutant.serving.settings import ServeSettings

CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory):
    with running(grow_two(tmp_path_factory.mktemp("fuzzed")), ServeSettings(most_bytes=200_000)) as here:
        yield here.url


@pytest.mark.slow
def test_no_request_is_answered_with_a_5xx(url: str) -> None:
    api = schemathesis.openapi.from_url(f"{url}/openapi.json")
    asked: set[str] = set()
    for found in api.get_all_operations():
        operation = found.ok()
        _fuzz(operation)
        asked.add(operation.label)
    assert {"POST /predict", "POST /v2/models/{name}/infer", "GET /metrics"} <= asked


def _fuzz(operation) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy())
    def ask(case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=60)

    ask()


POST = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n%s\r\n\r\n{}"
GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
RAW = [
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    POST % (b"/predict", b"Content-Type: multipart/form-data; boundary="),
    POST % (b"/predict", b"Content-Type: multipart/form-data"),
    POST % (b"/v2/models/low/infer", b"Inference-Header-Content-Length: 99"),
    GET % b"/tasks/%ff%00/predict",
    GET % b"/v2/models/..%2f..%2fetc%2fpasswd",
    b"\x00\x01\x02\x03\r\n\r\n",
]


@pytest.mark.parametrize("raw", RAW)
def test_odd_bytes_are_refused_and_the_server_lives(url: str, raw: bytes) -> None:
    import socket

    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(raw)
        answer = connection.recv(65536)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer
    assert b"Traceback" not in answer
    assert httpx.get(f"{url}/v2/health/ready").status_code == 200
