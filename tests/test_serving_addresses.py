"""From where a request comes and by which name it asks: a bucket for each address, and no other name than localhost."""

import socket
from pathlib import Path as FilePath
from typing import Any

import pytest
from served import PNG, Running, copy_of, grow_two, running

from mutant.serving.access import Gate, is_this_machine, peer_address
from mutant.serving.refusals import Refused
from mutant.serving.settings import ServeSettings
from mutant.storage import keys
from mutant.storage.store import Store


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return grow_two(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(database: FilePath):
    with running(database) as here:
        yield here


HERE = ["localhost", "LocalHost:8000", "127.0.0.1:8000", "127.8.9.1", "[::1]:8000", "[::1]", "[::ffff:127.0.0.1]:80"]
ELSEWHERE = ["site.example", "site.example:8000", "127.0.0.1.site.example", "localhost.site.example", "10.0.0.1:8000",
             "[2001:db8::1]:8000", "0.0.0.0:8000", "localhost:80:80", "127.0.0.1:x", ""]  # fmt: skip


@pytest.mark.parametrize("host", HERE)
def test_this_machine_is_asked_by_its_own_names(server: Running, host: str) -> None:
    assert is_this_machine(host)
    assert server.client.post("/predict", content=PNG, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ELSEWHERE)
def test_a_site_that_says_it_is_this_machine_reads_nothing(server: Running, host: str) -> None:
    assert not is_this_machine(host)
    for method, path in (("POST", "/predict"), ("GET", "/"), ("GET", "/api/tasks"), ("GET", "/v2")):
        found = server.client.request(method, path, content=PNG, headers={"Host": host})
        assert (found.status_code, "localhost" in found.text) == (403, True), found.text


def test_two_hosts_are_no_way_around(server: Running) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nHost: site.example\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 4"), answer


def test_with_keys_or_for_everybody_any_name_will_do(database: FilePath, tmp_path: FilePath) -> None:
    named = {"Host": "site.example"}
    with running(database, ServeSettings(open_to_all=True)) as here:
        assert here.client.get("/v2", headers=named).status_code == 200
    copy = copy_of(database, tmp_path)
    with Store.open(str(copy)) as store:
        key = keys.make(store, "reader")
    with running(copy) as here:
        assert here.client.get("/v2", headers=named).status_code == 401
        assert here.client.get("/v2", headers={**named, "X-API-Key": key}).status_code == 200


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:1234", "127.0.0.1"),
        ("ipv6:%5B::1%5D:1234", "::1"),
        ("ipv6:[2001:db8::1]:1234", "2001:db8::1"),
        ("unix:/tmp/socket", "unix:/tmp/socket"),
    ],
)
def test_a_peer_has_the_address_that_it_has_over_http(peer: str, address: str) -> None:
    assert peer_address(peer) == address


def test_an_address_has_one_bucket_however_it_is_written() -> None:
    gate = Gate(rate=1.0, clock=lambda: 0.0)
    for address in ("10.0.0.1", "::ffff:10.0.0.1"):
        gate.enter({}, address)
    with pytest.raises(Refused, match="More than 1 requests"):
        gate.enter({}, peer_address("ipv6:%5B::ffff:10.0.0.1%5D:7"))
    gate.enter({}, "10.0.0.2")


def test_grpc_and_http_spend_from_one_bucket(database: FilePath) -> None:
    grpc: Any = pytest.importorskip("tritonclient.grpc", reason="tritonclient has no wheel for this platform")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    settings = ServeSettings(rate=0.01, grpc_port=port)
    with running(database, settings) as here, grpc.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert here.client.get("/v2").status_code == 200
        with pytest.raises(grpc.InferenceServerException, match="RESOURCE_EXHAUSTED"):
            client.get_model_repository_index()
