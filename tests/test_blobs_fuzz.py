"""Whatever happens to the file of a blob, reading it ends with the right arrays or with an error for people."""

from collections.abc import Iterator
from pathlib import Path as FilePath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import Place
from storage_samples import forward, grow, new_store

from mutant.component import content_digest
from mutant.path import Path
from mutant.storage.blobs.directory import Directory
from mutant.storage.blobs.placement import parse_size
from mutant.storage.refusals import Damaged
from mutant.storage.store import Store
from mutant.storage.verify import verify
from mutant.storage.weights import TRACE
from mutant.tasks.errors import UserError


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Path]]:
    """A grown system all of whose weights are files, and its task's path."""
    directory = tmp_path_factory.mktemp("good")
    with new_store(Place(str(directory / "mutant.db"), blobs=directory / "blobs", inline_limit=0), "a") as store:
        (winner,) = grow(store, "a")
        yield store, winner


def damaged(data: bytes, draw: st.DataObject) -> bytes:
    """`data` after one of the things that disks and people do."""
    at = draw.draw(st.integers(0, len(data)))
    match draw.draw(st.sampled_from(("flip", "cut", "zero", "insert", "other", "header"))):
        case "flip":
            changed = bytearray(data)
            changed[at % len(data)] ^= draw.draw(st.integers(1, 255))
            return bytes(changed)
        case "cut":
            return data[:at]
        case "zero":
            return data[:at] + bytes(len(data) - at)
        case "insert":
            return data[:at] + draw.draw(st.binary(min_size=1, max_size=20)) + data[at:]
        case "other":
            return draw.draw(st.binary(max_size=2 * len(data)))
        case _:  # a length of the header that is anything
            return draw.draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little") + data[8:]


@pytest.mark.slow
@settings(max_examples=1000)
@given(draw=st.data())
def test_a_damaged_blob_is_told_or_is_what_it_was(good: tuple[Store, Path], draw: st.DataObject) -> None:
    store, winner = good
    part = draw.draw(st.sampled_from(winner.parts))
    trace = part.trace is not None and draw.draw(st.booleans())
    digest = part.trace if trace and part.trace is not None else part.digest
    blobs = store.depot.blobs
    assert isinstance(blobs, Directory)
    file = blobs.base / blobs.key / digest[:2] / digest
    whole = file.read_bytes()
    changed = damaged(whole, draw)
    file.write_bytes(changed)
    try:
        if trace:
            arrays = store.trace(digest)
            assert content_digest(TRACE, arrays) == digest
        else:
            assert store.component(digest).digest == digest
        assert len(changed) == len(whole)
    except Damaged as error:
        assert "mutant verify" in str(error)
        assert changed != whole
        if not trace and draw.draw(st.integers(0, 19)) == 0:
            assert not verify(store, forward).ok
    finally:
        file.write_bytes(whole)


@given(st.text(max_size=12))
def test_a_size_is_a_number_or_refused(text: str) -> None:
    try:
        assert parse_size(text) >= 0
    except UserError as error:
        assert "64KiB" in str(error)


@given(st.integers(0, 10**6), st.sampled_from(["", "B", "kb", "KiB", " MiB", "GB"]))
def test_sizes_are_read_as_they_are_written(number: int, unit: str) -> None:
    factors = {"": 1, "b": 1, "kb": 1000, "kib": 1024, "mib": 1024**2, "gb": 1000**3}
    assert parse_size(f"{number}{unit}") == number * factors[unit.strip().lower()]


def test_a_broken_disk_is_an_error_for_people(tmp_path: FilePath) -> None:
    """A folder where the file of a blob belongs."""
    with new_store(Place(str(tmp_path / "mutant.db"), blobs=tmp_path / "blobs", inline_limit=0), "a") as store:
        (winner,) = grow(store, "a")
        blobs = store.depot.blobs
        assert isinstance(blobs, Directory)
        digest = winner.parts[-1].digest
        file = blobs.base / blobs.key / digest[:2] / digest
        file.unlink()
        file.mkdir()
        with pytest.raises(UserError, match="failed: Is a directory"):
            store.component(digest)
