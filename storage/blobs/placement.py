"""Where a system's weights lie: in its database up to a size, above it in a blob store beside."""

import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from sqlalchemy.engine import URL

from mutant.storage.blobs.directory import Directory
from mutant.storage.blobs.objects import Objects
from mutant.storage.blobs.protocol import Blobs, checked_key
from mutant.storage.url import database_file
from mutant.tasks.errors import UserError

INLINE_LIMIT = 64 * 2**20
"""Bytes above which weights leave a SQLite file where nothing else was said."""
NAMED_LIMIT = 2**20
"""Bytes above which weights go to a store that was named: about here a file becomes as fast as the database."""
LARGEST = {"sqlite": 10**9 - 2**20, "postgresql": 5 * 10**8}
"""Bytes of the largest value that a back end takes: a row of SQLite has 10^9, and PostgreSQL's answer in hex 2^30."""
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"(\d{1,18})\s*([a-z]*)", re.ASCII)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXAMPLES = "Name a directory, 's3://BUCKET/PREFIX' or 'gs://BUCKET/PREFIX'."


@dataclass(frozen=True)
class Placement:
    """What a system remembers of it: `blobs` None is a directory beside the SQLite file, `inline_limit` None the usual.

    A directory below the SQLite file's own is relative to it, so that both can be moved as a whole; other places are
    URLs (`file`, `s3`, `gs`). `blobs_key` names the system's own part of the store.
    """

    blobs: str | None = None
    inline_limit: int | None = None
    blobs_key: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True)
class Depot:
    """A placement at work: values up to `inline_limit` bytes go into the database, larger ones into `blobs`.

    `blobs` is None where there is no store: a PostgreSQL database without a named one.
    """

    blobs: Blobs | None
    inline_limit: int

    def takes(self, n_bytes: int) -> bool:
        """Whether weights of this size go into the store. Raises UserError when they should and there is none."""
        if n_bytes <= self.inline_limit:
            return False
        if self.blobs is None:
            raise UserError(
                f"A component has {n_bytes:,} bytes of weights; the database takes {self.inline_limit:,} at most.",
                hint="A system that has a store beside its database takes more: mutant init --blobs s3://BUCKET/PREFIX",
            )
        return True


def chosen(url: URL, blobs: str | os.PathLike[str] | None = None, inline_limit: int | str | None = None) -> Placement:
    """The placement of a new system in the database `url`: `blobs` is a directory or a URL, `inline_limit` a size.

    Raises UserError for what cannot be either, and for a limit that the back end has no room or use for.
    """
    back_end = url.get_backend_name()
    limit = None if inline_limit is None else parse_size(inline_limit)
    if limit is not None and limit > LARGEST[back_end]:
        raise UserError(
            f"The inline limit of {limit:,} bytes is more than {back_end} takes in one value: {LARGEST[back_end]:,}.",
            hint="Larger weights go to the blob store: name a smaller limit.",
        )
    if limit is not None and blobs is None and back_end != "sqlite":
        raise UserError(
            "An inline limit needs a blob store, and a server's database has none of its own.",
            hint="Name one with: --blobs DIR, --blobs s3://BUCKET/PREFIX or --blobs gs://BUCKET/PREFIX",
        )
    return Placement(None if blobs is None else _location(url, os.fspath(blobs)), limit)


def opened(placement: Placement, url: URL) -> Depot:
    """The placement of the system in the database `url`, at work; touches neither disk nor network.

    Raises ValueError for what `chosen` cannot have made.
    """
    back_end, key = url.get_backend_name(), checked_key(placement.blobs_key)
    usual = NAMED_LIMIT if placement.blobs is not None else INLINE_LIMIT if back_end == "sqlite" else LARGEST[back_end]
    limit = usual if placement.inline_limit is None else placement.inline_limit
    return Depot(_blobs(placement.blobs, key, url), min(limit, LARGEST[back_end]))


def _blobs(location: str | None, key: str, url: URL) -> Blobs | None:
    embedded = url.get_backend_name() == "sqlite"
    if location is None:
        if not embedded:
            return None
        file = database_file(url)
        return Directory(file.with_name(f"{file.name}.blobs"), key, lazy=True)
    parts = urlsplit(location)
    if parts.scheme in ("s3", "gs") and _BUCKET.fullmatch(parts.netloc):
        return Objects(location, key)
    if parts.scheme == "file" and parts.path.startswith("/"):
        return Directory(Path(unquote(parts.path)), key, lazy=False)
    relative = PurePosixPath(unquote(location))
    if embedded and "://" not in location and not relative.is_absolute() and ".." not in relative.parts:
        return Directory(database_file(url).parent / relative, key, lazy=False)
    raise ValueError(f"{location[:80]!r} is no place of weights")


def _location(url: URL, text: str) -> str:
    """`text` as a system remembers it."""
    scheme, separator, rest = text.partition("://")
    if not text.strip() or "\0" in text:
        raise UserError(f"The blob store's name {text!r} is empty or not a name.", hint=_EXAMPLES)
    if separator and scheme in ("s3", "gs"):
        bucket, _, prefix = rest.strip("/").partition("/")
        if not _BUCKET.fullmatch(bucket) or any(c in prefix for c in "?#\\") or "//" in prefix:
            raise UserError(f"The blob store '{text}' cannot be read.", hint=_EXAMPLES)
        return f"{scheme}://{bucket}/{prefix}".rstrip("/")
    if separator and scheme != "file":
        raise UserError(f"The blob store '{text}' has the unknown scheme '{scheme}'.", hint=_EXAMPLES)
    return _directory(url, text, Path(rest if separator else text))


def _directory(url: URL, text: str, path: Path) -> str:
    try:
        path = Path.cwd() / path.expanduser()
        taken = path.exists() and not path.is_dir()
    except (OSError, RuntimeError) as error:
        raise UserError(f"The blob store '{text}' cannot be a directory: {error}.", hint=_EXAMPLES) from error
    if taken or (url.get_backend_name() == "sqlite" and path == database_file(url)):
        raise UserError(f"The blob store '{text}' is a file.", hint=_EXAMPLES)
    path = Path(os.path.normpath(path))
    if url.get_backend_name() == "sqlite":
        beside = Path(os.path.normpath(database_file(url).parent))
        if path != beside and path.is_relative_to(beside):
            return quote(path.relative_to(beside).as_posix())
    return f"file://{quote(path.as_posix())}"


def parse_size(size: int | str) -> int:
    """Bytes in `64KiB`, `2MB`, `1 GiB` or a plain number. Raises UserError for anything else.

    >>> parse_size("64KiB"), parse_size("0")
    (65536, 0)
    """
    found = _SIZE.fullmatch(str(size).strip().lower())
    if isinstance(size, bool) or found is None or found[2] not in _UNITS:
        raise UserError(f"'{size}' is no number of bytes.", hint="Write for example 64KiB, 2MB or 0.")
    return int(found[1]) * _UNITS[found[2]]
