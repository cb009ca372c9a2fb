"""A blob store in S3, in what speaks its protocol, or in Google Cloud Storage, through the extra `cloud`.

Whose credentials these are, the usual environment variables say (`AWS_ACCESS_KEY_ID`, `GOOGLE_APPLICATION_CREDENTIALS`
and so on). A put of an object is whole or not at all by itself.
"""

import os
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from mutant.storage.blobs.protocol import blob_name
from mutant.tasks.errors import UserError, missing_extra

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_OURS = re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}")
CONNECT_SECONDS, ANSWER_SECONDS, RETRY_SECONDS, RETRIES = 5, 300, 60, 3


@dataclass(frozen=True)
class Objects:
    """Blobs under `url/key`, where `url` is `s3://BUCKET/PREFIX` or `gs://BUCKET/PREFIX`."""

    url: str
    key: str

    @property
    def where(self) -> str:
        return self.url

    @cached_property
    def _store(self) -> "ObjectStore":
        from obstore.store import from_url

        # Who names an endpoint of plain HTTP means it.
        plain = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", "")).startswith("http://")
        return from_url(
            f"{self.url}/{self.key}",
            client_options={
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "timeout": timedelta(seconds=ANSWER_SECONDS),
                "allow_http": plain,
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
        )

    def prepare(self) -> None:
        """Write a probe and delete it: only so is it known that the bucket is there and may be written."""
        with self._explained():
            self._store.put("probe", b"mutant")
            self._store.delete("probe")

    def put(self, digest: str, data: bytes) -> None:
        with self._explained():
            self._store.put(blob_name(digest), data)

    def get(self, digest: str) -> bytes | None:
        with self._explained():
            try:
                return bytes(self._store.get(blob_name(digest)).bytes())
            except FileNotFoundError as error:
                return _absent(error)

    def size(self, digest: str) -> int | None:
        with self._explained():
            try:
                return self._store.head(blob_name(digest))["size"]
            except FileNotFoundError as error:
                return _absent(error)

    def names(self) -> Iterator[tuple[str, int]]:
        with self._explained():
            for some in self._store.list():  # pyright: ignore[reportUnknownMemberType]
                yield from ((meta["path"], meta["size"]) for meta in some if _OURS.fullmatch(meta["path"]))

    def delete(self, names: Iterable[str]) -> None:
        wanted = list(names)
        if wanted:
            with self._explained():
                self._store.delete(wanted)

    def clear(self) -> None:
        self.delete([name for name, _ in self.names()])

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Turn the faults of a service into errors for people, and a missing library into one that names its extra."""
        try:
            from obstore.exceptions import BaseError
        except ImportError as error:
            raise missing_extra("obstore", "cloud") from error
        try:
            yield
        except UserError:
            raise
        except (BaseError, OSError) as error:
            raise UserError(
                f"The weights in '{self.url}' cannot be reached ({_reason(str(error))}).",
                hint="Check the bucket's name, the credentials in the environment and the network; then go on: "
                "mutant resume",
            ) from error


def _absent(error: FileNotFoundError) -> None:
    """A missing object is an answer; a missing bucket is a fault."""
    if "NoSuchBucket" in str(error):
        raise error


def _reason(text: str) -> str:
    """The service's own words out of a library's long report, or the innermost cause."""
    told = re.search(r"<Code>(\w+)</Code>(?:<Message>([^<]*)</Message>)?", text)
    if told is not None:
        return ": ".join(part for part in told.groups() if part)
    cause = re.findall(r'message: "([^"]+)"', text)
    first = text.partition("\n")[0]
    said = first.partition(": ")[2] or first
    return f"{said}: {cause[-1]}" if cause and cause[-1] not in said else said
