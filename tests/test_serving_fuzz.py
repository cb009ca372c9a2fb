"""A client that does not care for our API: schemathesis on the server's own OpenAPI. No 5xx, and no surprise."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from served import PIXELS, best, copy_of, encoded, grow_two, running

from mutant.serving.settings import ServeSettings
from mutant.storage import keys
from mutant.storage.store import Store

SLOW = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)
ADMINISTRATION = ("DELETE /tasks/{task}", "POST /tasks/{task}/restore", "POST /refresh")
DEADLINE = 60.0
LIMITED = ServeSettings(most_bytes=200_000, deadline=DEADLINE)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=SLOW, database=None)


def no_server_error(context: Any, response: Any, case: Any) -> bool | None:
    """No 5xx but 504 where the request itself left less than the server would: that is the documented answer to it."""
    if response.status_code == 504 and _patience(case) < 1000 * DEADLINE:
        return None
    return not_a_server_error(context, response, case)


def _patience(case: Any) -> float:
    """The milliseconds that a request leaves."""
    given = (case.query or {}).get("timeout_ms")
    if given is None and isinstance(case.body, dict) and isinstance(case.body.get("parameters"), dict):
        microseconds = case.body["parameters"].get("timeout")
        given = microseconds / 1000 if isinstance(microseconds, int | float) else None
    return 1000 * DEADLINE if given is None else float(given)


CHECKS = [no_server_error, status_code_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return grow_two(tmp_path_factory.mktemp("fuzzed"))


@pytest.fixture(scope="module")
def url(database: FilePath):
    with running(database, LIMITED) as here:
        yield here.url


@dataclass
class Admin:
    """A server of a copy of the database, asked with an admin's key about what is there."""

    url: str
    headers: dict[str, str]
    there: dict[str, str]
    """Path parameters of a real task."""
    session: requests.Session = field(default_factory=requests.Session)

    def undo(self, operation: str) -> None:
        """Make sure that a removal, or a restoration, has something to do; it may have already."""
        high = f"{self.url}/tasks/high"
        if operation.startswith("DELETE"):
            self.session.post(f"{high}/restore", headers=self.headers, timeout=60)
        if operation.endswith("/restore"):
            self.session.delete(high, params={"force": "true"}, headers=self.headers, timeout=60)


