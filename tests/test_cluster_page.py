"""docs/cluster.md: its files are whole and fit together, its commands exist, and what it says was tried is tried."""

import json
import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from buckets import bucket
from cli_calls import QUICK, write_folder
from postgres_server import Server
from raylets import ray_start
from test_docs import COMMANDS, DOCS, page

yaml = pytest.importorskip("yaml")

TEXT = page("cluster.md")
_SHOWN = re.findall(r"^`([\w-]+\.yaml)`.*?```yaml\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)
FILES: dict[str, list[Any]] = {name: [*yaml.safe_load_all(block)] for name, block in _SHOWN}
SECRET = set(re.findall(r"--from-literal=(\w+)=", TEXT))


def containers(node: Any) -> Iterator[dict[str, Any]]:
    """All containers of all pods below a node of a manifest."""
    if isinstance(node, dict):
        yield from node.get("containers", ())
        for below in node.values():
            yield from containers(below)
    elif isinstance(node, list):
        for below in node:
            yield from containers(below)


def named(node: Any, key: str) -> Iterator[Any]:
    """Every value under a key, wherever it is."""
    if isinstance(node, dict):
        yield from ([node[key]] if key in node else [])
        for below in node.values():
            yield from named(below, key)
    elif isinstance(node, list):
        for below in node:
            yield from named(below, key)


def test_every_file_is_shown_and_parses() -> None:
    assert set(FILES) == {"cluster.yaml", "postgres.yaml", "cluster-kuberay.yaml", "job.yaml"}
    assert TEXT.count("```yaml") == len(FILES)
    kinds = [document["kind"] for name, documents in FILES.items() if name != "cluster.yaml" for document in documents]
    assert sorted(kinds) == ["RayCluster", "RayJob", "Service", "StatefulSet"]


def test_the_launchers_file_fits_rays_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text(encoding="utf-8"))
    (config,) = FILES["cluster.yaml"]
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config | {"available_node_types": 3}, schema)
    assert config["head_node_type"] in config["available_node_types"]
    source = next(iter(config["file_mounts"].values()))
    assert (DOCS.parent / source).is_file()


def test_what_the_manifests_name_is_there() -> None:
    service, database = FILES["postgres.yaml"]
    assert service["spec"]["selector"].items() <= database["spec"]["template"]["metadata"]["labels"].items()
    assert service["metadata"]["name"] == database["spec"]["serviceName"]
    for documents in FILES.values():
        for reference in named(documents, "secretKeyRef"):
            assert reference["name"] == "mutant"
            assert reference["key"] in SECRET
        assert all(reference["name"] == "mutant" for reference in named(documents, "secretRef"))
    for name in ("cluster-kuberay.yaml", "job.yaml"):
        for spec in (
            *named(FILES[name], "headGroupSpec"),
            *[one for some in named(FILES[name], "workerGroupSpecs") for one in some],
        ):
            (container,) = containers(spec)
            assert container["resources"]["requests"] == container["resources"]["limits"]
        (head,) = [one for one in containers(FILES[name]) if one["name"] == "ray-head"]
        urls = [variable["value"] for variable in head["env"] if variable["name"] == "MUTANT_DB"]
        assert urls == [f"postgresql://mutant@{service['metadata']['name']}/mutant"]
        assert "password" not in str(FILES[name]).lower()
        rays = set(named(FILES[name], "rayVersion"))
        assert {f"rayproject/ray:{version}-py311-cpu" for version in rays} == set(re.findall(r"FROM (\S+)", TEXT))


def test_every_mutant_command_and_option_exists() -> None:
    lines = [
        line
        for line in re.sub(r"\s*\\\n\s*", " ", TEXT).splitlines()
        if re.search(r"(^    |-- |/bin/|\|\| |; ?)mutant \w", line)
    ]
    assert len(lines) >= 10
    for call in re.findall(r"mutant ([a-z].*?)(?=\|\||&&|;|>|'|#|$)", "\n".join(lines), re.MULTILINE):
        words = shlex.split(call)
        command = COMMANDS.get(" ".join(words[:2])) or COMMANDS[words[0]]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, call


# What was tried

KEY = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""What every machine of this test's cluster knows."""


@contextmanager
def node(*options: str, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A raylet of its own, as `ray start` makes it on a machine."""
    process = ray_start(
        [*options, "--num-cpus=1", "--object-store-memory=100000000"],
        log=place / f"{time.monotonic()}.log",
        environment=os.environ | KEY | {"RAY_raylet_start_wait_time_s": "200"},
    )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        return found.getsockname()[1]


def mutant(*words: object, **variables: str) -> str:
    """`mutant` as a person calls it; what it prints."""
    command = [sys.executable, "-m", "mutant.cli.main", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | KEY | variables, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_raylets_postgresql_and_a_bucket(postgres: Server, tmp_path: Path) -> None:
    """A controller, `ray start --head` and `ray start --address`: the same path as of one worker alone. The controller
    alone knows the database and the bucket."""
    pytest.importorskip("obstore", reason="needs the extra 'cloud'")
    with bucket() as reaches_it:
        _two_raylets(postgres, tmp_path, reaches_it)


def _two_raylets(postgres: Server, tmp_path: Path, reaches_it: dict[str, str]) -> None:
    from ray._private.services import get_node_ip_address

    folder, temporary = write_folder(tmp_path / "data"), Path("/tmp") / f"mray{os.getpid()}"
    database, alone = postgres.new_database(), tmp_path / "alone.db"
    port, client = free_port(), free_port()
    root = ("--root", "random:vit-ti16", "--blocks", 1, "--image-size", 16)
    here = {"MUTANT_DB": database, **reaches_it}
    mutant("init", *root, "--blobs", "s3://bucket/mutant", "--inline-limit", 0, **here)
    mutant("init", *root, "--db", alone)
    address = f"{get_node_ip_address()}:{port}"
    head = ("--head", f"--port={port}", f"--ray-client-server-port={client}", "--include-dashboard=false",
            f"--temp-dir={temporary}")  # fmt: skip
    with node(*head, place=tmp_path):
        _wait_for(address)
        with node(f"--address={address}", place=tmp_path):
            _wait_for_nodes(address, 2)
            mutant("add", f"folder:{folder}", *QUICK, "--ray-address", address, "--workers", 2, **here)
            told = json.loads(mutant("report", "trace", "--out", tmp_path / "t.json", "--json", **here))
    mutant("add", f"folder:{folder}", *QUICK, "--workers", 1, "--db", alone)
    assert told["children"] == 2
    assert len(told["rows"]) == 2, "each raylet has one CPU, so both of them trained"
    verified = json.loads(mutant("verify", "--json", **here))
    assert verified["components_checked"] >= 5, "read from the bucket"
    answers = [json.loads(mutant("list", "--json", "--db", db, **reaches_it))[0] for db in (database, alone)]
    assert answers[0]["path"] == answers[1]["path"]
    assert answers[0]["test_accuracy"] == answers[1]["test_accuracy"]
    postgres.drop(database)


def _wait_for(address: str) -> None:
    host, _, port = address.partition(":")
    end = time.monotonic() + 200
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end, "the head did not start"
            time.sleep(0.2)


def _wait_for_nodes(address: str, number: int) -> None:
    script = (
        f"import ray; ray.init({address!r}, logging_level='ERROR', log_to_driver=False)\n"
        "print(sum(node['Alive'] for node in ray.nodes()))"
    )
    end = time.monotonic() + 200
    while True:
        command, environment = [sys.executable, "-c", script], os.environ | KEY
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.stdout.strip() == str(number):
            return
        assert time.monotonic() < end, done.stderr
