"""A client that does not care for our API: schemathesis on the server's own OpenAPI. No 5xx, and no surprise."""

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from served import grow_two, running

from mutant.serving.settings import ServeSettings

SLOW = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)
SHORT_MS = 1_000


def no_server_error(context: Any, response: Any, case: Any) -> bool | None:
    """No 5xx but 504 where the request itself left less than a second: that is the documented answer to it."""
    given = float((case.query or {}).get("timeout_ms") or SHORT_MS)
    return None if response.status_code == 504 and given < SHORT_MS else not_a_server_error(context, response, case)


CHECKS = [no_server_error, status_code_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory):
    with running(grow_two(tmp_path_factory.mktemp("fuzzed")), ServeSettings(most_bytes=200_000)) as here:
        yield here.url


@pytest.mark.slow
def test_no_request_is_answered_with_a_5xx(url: str) -> None:
    api = schemathesis.openapi.from_url(f"{url}/openapi.json")
    asked: set[str] = set()
    for found in api.get_all_operations():
        operation: Any = found.ok()  # pyright: ignore[reportAttributeAccessIssue]
        _fuzz(operation)
        asked.add(operation.label)
    assert {"POST /predict", "POST /v2/models/{name}/infer", "GET /metrics"} <= asked


def _fuzz(operation) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=SLOW, database=None)
    @given(case=operation.as_strategy())
    def ask(case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=60)

    ask()


POST = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n%s\r\n\r\n{}"
GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
RAW = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    POST % (b"/predict", b"Content-Type: multipart/form-data; boundary="),
    POST % (b"/predict", b"Content-Type: multipart/form-data"),
    POST % (b"/v2/models/low/infer", b"Inference-Header-Content-Length: 99"),
    GET % b"/tasks/%ff%00/predict",
    GET % b"/v2/models/..%2f..%2fetc%2fpasswd",
    b"\x00\x01\x02\x03\r\n\r\n",
    POST % (b"/v2/models/low/infer", b"Inference-Header-Content-Length: \xb2"),
    POST % (b"/v2/models/low/infer", b"Inference-Header-Content-Length: " + b"9" * 5000),
    POST % (b"/v2/models/low/infer", b"Inference-Header-Content-Length: -1"),
    POST % (b"/v2/models/low/infer", b"X-Request-ID: \xb2\xff"),
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: \xb2\r\n\r\n{}",
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    b"POST /predict HTTP/1.1\r\nHost: [::1]\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n",
    GET % b"/api/samples/low/99999999999999999999",
    GET % b"/api/runs/%c2%b2",
    GET % b"/v2/models/low/versions/%00%00%00%00%00%00%00%00",
    GET % (b"/v2/models/" + b"%f0%9f%98%80" * 1000),
]


def tensor(shape: str = "[1,1,1,3]", data: str = "[1,2,3]", kind: str = "UINT8", parameters: str = "{}") -> str:
    """An input as JSON that no encoder would write."""
    given = f'"parameters":{parameters},"data":{data}' if data else f'"parameters":{parameters}'
    return f'{{"inputs":[{{"name":"images","shape":{shape},"datatype":"{kind}",{given}}}],"parameters":{parameters}}}'


HUGE = "9" * 4000
BODIES = {
    "shape of huge numbers": tensor(shape=f"[1,{HUGE},{HUGE},3]"),
    "shape of three huge numbers": tensor(shape=f"[{HUGE},{HUGE},{HUGE}]"),
    "shape beyond Python's digits": tensor(shape=f"[1,1,{'9' * 9000},3]"),
    "negative shape": tensor(shape="[-1,-1,1,3]"),
    "a long string and many empty ones": tensor(data='["' + "a" * 70_000 + '"' + ',""' * 20_000 + "]"),
    "a huge number": tensor(data=f"[1,2,{HUGE}]"),
    "a number beyond Python's digits": tensor(data=f"[1,2,{'9' * 9000}]"),
    "objects": tensor(data='[{"a":[]},{},null]'),
    "booleans": tensor(data="[true,false,true]"),
    "not a number": tensor(data="[NaN,Infinity,1]"),
    "deep": tensor(data="[" * 5000 + "]" * 5000),
    "deep enough": tensor(data="[" * 150 + "1,2,3" + "]" * 150),
    "many empty lists": tensor(data="[[]" + ",[]" * 40_000 + "]"),
    "huge timeout": tensor(parameters=f'{{"timeout":{HUGE}}}'),
    "timeout beyond Python's digits": tensor(parameters=f'{{"timeout":{"9" * 9000}}}'),
    "huge binary size": tensor(data="", parameters=f'{{"binary_data_size":{HUGE}}}'),
    "huge flag": tensor(parameters=f'{{"binary_data_output":{HUGE}}}'),
    "deep parameter": tensor(parameters='{"binary_data_output":' + "[" * 150 + "]" * 150 + "}"),
    "surrogates": tensor(kind="BYTES", shape="[1]", data='["\\ud800"]'),
    "an unknown name of surrogates": '{"inputs":[{"name":"\\ud800","shape":[1],"datatype":"\\udfff","data":[]}]}',
    "surrogates for a key": '{"\\ud800":1,"inputs":[]}',
    "bytes that are no UTF-8": "\xff",
}


@pytest.mark.parametrize("name", BODIES)
def test_odd_tensors_are_refused_in_json(url: str, name: str) -> None:
    found = httpx.post(f"{url}/v2/models/low/infer", content=BODIES[name].encode("latin-1"), timeout=60)
    deep_enough = name == "deep enough"  # an even list of three numbers, however deep
    assert found.status_code in ((200,) if deep_enough else (413, 422)), found.text[:500]
    assert found.json().keys() >= ({"outputs"} if deep_enough else {"error"})
    assert len(found.content) < 2000


@pytest.mark.parametrize("raw", RAW)
def test_odd_bytes_are_refused_and_the_server_lives(url: str, raw: bytes) -> None:
    import socket

    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(raw)
        answer = connection.recv(65536)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer
    assert b"Internal Server Error" not in answer
    assert b"Traceback" not in answer
    assert httpx.get(f"{url}/v2/health/ready").status_code == 200