@pytest.fixture(scope="module")
def admin(database: FilePath, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    copy = copy_of(database, tmp_path_factory.mktemp("administered"))
    with Store.open(str(copy)) as store:
        headers = {"Authorization": f"Bearer {keys.make(store, 'boss', 'admin')}"}
        path = best(store, "low")
    there = {"version": path.version, "digest": path.parts[0].digest, "run": "1", "index": "0"}
    with running(copy, LIMITED) as here:
        yield Admin(here.url, headers, there)


def _operations(url: str) -> list[Any]:
    found = schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations()
    return [one.ok() for one in found]  # pyright: ignore[reportAttributeAccessIssue]


def _fuzz(
    strategy: st.SearchStrategy[Any], examples: int, *, before: Callable[[], None] = lambda: None, **sent: Any
) -> Counter[int]:
    """Ask with what a strategy draws; how often each status was the answer."""
    statuses: Counter[int] = Counter()

    @settings(QUICK, max_examples=examples)
    @given(case=strategy)
    def ask(case: Any) -> None:
        before()
        statuses[case.call_and_validate(checks=CHECKS, timeout=2 * DEADLINE, **sent).status_code] += 1

    ask()
    return statuses


@pytest.mark.slow
def test_no_request_is_answered_with_a_5xx(url: str) -> None:
    operations = _operations(url)
    for operation in operations:
        with requests.Session() as session:
            _fuzz(operation.as_strategy(), 12, session=session)
    labels = {operation.label for operation in operations}
    assert {"POST /predict", "POST /v2/models/{name}/infer", "GET /metrics"} <= labels


@pytest.mark.slow
@pytest.mark.parametrize("mode", GenerationMode)
def test_nor_one_of_an_admin_about_what_is_there(admin: Admin, mode: GenerationMode) -> None:
    asked: dict[str, set[int]] = {}
    for operation in _operations(admin.url):
        label: str = operation.label
        if mode is GenerationMode.NEGATIVE and not (list(operation.body) or list(operation.query)):
            continue  # nothing in it could be wrong
        changes = label.startswith("DELETE") or label.endswith("/restore")
        name = "base.css" if "/assets/" in label else "high" if changes else "low"
        known = {**admin.there, "name": name, "task": name}
        there = {one: value for one, value in known.items() if f"{{{one}}}" in label}
        strategy = operation.as_strategy(mode, path_parameters=there, headers=admin.headers)
        examples = 40 if list(operation.body) else 10
        found = _fuzz(strategy, examples, before=lambda to=label: admin.undo(to), session=admin.session)
        asked[label] = set(found)
    deep = {"POST /predict", "POST /tasks/{task}/predict", "POST /v2/models/{name}/infer", "DELETE /tasks/{task}"}
    assert deep <= asked.keys()
    assert [label for label, statuses in asked.items() if statuses <= {401, 403, 404}] == []
    if mode is GenerationMode.POSITIVE:
        assert [label for label in ADMINISTRATION if 200 not in asked[label]] == []


NUMBERS = st.one_of(st.integers(0, 8), st.integers(-(2**70), 2**70))
HEADS = st.fixed_dictionaries(
    {
        "name": st.just("images"),
        "shape": st.one_of(st.just([1, 2, 2, 3]), st.just([1]), st.lists(NUMBERS, max_size=5)),
        "datatype": st.sampled_from(["UINT8", "BYTES", "FP32"]),
    }
)
SOME_BYTES = st.one_of(
    st.binary(max_size=64), st.just(bytes(12)), st.binary(max_size=20).map(lambda b: b"\x14\0\0\0" + b)
)


@st.composite
def binary_requests(draw: st.DrawFn) -> tuple[bytes, str]:
    """A body of the binary extension, and its header: often as they should be, often not quite."""
    raw = draw(SOME_BYTES)
    size = draw(st.one_of(st.just(len(raw)), NUMBERS, st.booleans(), st.floats(), st.text(max_size=5)))
    tensor = {**draw(HEADS), "parameters": {"binary_data_size": size}}
    asked: dict[str, Any] = {"inputs": [tensor], "parameters": {"binary_data_output": draw(st.booleans())}}
    head = draw(st.one_of(st.just(json.dumps(asked).encode()), st.binary(max_size=30)))
    odd = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12)
    length = st.one_of(st.just(len(head)), st.integers(-2, len(head) + len(raw) + 2), NUMBERS).map(str)
    return head + raw, draw(st.one_of(length, length, odd))


@pytest.mark.slow
def test_the_binary_extension_takes_any_length_and_body(url: str) -> None:
    statuses: Counter[int] = Counter()

    with httpx.Client(base_url=url, timeout=60) as client:

        @settings(QUICK, max_examples=400)
        @given(request=binary_requests())
        def ask(request: tuple[bytes, str]) -> None:
            body, length = request
            found = client.post(
                "/v2/models/low/infer", content=body, headers={"Inference-Header-Content-Length": length}
            )
            assert found.status_code in (200, 413, 422), found.text
            assert found.status_code == 200 or found.json().keys() == {"error"}
            statuses[found.status_code] += 1

        ask()
    assert statuses.keys() >= {200, 422}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WebP", "BMP", "TIFF"])
def test_damaged_pictures_are_refused_or_answered(url: str, form: str) -> None:
    whole = encoded(PIXELS[0], form)
    places = st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255))

    with httpx.Client(base_url=url, timeout=60) as client:

        @settings(QUICK)
        @given(changes=st.lists(places, max_size=4), length=st.one_of(st.just(len(whole)), st.integers(1, len(whole))))
        def ask(changes: list[tuple[int, int]], length: int) -> None:
            damaged = bytearray(whole)
            for place, value in changes:
                damaged[place] = value
            found = client.post("/predict", content=bytes(damaged[:length]))
            assert found.status_code in (200, 413, 422), found.text

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
